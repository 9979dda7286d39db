/*
 * Freeing and closing while other threads are inside calls.
 * Arguments: the log's directory, the base URL of a server that answers when it's told, and of one
 * that never answers; how the names of the files begin that tell the first, and the file by which the
 * second says that it was asked.
 */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *one_call(void *wanted)
{
    AuditChatRequest request = a_request();
    AuditReply *reply = NULL;
    AuditStatus status = audit_chat(logger, &request, &reply);

    if (status != *(AuditStatus *)wanted) {
        fprintf(stderr, "%s: %s\n", audit_status_name(status),
                audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
        exit(1);
    }
    CHECK(audit_reply_text(reply, AUDIT_REPLY_ENTRY, NULL) != NULL);
    audit_reply_free(reply);
    return NULL;
}

static pthread_t start(AuditStatus *wanted)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, one_call, wanted) == 0);
    until_running(logger, 1);
    return thread;
}

static const char *go;

static void *have_the_second_answered(void *unused)
{
    /* Somebody closes meanwhile. */
    usleep(200 * 1000);
    have_answered(go, 1);
    return unused;
}

int main(int argc, char **argv)
{
    AuditStatus ok = AUDIT_OK;
    AuditStatus cancelled = AUDIT_E_CANCELLED;
    AuditRecord record = a_record();
    pthread_t thread, teller;
    double began;

    CHECK(argc == 6);
    alarm(60);
    go = argv[4];

    /* A call that runs finishes, though its logger is freed. */
    logger = logger_for(argv[1], argv[2]);
    thread = start(&ok);
    audit_log_free(logger);
    CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_E_HANDLE);
    have_answered(go, 0);
    CHECK(pthread_join(thread, NULL) == 0);

    /* Closing waits for it. */
    logger = logger_for(argv[1], argv[2]);
    thread = start(&ok);
    CHECK(pthread_create(&teller, NULL, have_the_second_answered, NULL) == 0);
    EXPECT(audit_logger_close(logger, -1, &reply), AUDIT_OK, "");
    CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_E_HANDLE);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_join(teller, NULL) == 0);
    audit_log_free(logger);

    /* When the time is up, it's cancelled, and its entry is written. */
    logger = logger_for(argv[1], argv[3]);
    thread = start(&cancelled);
    while (access(argv[5], F_OK) != 0)
        usleep(1000);
    began = now();
    EXPECT(audit_logger_close(logger, 200, &reply), AUDIT_E_TIMEOUT, "the time was up: 1");
    CHECK(now() - began < 5.0);
    CHECK(pthread_join(thread, NULL) == 0);
    audit_log_free(logger);
    return 0;
}
