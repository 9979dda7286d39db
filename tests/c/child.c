/*
 * A child of fork has none of the library's descriptors, and works. Arguments: the log's directory,
 * the base URL; "idle": the child only waits, and the parent is to be killed.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

static int open_descriptors(void)
{
    int fd, count = 0;
    for (fd = 3; fd < 1024; fd++) {
        char path[64], target[256];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, target, sizeof target) > 0)
            count++;
    }
    return count;
}

int main(int argc, char **argv)
{
    int before, status = 0;
    AuditLogger *logger;
    AuditCancel *cancel;
    AuditPending *pending;
    AuditChatRequest request = a_request();
    AuditRecord record = a_record();
    pid_t child;

    CHECK(argc >= 3);
    alarm(60);
    before = open_descriptors();
    logger = logger_for(argv[1], argv[2]);
    CHECK(audit_cancel_new(&cancel) == AUDIT_OK);
    request.cancel = cancel;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_begin(logger, &record, &pending, &reply), AUDIT_OK, "");
    CHECK(open_descriptors() > before);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (argc > 3) {
            alarm(20);
            pause();
            _exit(0);
        }
        CHECK(open_descriptors() == before);
        EXPECT(audit_logger_finish(pending, &record, &reply), AUDIT_E_FORKED, "the parent");
        EXPECT(audit_logger_finish(pending, &record, &reply), AUDIT_E_HANDLE, "");
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
        audit_cancel_free(cancel);
        audit_log_free(logger);
        CHECK(open_descriptors() == before);
        _exit(0);
    }
    if (argc > 3) {
        printf("%ld\n", (long)child);
        fflush(stdout);
        raise(SIGKILL);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT(audit_logger_finish(pending, &record, &reply), AUDIT_OK, "");
    audit_cancel_free(cancel);
    audit_log_free(logger);
    CHECK(open_descriptors() == before);
    return 0;
}
