/*
 * Forks before, between, during and inside calls; each side calls on its own. Arguments: the log's
 * directory, the base URL of a server that streams, how many rounds, further members of the
 * configuration. Prints how many calls it made.
 */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger;
static pid_t child;
static int calls, done;

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
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
}

/* So that forks fall into calls. */
static void *call_all_the_time(void *unused)
{
    int i;
    for (i = 0; !__atomic_load_n(&done, __ATOMIC_SEQ_CST); i++) {
        char prompt[32];
        snprintf(prompt, sizeof prompt, "thread %d", i);
        call(prompt);
    }
    return unused;
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
    pthread_t thread;

    CHECK(argc == 5);
    alarm(60);
    rounds = atoi(argv[3]);
    logger = logger_with(config_with(argv[1], argv[2], argv[4]));
    call("first");
    CHECK(pthread_create(&thread, NULL, call_all_the_time, NULL) == 0);
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
        __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    CHECK(pthread_join(thread, NULL) == 0);

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
        calls++;
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
        calls += 2;
    }
    call("last");
    audit_log_free(logger);
    printf("%d\n", calls);
    return 0;
}
