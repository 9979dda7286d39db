/*
 * A signal handler ends a call. Arguments: the log's directory, the base URL of a server that
 * never answers.
 */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "host.h"

static AuditCancel *cancel;
static AuditLogger *logger;
static pthread_t caller;

static void on_signal(int signal)
{
    (void)signal;
    audit_cancel_trigger(cancel);
}

static void *interrupt(void *unused)
{
    until_running(logger, 1);
    /* And waits for the answer. */
    usleep(100 * 1000);
    CHECK(pthread_kill(caller, SIGUSR1) == 0);
    return unused;
}

int main(int argc, char **argv)
{
    AuditChatRequest request = a_request();
    struct sigaction action;
    pthread_t thread;

    CHECK(argc == 3);
    alarm(60);
    caller = pthread_self();
    logger = logger_for(argv[1], argv[2]);
    CHECK(audit_cancel_new(&cancel) == AUDIT_OK);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    request.cancel = cancel;
    CHECK(pthread_create(&thread, NULL, interrupt, NULL) == 0);
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_CANCELLED, "cancelled");
    CHECK(pthread_join(thread, NULL) == 0);
    audit_cancel_free(cancel);
    audit_log_free(logger);
    return 0;
}
