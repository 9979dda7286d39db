/*
 * Relative paths mean what they meant to audit_logger_new, wherever the process or a child of it goes
 * later. Arguments: the directory to begin in, which holds the file "key"; one to move to; the base URL.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger_at(const char *log, const char *base_url)
{
    char config[1024];
    snprintf(config, sizeof config,
             "{\"output_path\": \"%s\", \"base_url\": \"%s\", \"api_key_file\": \"key\","
             " \"max_retries\": 0, \"integrity\": {\"guard_file\": \"%s.guard\"}}",
             log, base_url, log);
    return logger_with(config);
}

/* Three entries: of a call, a record, and a call of the host's own. */
static void use(AuditLogger *logger)
{
    AuditChatRequest request = a_request();
    AuditRecord record = a_record();
    AuditPending *pending = NULL;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_begin(logger, &record, &pending, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_finish(pending, &record, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_flush(logger, 20000, &reply), AUDIT_OK, "");
}

int main(int argc, char **argv)
{
    AuditLogger *used, *first_used_in_child;
    int status = 0;
    pid_t child;

    CHECK(argc == 4);
    alarm(60);
    CHECK(chdir(argv[1]) == 0);
    used = logger_at("used", argv[3]);
    first_used_in_child = logger_at("unused", argv[3]);

    CHECK(chdir("/") == 0);
    use(used);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(chdir(argv[2]) == 0);
        use(first_used_in_child);
        use(used);
        EXPECT(audit_logger_close(first_used_in_child, 20000, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_close(used, 20000, &reply), AUDIT_OK, "");
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(chdir(argv[2]) == 0);
    use(used);
    EXPECT(audit_logger_close(used, 20000, &reply), AUDIT_OK, "");
    audit_log_free(first_used_in_child);
    audit_log_free(used);
    return 0;
}
