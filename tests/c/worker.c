/*
 * Makes calls until it's done or killed, and says on stdout which ones were acknowledged: a line
 * "<what> <prompt> <id>" for each. Arguments: the configuration; what to do, letter by letter, over
 * and over (c: audit_chat, l: audit_logger_log, b: audit_logger_begin and _finish, f: flush, w: a pause);
 * how often on each thread (0: until killed); how many threads; a name that is its own; the longest
 * metadata; the status that calls are to end with.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger;
static const char *doings, *name, *expected;
static int times, longest;

static void acknowledge(const char *what, const char *prompt, const AuditReply *reply)
{
    char line[256];
    int length = snprintf(line, sizeof line, "%s %s %s\n", what, prompt,
                          audit_reply_text(reply, AUDIT_REPLY_ENTRY_ID, NULL));
    CHECK(write(1, line, (size_t)length) == length);
}

static void check(const char *what, const char *prompt, AuditStatus status, AuditReply *reply)
{
    const char *named = audit_status_name(status);
    if (strcmp(named, expected) == 0) {
        acknowledge(what, prompt, reply);
    } else if (strcmp(expected, "any") == 0) {
        if (status == AUDIT_OK || status == AUDIT_E_LOG_PENDING)
            acknowledge(what, prompt, reply);
        else
            acknowledge(named, prompt, reply);
    } else {
        fprintf(stderr, "%s: %s: %s\n", what, named,
                audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
        exit(1);
    }
    audit_reply_free(reply);
}

static void *work(void *number)
{
    char *metadata = malloc((size_t)longest + 64);
    int i;

    CHECK(metadata != NULL);
    for (i = 0; times == 0 || i < times; i++) {
        char doing = doings[(size_t)i % strlen(doings)];
        char prompt[128];
        AuditReply *reply = NULL;
        AuditRecord record = a_record();
        int filled = longest == 0 ? 0 : (int)((unsigned)i * 7919u % (unsigned)longest);

        snprintf(prompt, sizeof prompt, "%s-%ld-%d", name, (long)(size_t)number, i);
        sprintf(metadata, "{\"fill\":\"%0*d\"}", filled + 1, 0);
        record.prompt = audit_text(prompt);
        record.metadata = audit_text(metadata);
        if (doing == 'c') {
            AuditChatRequest request = a_request();
            request.prompt = record.prompt;
            request.metadata = record.metadata;
            AuditStatus status = audit_chat(logger, &request, &reply);
            check("chat", prompt, status, reply);
        } else if (doing == 'l') {
            AuditStatus status = audit_logger_log(logger, &record, &reply);
            check("log", prompt, status, reply);
        } else if (doing == 'w') {
            usleep(2000);
        } else if (doing == 't') {
            CHECK(truncate(getenv("WORKER_CUTS"), 0) == 0);
        } else if (doing == 'f') {
            AuditStatus status = audit_logger_flush(logger, -1, &reply);
            check("flush", prompt, status, reply);
        } else {
            AuditPending *pending;
            AuditReply *begun = NULL;
            AuditStatus status = audit_logger_begin(logger, &record, &pending, &begun);
            if (status != AUDIT_OK) {
                check("begin", prompt, status, begun);
                continue;
            }
            acknowledge("begin", prompt, begun);
            audit_reply_free(begun);
            status = audit_logger_finish(pending, &record, &reply);
            check("finish", prompt, status, reply);
        }
    }
    free(metadata);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    AuditReply *reply = NULL;
    AuditStatus status;
    int count;
    long i;

    CHECK(argc == 8);
    /* It mustn't outlive its test, nor fill the disk. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(60);
    doings = argv[2];
    times = atoi(argv[3]);
    count = atoi(argv[4]);
    name = argv[5];
    longest = atoi(argv[6]);
    expected = argv[7];
    CHECK(count >= 1 && count <= 64);
    status = audit_logger_new(argv[1], &logger, &reply);
    if (status != AUDIT_OK) {
        fprintf(stderr, "%s: %s\n", audit_status_name(status),
                audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
        /* Unless that is what was asked for. */
        return strcmp(expected, "any") == 0 ? 0 : 1;
    }
    audit_reply_free(reply);
    for (i = 1; i < count; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(size_t)i) == 0);
    }
    work((void *)0);
    for (i = 1; i < count; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    audit_log_free(logger);
    return 0;
}
