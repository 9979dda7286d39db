/*
 * Runs on a disk that confirms nothing until it's told to. Arguments: the log's directory, the base URL of a
 * server.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host.h"

static int hangs, asked, done;

/* In place of the C library's. */
int fdatasync(int file)
{
    __atomic_add_fetch(&asked, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&hangs, __ATOMIC_SEQ_CST))
        usleep(1000);
    return (int)syscall(SYS_fdatasync, file);
}

static void hang(int whether)
{
    __atomic_store_n(&hangs, whether, __ATOMIC_SEQ_CST);
}

static void *flush(void *logger)
{
    EXPECT(audit_logger_flush(logger, -1, &reply), AUDIT_OK, "");
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *log_one(void *logger)
{
    AuditRecord record = a_record();
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Starts a thread that waits for the disk. */
static pthread_t start(void *(*work)(void *), AuditLogger *logger)
{
    pthread_t thread;
    int before = __atomic_load_n(&asked, __ATOMIC_SEQ_CST);
    done = 0;
    hang(1);
    CHECK(pthread_create(&thread, NULL, work, logger) == 0);
    while (__atomic_load_n(&asked, __ATOMIC_SEQ_CST) == before)
        usleep(1000);
    return thread;
}

/* It waits still, until the disk goes on. */
static void join(pthread_t thread)
{
    CHECK(!__atomic_load_n(&done, __ATOMIC_SEQ_CST));
    hang(0);
    CHECK(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv)
{
    AuditLogger *logger;
    AuditRecord record = a_record();
    AuditChatRequest request = a_request();
    pthread_t thread;
    char other[1024];
    int i;

    CHECK(argc == 3);
    /* What waits for the disk now would wait for ever. */
    alarm(60);
    /* What sealing waits for is waited for one after the other. */
    logger = logger_with(config_with(argv[1], argv[2], ", \"integrity\": false"));
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    thread = start(flush, logger);
    for (i = 0; i < 20; i++) {
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_stats(logger, &reply), AUDIT_OK, "");
    }
    join(thread);

    /* Who waits no longer than that needn't; what comes after it is confirmed. */
    hang(1);
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_flush(logger, 0, &reply), AUDIT_E_TIMEOUT, "the disk");
    EXPECT(audit_logger_flush(logger, 300, &reply), AUDIT_E_TIMEOUT, "the disk");
    hang(0);
    EXPECT(audit_logger_flush(logger, 30000, &reply), AUDIT_OK, "");
    i = asked;
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_close(logger, 0, &reply), AUDIT_OK, "");
    CHECK(asked > i);
    audit_log_free(logger);

    /* The same for an entry that waits for the disk. */
    snprintf(other, sizeof other, "%s-disk", argv[1]);
    logger = logger_with(config_with(other, argv[2], ", \"durability\": \"disk\""));
    thread = start(log_one, logger);
    for (i = 0; i < 20; i++) {
        EXPECT(audit_logger_stats(logger, &reply), AUDIT_OK, "");
    }
    join(thread);
    audit_log_free(logger);
    return 0;
}
