/*
 * Calls from an exit handler, when the thread's own destructors have run; a file size limit of
 * nothing while the logger is made; a cancelled thread that meets a limit. Arguments: the log's
 * directory, a server's base URL.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "host.h"

static AuditLogger *logger;

static void at_exit(void)
{
    AuditChatRequest request = a_request();
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_close(logger, 1000, &reply), AUDIT_OK, "");
    audit_log_free(logger);
}

static void *log_beyond_the_limit(void *unused)
{
    AuditRecord record = a_record();
    pthread_cancel(pthread_self());
    CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_E_LOG);
    return unused;
}

int main(int argc, char **argv)
{
    AuditChatRequest request = a_request();
    AuditLogger *none = NULL;
    struct rlimit limit, nothing;
    pthread_t thread;
    char other[1024];

    CHECK(argc == 3);
    logger = logger_for(argv[1], argv[2]);
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");

    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    nothing = limit;
    nothing.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_FSIZE, &nothing) == 0);
    snprintf(other, sizeof other, "%s-other", argv[1]);
    EXPECT(audit_logger_new(config_for(other, argv[2]), &none, &reply), AUDIT_E_LOG, "too large");
    CHECK(pthread_create(&thread, NULL, log_beyond_the_limit, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);

    CHECK(atexit(at_exit) == 0);
    return 0;
}
