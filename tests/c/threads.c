/*
 * One handle, 64 threads, `count` records and `calls` calls each; small stacks.
 * Arguments: the log's directory, the server's base URL, records and calls of each thread.
 */
#include <pthread.h>

#include "host.h"

enum { THREADS = 64, STACK = 128 * 1024 };

static AuditLogger *logger;
static int records;
static int calls;

static void *work(void *unused)
{
    AuditRecord record = a_record();
    AuditChatRequest request = a_request();
    int i;

    for (i = 0; i < records; i++) {
        CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_OK);
    }
    for (i = 0; i < calls; i++) {
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    pthread_attr_t attributes;
    int i;

    CHECK(argc == 5);
    records = atoi(argv[3]);
    calls = atoi(argv[4]);
    logger = logger_for(argv[1], argv[2]);
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, STACK) == 0);
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], &attributes, work, NULL) == 0);
    }
    for (i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    pthread_attr_destroy(&attributes);
    audit_log_free(logger);
    return 0;
}
