/*
 * A panic within audit_chat (the library is built with the feature "faults", and the environment
 * asks for it). Arguments: the log's directory, the server's base URL.
 */
#include "host.h"

int main(int argc, char **argv)
{
    AuditChatRequest request = a_request();
    AuditRecord record = a_record();
    AuditLogger *logger;

    CHECK(argc == 3);
    logger = logger_for(argv[1], argv[2]);
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_INTERNAL, "a panic on demand");
    /* The logger goes on. */
    CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_OK);
    CHECK(audit_logger_close(logger, 1000, NULL) == AUDIT_OK);
    audit_log_free(logger);
    return 0;
}
