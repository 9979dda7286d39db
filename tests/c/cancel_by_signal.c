/*
 * A signal handler ends a call. Arguments: the log's directory, the base URL of a server that
 * never answers.
 */
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

static AuditCancel *cancel;

static void on_alarm(int signal)
{
    (void)signal;
    audit_cancel_trigger(cancel);
}

int main(int argc, char **argv)
{
    AuditLogger *logger;
    AuditChatRequest request = a_request();
    struct sigaction action;
    struct timespec began, ended;

    CHECK(argc == 3);
    logger = logger_for(argv[1], argv[2]);
    CHECK(audit_cancel_new(&cancel) == AUDIT_OK);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    alarm(1);
    request.cancel = cancel;
    clock_gettime(CLOCK_MONOTONIC, &began);
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_CANCELLED, "cancelled");
    clock_gettime(CLOCK_MONOTONIC, &ended);
    CHECK(ended.tv_sec - began.tv_sec < 10);
    audit_cancel_free(cancel);
    audit_log_free(logger);
    return 0;
}
