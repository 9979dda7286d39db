/*
 * One host of the simulated fleet: takes a name of its own, opens its log, and logs a call now and then until its
 * standard input ends, or it's killed.
 *
 *   host NAME CONFIG
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "audit_logger.h"

static AuditText text(const char *of)
{
    AuditText text = {of, strlen(of)};
    return text;
}

static int failed(const char *name, AuditStatus status, AuditReply *reply)
{
    fprintf(stderr, "%s: %s: %s\n", name, audit_status_name(status),
            audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    AuditLogger *logger = NULL;
    AuditReply *reply = NULL;
    AuditRecord record = AUDIT_RECORD_INIT;
    struct pollfd end = {STDIN_FILENO, POLLIN, 0};
    AuditStatus status;
    unsigned long number;

    if (argc != 3) {
        fprintf(stderr, "usage: %s NAME CONFIG\n", argv[0]);
        return 2;
    }
    /* The name is this process's alone. */
    if (unshare(CLONE_NEWUTS) != 0 || sethostname(argv[1], strlen(argv[1])) != 0) {
        perror("a host name of its own takes root, or \"unshare --map-root-user\" in front");
        return EXIT_FAILURE;
    }
    status = audit_logger_new(argv[2], &logger, &reply);
    if (status != AUDIT_OK) {
        return failed(argv[1], status, reply);
    }
    audit_reply_free(reply);
    srand((unsigned)getpid() ^ (unsigned)time(NULL));
    record.user_id = text("user-1");
    record.model = text("some/model");
    record.response = text("an answer");
    record.status = text("success");
    record.latency_ms = 12.5;
    for (number = 0; poll(&end, 1, 200 + rand() % 1000) == 0; number++) {
        char prompt[64];
        snprintf(prompt, sizeof prompt, "%s %ld %lu", argv[1], (long)getpid(), number);
        record.prompt = text(prompt);
        status = audit_logger_log(logger, &record, &reply);
        if (status != AUDIT_OK) {
            return failed(argv[1], status, reply);
        }
        audit_reply_free(reply);
    }
    status = audit_logger_close(logger, 60000, &reply);
    if (status != AUDIT_OK) {
        return failed(argv[1], status, reply);
    }
    audit_reply_free(reply);
    audit_logger_free(logger);
    return EXIT_SUCCESS;
}
