/*
 * Meets the process's limits, and lives. Arguments: the log's directory, the base URL of a server
 * whose answers are large when they are streamed or the model is named "large", "memory" or
 * "descriptors". Prints how many entries it left.
 */
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host.h"

static const char *path, *base_url;
static int entries;

/* Counts the entry that a call leaves with this status. */
static void count(AuditStatus status)
{
    CHECK(status == AUDIT_OK || status == AUDIT_E_CALL || status == AUDIT_E_LOG
          || status == AUDIT_E_INTERNAL);
    entries += status == AUDIT_OK || status == AUDIT_E_CALL;
}

static void limit(int resource, rlim_t soft)
{
    struct rlimit now;
    CHECK(getrlimit(resource, &now) == 0);
    now.rlim_cur = soft;
    CHECK(setrlimit(resource, &now) == 0);
}

static int32_t hear(const char *text, size_t len, void *context)
{
    (void)text;
    *(size_t *)context += len;
    return AUDIT_CONTINUE;
}

/* Large answers, with ever more address space: refused first, whole in the end, never fatal. */
static void *in_little_memory(void *context)
{
    static const char *const MODELS[] = {"large", "large", "one-event"};
    AuditLogger *logger = context;
    double more;
    int i, whole[3] = {0, 0, 0}, refused[3] = {0, 0, 0};

    for (more = 8e6; more < 1e9; more *= 1.4) {
        for (i = 0; i < 3; i++) {
            AuditChatRequest request = a_request();
            AuditReply *reply = NULL;
            AuditStatus status;
            size_t heard = 0;
            unsigned long pages = 0;
            FILE *statm = fopen("/proc/self/statm", "r");

            CHECK(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
            fclose(statm);
            request.model = audit_text(MODELS[i]);
            if (i > 0) {
                request.on_delta = hear;
                request.context = &heard;
            }
            limit(RLIMIT_AS, pages * (rlim_t)sysconf(_SC_PAGESIZE) + (rlim_t)more);
            status = audit_chat(logger, &request, &reply);
            limit(RLIMIT_AS, RLIM_INFINITY);
            count(status);
            if (status == AUDIT_OK) {
                size_t len = 0;
                CHECK(audit_reply_text(reply, AUDIT_REPLY_CONTENT, &len) != NULL);
                CHECK(len == 10u << 20);
                whole[i]++;
            } else {
                CHECK(strcmp(audit_reply_text(reply, AUDIT_REPLY_ERROR_TYPE, NULL),
                             "ResponseTooLarge") == 0);
                CHECK(strstr(audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL), "memory"));
                refused[i]++;
            }
            audit_reply_free(reply);
        }
    }
    for (i = 0; i < 3; i++) {
        CHECK(refused[i] > 3 && whole[i] > 0);
    }
    return NULL;
}

/* With no, one, two, ... descriptors left: each opening of a logger's and a call's life fails once. */
static void with_few_descriptors(void)
{
    AuditLogger *old = logger_for(path, base_url);
    AuditRecord record = a_record();
    AuditChatRequest request = a_request();
    int left, lowest, succeeded = 0;

    count(audit_logger_log(old, &record, NULL));
    CHECK(entries == 1);
    for (left = 0; left < 24; left++) {
        AuditLogger *logger = NULL;
        AuditReply *reply = NULL;
        AuditStatus status;

        lowest = dup(0);
        CHECK(lowest > 0);
        close(lowest);
        limit(RLIMIT_NOFILE, (rlim_t)(lowest + left));
        status = audit_logger_new(config_for(path, base_url), &logger, &reply);
        CHECK(status == AUDIT_OK || status == AUDIT_E_LOG || status == AUDIT_E_INTERNAL);
        if (status != AUDIT_OK)
            CHECK(strstr(audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL), "open files"));
        audit_reply_free(reply);
        if (status == AUDIT_OK) {
            count(audit_logger_log(logger, &record, NULL));
            status = audit_chat(logger, &request, &reply);
            count(status);
            succeeded += status == AUDIT_OK;
            audit_reply_free(reply);
            audit_log_free(logger);
        }
        /* A logger that has its files open needs no more. */
        CHECK(audit_logger_log(old, &record, NULL) == AUDIT_OK);
        entries++;
        limit(RLIMIT_NOFILE, 1024);
    }
    CHECK(succeeded > 0 && succeeded < 20);
    EXPECT(audit_chat(old, &request, &reply), AUDIT_OK, "");
    entries++;
    audit_log_free(old);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    alarm(120);
    path = argv[1];
    base_url = argv[2];
    if (strcmp(argv[3], "memory") == 0) {
        AuditLogger *logger = logger_with(
            config_with(path, base_url, ", \"max_response_bytes\": 100000000"));
        pthread_t thread;
        /* Not the first thread, whose heap grows otherwise. */
        CHECK(pthread_create(&thread, NULL, in_little_memory, logger) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        audit_log_free(logger);
    } else {
        with_few_descriptors();
    }
    printf("%d\n", entries);
    return 0;
}
