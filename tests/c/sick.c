/*
 * Panics of the log's own thread (the library is built with the feature "faults", and the environment asks
 * for them). Arguments: the log's directory.
 */
#include <unistd.h>

#include "host.h"

int main(int argc, char **argv)
{
    AuditRecord record = a_record();
    AuditLogger *logger;
    int known = 0;

    CHECK(argc == 2);
    alarm(60);
    logger = logger_for(argv[1], "http://127.0.0.1:1/v1");
    CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_OK);
    while (!known) {
        AuditReply *reply = NULL;
        CHECK(audit_logger_stats(logger, &reply) == AUDIT_OK);
        known = strstr(audit_reply_text(reply, AUDIT_REPLY_JSON, NULL), "a panic on demand") != NULL;
        audit_reply_free(reply);
        usleep(1000);
    }
    CHECK(audit_logger_close(logger, 5000, NULL) == AUDIT_OK);
    audit_log_free(logger);
    return 0;
}
