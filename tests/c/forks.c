/*
 * Forks before, between and inside calls; each side calls on its own. Arguments: the log's
 * directory, the base URL of a server that streams, how many rounds.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger;
static pid_t child;

static int32_t fork_once(const char *text, size_t len, void *context)
{
    (void)text;
    (void)len;
    if (*(int *)context == 0) {
        *(int *)context = 1;
        child = fork();
        CHECK(child >= 0);
    }
    return AUDIT_CONTINUE;
}

static void call(const char *prompt)
{
    AuditChatRequest request = a_request();
    AuditReply *reply = NULL;

    request.prompt = audit_text(prompt);
    CHECK(audit_chat(logger, &request, &reply) == AUDIT_OK);
    /* The server repeats the prompt: never another's answer. */
    CHECK(strcmp(audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL), prompt) == 0);
    audit_reply_free(reply);
}

static void wait_for_child(void)
{
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
    int rounds, i;

    CHECK(argc == 4);
    rounds = atoi(argv[3]);
    logger = logger_for(argv[1], argv[2]);
    call("first");
    for (i = 0; i < rounds; i++) {
        char ours[32], theirs[32];
        snprintf(ours, sizeof ours, "parent %d", i);
        snprintf(theirs, sizeof theirs, "child %d", i);
        child = fork();
        CHECK(child >= 0);
        call(child == 0 ? theirs : ours);
        if (child == 0) {
            audit_log_free(logger);
            _exit(0);
        }
        wait_for_child();
    }

    {
        /* A cancel is the business of the process that made it. */
        AuditChatRequest request = a_request();
        AuditCancel *cancel;

        CHECK(audit_cancel_new(&cancel) == AUDIT_OK);
        request.cancel = cancel;
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_HANDLE, "before a fork");
            audit_cancel_trigger(cancel);
            audit_cancel_free(cancel);
            _exit(0);
        }
        wait_for_child();
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
        audit_cancel_free(cancel);
    }

    {
        AuditChatRequest request = a_request();
        AuditReply *reply = NULL;
        AuditStatus status;
        int forked = 0;

        request.on_delta = fork_once;
        request.context = &forked;
        status = audit_chat(logger, &request, &reply);
        if (child == 0) {
            CHECK(status == AUDIT_E_FORKED);
            audit_reply_free(reply);
            call("child after the callback");
            _exit(0);
        }
        CHECK(status == AUDIT_OK);
        CHECK(strcmp(audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL), "hello") == 0);
        audit_reply_free(reply);
        wait_for_child();
    }
    call("last");
    audit_log_free(logger);
    return 0;
}
