/*
 * Runs on a disk that takes two seconds to confirm anything. Arguments: the log's directory, the base
 * URL of a server.
 */
#include <pthread.h>
#include <unistd.h>

#include "host.h"

static int done;

static void *flush(void *logger)
{
    double began = seconds();
    EXPECT(audit_logger_flush(logger, -1, &reply), AUDIT_OK, "");
    CHECK(seconds() - began > 1.5);
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *log_one(void *logger)
{
    AuditRecord record = a_record();
    double began = seconds();
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    CHECK(seconds() - began > 1.5);
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Starts a thread that is to wait for the disk. */
static pthread_t start(void *(*work)(void *), AuditLogger *logger)
{
    pthread_t thread;
    done = 0;
    CHECK(pthread_create(&thread, NULL, work, logger) == 0);
    usleep(300 * 1000);
    return thread;
}

/* It must wait still. */
static void join(pthread_t thread)
{
    CHECK(!__atomic_load_n(&done, __ATOMIC_SEQ_CST));
    CHECK(pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv)
{
    AuditLogger *logger;
    AuditRecord record = a_record();
    AuditChatRequest request = a_request();
    pthread_t thread;
    char other[1024];
    double began;
    int i;

    CHECK(argc == 3);
    alarm(60);
    /* What sealing waits for is waited for one after the other. */
    logger = logger_with(config_with(argv[1], argv[2], ", \"integrity\": false"));
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    thread = start(flush, logger);
    began = seconds();
    for (i = 0; i < 20; i++) {
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_stats(logger, &reply), AUDIT_OK, "");
    }
    CHECK(seconds() - began < 1);
    join(thread);

    /* Who waits no longer than that needn't; what comes after it is confirmed. */
    began = seconds();
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_flush(logger, 0, &reply), AUDIT_E_TIMEOUT, "the disk");
    EXPECT(audit_logger_flush(logger, 300, &reply), AUDIT_E_TIMEOUT, "the disk");
    CHECK(seconds() - began < 1);
    EXPECT(audit_logger_flush(logger, 30000, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_flush(logger, 300, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_close(logger, 0, &reply), AUDIT_OK, "");
    CHECK(seconds() - began > 3);
    audit_log_free(logger);

    /* The same for an entry that waits for the disk. */
    snprintf(other, sizeof other, "%s-disk", argv[1]);
    logger = logger_with(config_with(other, argv[2], ", \"durability\": \"disk\""));
    thread = start(log_one, logger);
    began = seconds();
    for (i = 0; i < 20; i++) {
        EXPECT(audit_logger_stats(logger, &reply), AUDIT_OK, "");
    }
    CHECK(seconds() - began < 1);
    join(thread);
    audit_log_free(logger);
    return 0;
}
