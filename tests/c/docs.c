/* Calls the functions of docs/c-api.md. The argument is the configuration. */
#include "host.h"

AuditStatus ask(AuditLogger *logger, const char *prompt, AuditCancel *cancel);
AuditStatus ask_until(AuditLogger *logger, void (*start_thread)(AuditCancel *));
AuditStatus ask_otherwise(AuditLogger *logger, const char *prompt, const char *(*client)(const char *));

static const char *repeats(const char *prompt)
{
    return prompt;
}

static const char *fails(const char *prompt)
{
    (void)prompt;
    return NULL;
}

int main(int argc, char **argv)
{
    AuditLogger *logger;
    CHECK(argc == 2);
    CHECK(audit_logger_new(argv[1], &logger, NULL) == AUDIT_OK);
    CHECK(ask(logger, "Why is the sky blue?", NULL) == AUDIT_OK);
    /* Cancelled before it begins, a call leaves no entry. */
    CHECK(ask_until(logger, audit_cancel_trigger) == AUDIT_E_CANCELLED);
    CHECK(ask_otherwise(logger, "Why?", repeats) == AUDIT_OK);
    CHECK(ask_otherwise(logger, "Why?", fails) == AUDIT_OK);
    CHECK(audit_logger_close(logger, 5000, NULL) == AUDIT_OK);
    audit_log_free(logger);
    return 0;
}
