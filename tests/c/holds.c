/*
 * Does what stdin says, letter by letter, and answers with a line each: l: audit_logger_log, b:
 * audit_logger_begin, f: audit_logger_finish; the line is the entry's id. Ends with stdin. Arguments:
 * the log's directory.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "host.h"

int main(int argc, char **argv)
{
    AuditLogger *logger;
    AuditPending *pending = NULL;
    int doing;

    CHECK(argc == 2);
    /* It mustn't outlive its test. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);
    logger = logger_for(argv[1], "http://127.0.0.1:9/v1");
    while ((doing = getchar()) != EOF) {
        AuditRecord record = a_record();
        AuditReply *reply = NULL;
        AuditStatus status = doing == 'l'   ? audit_logger_log(logger, &record, &reply)
                             : doing == 'b' ? audit_logger_begin(logger, &record, &pending, &reply)
                                            : audit_logger_finish(pending, &record, &reply);
        CHECK(status == AUDIT_OK);
        printf("%s\n", audit_reply_text(reply, AUDIT_REPLY_ENTRY_ID, NULL));
        fflush(stdout);
        audit_reply_free(reply);
    }
    audit_log_free(logger);
    return 0;
}
