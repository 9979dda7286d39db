/*
 * Opens a log, writes to it, and has it sealed, in 64 MiB more than the program takes. Arguments: the
 * log's directory, its guard, how many seconds each step may take. Ends with 3 if the log can't be
 * opened.
 */
#include <malloc.h>
#include <sys/resource.h>

#include "host.h"

static void limit(void)
{
    struct rlimit limit;
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    fclose(statm);
    /* Room that is reserved for each thread isn't taken. */
    mallopt(M_ARENA_MAX, 1);
    limit.rlim_cur = limit.rlim_max = pages * 4096 + (64ul << 20);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

int main(int argc, char **argv)
{
    char config[4096];
    AuditLogger *logger = NULL;
    AuditReply *reply = NULL;
    AuditRecord record = a_record();
    double patience, began = seconds();
    int i;

    CHECK(argc == 4);
    patience = atof(argv[3]);
    limit();
    snprintf(config, sizeof config,
             "{\"output_path\": \"%s\", \"integrity\": {\"guard_file\": \"%s\"}}", argv[1], argv[2]);
    if (audit_logger_new(config, &logger, &reply) != AUDIT_OK) {
        const char *message = audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL);
        CHECK(strlen(message) < 1000);
        fprintf(stderr, "%s\n", message);
        CHECK(seconds() - began < patience);
        return 3;
    }
    audit_reply_free(reply);
    CHECK(seconds() - began < patience);
    for (i = 0; i < 3; i++) {
        began = seconds();
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
        EXPECT(audit_logger_flush(logger, (int64_t)(1000 * patience), &reply), AUDIT_OK, "");
        EXPECT(audit_logger_stats(logger, &reply), AUDIT_OK, "");
        CHECK(seconds() - began < patience);
    }
    EXPECT(audit_logger_close(logger, -1, &reply), AUDIT_OK, "");
    audit_log_free(logger);
    return 0;
}
