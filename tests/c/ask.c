/*
 * Asks once, by the configuration in the first argument; with a second argument, as a stream.
 * Prints the answer, or the error's type and message, and how long the call took in milliseconds.
 */
#include <time.h>

#include "host.h"

static int32_t go_on(const char *text, size_t len, void *context)
{
    (void)text;
    ++*(size_t *)context;
    return len > 0 ? AUDIT_CONTINUE : 0;
}

int main(int argc, char **argv)
{
    AuditLogger *logger = NULL;
    AuditReply *reply = NULL;
    AuditChatRequest request = a_request();
    AuditStatus status;
    struct timespec began, ended;
    size_t deltas = 0;

    CHECK(argc >= 2);
    status = audit_logger_new(argv[1], &logger, &reply);
    if (status == AUDIT_OK) {
        audit_reply_free(reply);
        if (argc > 2) {
            request.on_delta = go_on;
            request.context = &deltas;
        }
        clock_gettime(CLOCK_MONOTONIC, &began);
        status = audit_chat(logger, &request, &reply);
        clock_gettime(CLOCK_MONOTONIC, &ended);
        fprintf(stderr, "%ld\n",
                (ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000);
    }
    if (status == AUDIT_OK) {
        printf("%s\n", audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL));
    } else {
        printf("%s: %s\n", audit_reply_text(reply, AUDIT_REPLY_ERROR_TYPE, NULL),
               audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
    }
    audit_reply_free(reply);
    audit_log_free(logger);
    return 0;
}
