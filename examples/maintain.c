/*
 * Looks after a log's old days, from cron or a systemd timer, beside the services that write to it:
 * compresses them after a while, and removes them when they have expired.
 *
 *   cargo build --release
 *   cc -std=c99 -Iinclude examples/maintain.c -Ltarget/release -laudit_logger \
 *      -Wl,-rpath,$PWD/target/release -o maintain
 *   ./maintain audit_logs '{"compress_after_days": 7, "retention_days": 365}'
 *
 * Run it once a day as the user that the services run as; examples/systemd has the units. It prints
 * what was done, as JSON, and exits with 1 if anything failed.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "audit_logger.h"

static AuditCancel *cancel;

/* What `systemctl stop` and Ctrl-C send: the run ends soon, and the next one does the rest. */
static void stop(int signal)
{
    (void)signal;
    audit_cancel_trigger(cancel);
}

int main(int argc, char **argv)
{
    AuditReply *reply = NULL;
    AuditStatus status;
    const char *report;

    if (argc != 3) {
        fprintf(stderr, "usage: %s DIRECTORY OPTIONS\n", argv[0]);
        return 2;
    }
    if (audit_cancel_new(&cancel) != AUDIT_OK) {
        fprintf(stderr, "%s: out of file descriptors\n", argv[0]);
        return EXIT_FAILURE;
    }
    signal(SIGTERM, stop);
    signal(SIGINT, stop);

    status = audit_logger_maintain(argv[1], argv[2], cancel, &reply);
    report = audit_reply_text(reply, AUDIT_REPLY_JSON, NULL);
    if (report != NULL) {
        puts(report);
    }
    if (status != AUDIT_OK) {
        fprintf(stderr, "%s: %s: %s\n", argv[0], audit_status_name(status),
                audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
    }
    audit_reply_free(reply);
    return status == AUDIT_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
