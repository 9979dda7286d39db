/*
 * What the host's thread looks like after a call: as before. And what the host survives: a
 * cancelled thread, a file size limit, streams that are closed.
 * Arguments: the log's directory, the base URL of a server that answers when it's told, how the
 * names of the files begin that tell it.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger;
static const char *go;
static int finished;

static void mask_and_errno(void)
{
    AuditRecord record = a_record();
    AuditChatRequest request = a_request();
    sigset_t before, after, blocked;
    int signal, round;

    for (round = 0; round < 2; round++) {
        sigemptyset(&blocked);
        sigaddset(&blocked, round ? SIGPIPE : SIGUSR1);
        pthread_sigmask(SIG_SETMASK, &blocked, NULL);
        pthread_sigmask(SIG_SETMASK, NULL, &before);
        have_answered(go, round);
        errno = 42;
        CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_OK);
        CHECK(errno == 42);
        CHECK(audit_logger_log(NULL, &record, NULL) == AUDIT_E_HANDLE);
        CHECK(audit_logger_new("{\"output_path\": \"/dev/null/x\"}", &(AuditLogger *){NULL}, NULL)
              == AUDIT_E_LOG);
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
        CHECK(errno == 42);
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        for (signal = 1; signal < 32; signal++) {
            CHECK(sigismember(&before, signal) == sigismember(&after, signal));
        }
    }
    sigemptyset(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
}

static void *call_and_finish(void *unused)
{
    AuditChatRequest request = a_request();
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    finished = 1;
    pthread_testcancel();
    finished = 2;
    return unused;
}

/* The call ends as if nothing were; the cancellation acts after it. */
static void cancelled_thread(void)
{
    pthread_t thread;
    void *result = NULL;

    CHECK(pthread_create(&thread, NULL, call_and_finish, NULL) == 0);
    until_running(logger, 1);
    CHECK(pthread_cancel(thread) == 0);
    have_answered(go, 2);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(finished == 1);
}

/* With SIGXFSZ at its default action, which ends the process. */
static void file_size_limit(void)
{
    AuditRecord record = a_record();
    struct rlimit limit, small;
    sigset_t pending;
    int i;

    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    small = limit;
    small.rlim_cur = 64 * 1024;
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    for (i = 0; i < 1000; i++) {
        if (audit_logger_log(logger, &record, NULL) != AUDIT_OK) {
            break;
        }
    }
    CHECK(i < 1000);
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_LOG, "audit_");
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGXFSZ));
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    alarm(60);
    go = argv[3];
    logger = logger_for(argv[1], argv[2]);
    mask_and_errno();
    cancelled_thread();
    file_size_limit();

    /* Nothing is ever written to these, so that they may be closed. */
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    {
        AuditRecord record = a_record();
        AuditReply *reply = NULL;
        CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_OK);
        CHECK(audit_logger_new("{\"nope\": 1}", &(AuditLogger *){NULL}, &reply) == AUDIT_E_CONFIG);
        audit_reply_free(reply);
    }
    audit_log_free(logger);
    return 0;
}
