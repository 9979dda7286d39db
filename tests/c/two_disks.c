/*
 * Runs with one log on a disk that confirms nothing until it's told to, and another on one that does.
 * Arguments: the first log's directory, the second's, the base URL of a server.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host.h"

static const char *slow_path;
static int hangs, asked, done;

/* In place of the C library's. */
int fdatasync(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    while (__atomic_load_n(&hangs, __ATOMIC_SEQ_CST)) {
        ssize_t length = readlink(link, path, sizeof path - 1);
        CHECK(length > 0);
        path[length] = '\0';
        if (strncmp(path, slow_path, strlen(slow_path)) != 0)
            break;
        __atomic_store_n(&asked, 1, __ATOMIC_SEQ_CST);
        usleep(1000);
    }
    return (int)syscall(SYS_fdatasync, file);
}

static void *flush(void *logger)
{
    EXPECT(audit_logger_flush(logger, -1, &reply), AUDIT_OK, "");
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv)
{
    AuditLogger *slow, *fast, *third;
    AuditRecord record = a_record();
    AuditChatRequest request = a_request();
    pthread_t thread;
    int i;

    CHECK(argc == 4);
    /* What waits for the first disk now would wait for ever. */
    alarm(60);
    slow = logger_for(argv[1], argv[3]);
    fast = logger_for(argv[2], argv[3]);
    slow_path = realpath(argv[1], NULL);
    CHECK(slow_path != NULL);
    EXPECT(audit_logger_log(slow, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_log(fast, &record, &reply), AUDIT_OK, "");
    __atomic_store_n(&hangs, 1, __ATOMIC_SEQ_CST);
    CHECK(pthread_create(&thread, NULL, flush, slow) == 0);
    while (!__atomic_load_n(&asked, __ATOMIC_SEQ_CST))
        usleep(1000);
    for (i = 0; i < 5; i++) {
        EXPECT(audit_logger_log(fast, &record, &reply), AUDIT_OK, "");
        EXPECT(audit_chat(fast, &request, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_flush(fast, 30000, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_stats(fast, &reply), AUDIT_OK, "");
    }
    /* Another one is opened and closed meanwhile. */
    third = logger_for(argv[2], argv[3]);
    EXPECT(audit_logger_close(third, 30000, &reply), AUDIT_OK, "");
    audit_log_free(third);
    CHECK(!__atomic_load_n(&done, __ATOMIC_SEQ_CST));
    __atomic_store_n(&hangs, 0, __ATOMIC_SEQ_CST);
    CHECK(pthread_join(thread, NULL) == 0);
    audit_log_free(slow);
    audit_log_free(fast);
    return 0;
}
