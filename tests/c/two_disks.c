/*
 * Runs with one log on a disk that takes three seconds to confirm anything, and another on one that takes
 * no time. Arguments: the first log's directory, the second's, the base URL of a server.
 */
#include <pthread.h>
#include <unistd.h>

#include "host.h"

static int done;

static void *flush(void *logger)
{
    double began = seconds();
    EXPECT(audit_logger_flush(logger, -1, &reply), AUDIT_OK, "");
    CHECK(seconds() - began > 2.5);
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(int argc, char **argv)
{
    AuditLogger *slow, *fast, *third;
    AuditRecord record = a_record();
    AuditChatRequest request = a_request();
    pthread_t thread;
    double began;
    int i;

    CHECK(argc == 4);
    alarm(120);
    slow = logger_for(argv[1], argv[3]);
    fast = logger_for(argv[2], argv[3]);
    EXPECT(audit_logger_log(slow, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_log(fast, &record, &reply), AUDIT_OK, "");
    CHECK(pthread_create(&thread, NULL, flush, slow) == 0);
    usleep(300 * 1000);
    began = seconds();
    for (i = 0; i < 5; i++) {
        EXPECT(audit_logger_log(fast, &record, &reply), AUDIT_OK, "");
        EXPECT(audit_chat(fast, &request, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_flush(fast, 2000, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_stats(fast, &reply), AUDIT_OK, "");
    }
    /* Another one is opened and closed meanwhile. */
    third = logger_for(argv[2], argv[3]);
    EXPECT(audit_logger_close(third, 1000, &reply), AUDIT_OK, "");
    audit_log_free(third);
    CHECK(seconds() - began < 2);
    CHECK(!__atomic_load_n(&done, __ATOMIC_SEQ_CST));
    CHECK(pthread_join(thread, NULL) == 0);
    audit_log_free(slow);
    audit_log_free(fast);
    return 0;
}
