/*
 * A host with one thread that polls: a hundred streams at once, and a fork amid them. Arguments: the
 * log's directory, the base URL.
 */
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

#define CALLS 100

static const char request[] =
    "{\"user_id\": \"user-1\", \"prompt\": \"one two three\", \"stream\": true}";

static void submit(AuditQueue *queue, uint64_t tag)
{
    EXPECT(audit_queue_submit(queue, request, sizeof request - 1, tag, &reply), AUDIT_OK, "");
}

/* Polls until so many calls are over, and takes each event that there is. */
static void finish(AuditQueue *queue, int calls)
{
    struct pollfd polled;
    polled.fd = audit_queue_fd(queue);
    polled.events = POLLIN;
    CHECK(polled.fd >= 0 && polled.fd == audit_queue_fd(queue));
    while (calls > 0) {
        AuditReply *event;
        CHECK(poll(&polled, 1, 20000) == 1);
        while (audit_queue_next(queue, 0, &event) == AUDIT_OK) {
            if (audit_reply_int(event, AUDIT_REPLY_EVENT) == AUDIT_EVENT_DONE) {
                CHECK(audit_reply_int(event, AUDIT_REPLY_STATUS) == AUDIT_OK);
                calls--;
            }
            audit_reply_free(event);
        }
        audit_reply_free(event);
    }
    CHECK(poll(&polled, 1, 0) == 0);
}

static AuditQueue *queue_of(AuditLogger *logger)
{
    AuditQueue *queue;
    EXPECT(audit_queue_new(logger, NULL, &queue, &reply), AUDIT_OK, "");
    return queue;
}

int main(int argc, char **argv)
{
    AuditLogger *logger;
    AuditQueue *queue;
    pid_t child;
    int status = 0;
    uint64_t tag;

    CHECK(argc == 3);
    alarm(60);
    logger = logger_for(argv[1], argv[2]);
    queue = queue_of(logger);
    for (tag = 0; tag < CALLS / 2; tag++)
        submit(queue, tag);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        AuditQueue *own;
        EXPECT(audit_queue_submit(queue, request, sizeof request - 1, 1, &reply), AUDIT_E_FORKED,
               "the parent's");
        EXPECT(audit_queue_next(queue, -1, &reply), AUDIT_E_FORKED, "the parent's");
        EXPECT(audit_queue_cancel(queue, 1, &reply), AUDIT_E_FORKED, "the parent's");
        CHECK(audit_queue_fd(queue) == -1);
        audit_queue_free(queue);
        EXPECT(audit_queue_next(queue, -1, &reply), AUDIT_E_HANDLE, "freed");
        own = queue_of(logger);
        submit(own, 1);
        finish(own, 1);
        audit_queue_free(own);
        audit_log_free(logger);
        _exit(0);
    }
    for (; tag < CALLS; tag++)
        submit(queue, tag);
    finish(queue, CALLS);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    audit_queue_free(queue);
    audit_log_free(logger);
    return 0;
}
