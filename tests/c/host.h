/* What the C programs of the tests share: checks that say where and what. */
#ifndef HOST_H
#define HOST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "audit_logger.h"

#define CHECK(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Checks the status and that the message holds a text, and frees the reply. */
#define EXPECT(call, wanted, says)                                                                 \
    do {                                                                                           \
        AuditReply *reply = (AuditReply *)1;                                                       \
        AuditStatus status = (call);                                                               \
        const char *message = audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL);            \
        if (status != (wanted) || message == NULL || strstr(message, says) == NULL) {              \
            fprintf(stderr, "%s:%d: %s: %s instead of %s: %s\n", __FILE__, __LINE__, #call,        \
                    audit_status_name(status), audit_status_name(wanted),                          \
                    message ? message : "(null)");                                                 \
            exit(1);                                                                               \
        }                                                                                          \
        audit_reply_free(reply);                                                                   \
    } while (0)

/* On a clock that nobody sets. */
static inline double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A configuration for the log in `path` and the server at `base_url`; `more` is further members, each
 * with a comma before it. */
static inline const char *config_with(const char *path, const char *base_url, const char *more)
{
    static char config[4096];
    snprintf(config, sizeof config,
             "{\"output_path\": \"%s\", \"base_url\": \"%s\", \"api_key\": \"sk-test\","
             " \"max_retries\": 0%s}",
             path, base_url, more);
    return config;
}

static inline const char *config_for(const char *path, const char *base_url)
{
    return config_with(path, base_url, "");
}

static inline AuditLogger *logger_with(const char *config)
{
    AuditLogger *logger = NULL;
    AuditReply *reply = NULL;
    AuditStatus status = audit_logger_new(config, &logger, &reply);
    if (status != AUDIT_OK) {
        fprintf(stderr, "%s: %s\n", audit_status_name(status),
                audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
        exit(1);
    }
    audit_reply_free(reply);
    return logger;
}

static inline AuditLogger *logger_for(const char *path, const char *base_url)
{
    return logger_with(config_for(path, base_url));
}

/* Waits until that many calls are running. */
static inline void until_running(AuditLogger *logger, int calls)
{
    char wanted[32];
    int run = 0;
    snprintf(wanted, sizeof wanted, "\"running\":%d,", calls);
    while (!run) {
        struct timespec moment = {0, 1000000};
        AuditReply *reply = NULL;
        CHECK(audit_logger_stats(logger, &reply) == AUDIT_OK);
        run = strstr(audit_reply_text(reply, AUDIT_REPLY_JSON, NULL), wanted) != NULL;
        audit_reply_free(reply);
        nanosleep(&moment, NULL);
    }
}

/* Has the server that waits for it answer a request: `go` is how the names of its files begin. */
static inline void have_answered(const char *go, int request)
{
    char path[4096];
    FILE *file;
    snprintf(path, sizeof path, "%s%d", go, request);
    file = fopen(path, "w");
    CHECK(file != NULL && fclose(file) == 0);
}

static inline AuditChatRequest a_request(void)
{
    AuditChatRequest request = AUDIT_CHAT_REQUEST_INIT;
    request.user_id = audit_text("user-1");
    request.prompt = audit_text("hello");
    return request;
}

static inline AuditRecord a_record(void)
{
    AuditRecord record = AUDIT_RECORD_INIT;
    record.flags = AUDIT_RECORD_HAS_USAGE;
    record.user_id = audit_text("user-1");
    record.model = audit_text("some/model");
    record.prompt = audit_text("prompt");
    record.response = audit_text("response");
    record.prompt_tokens = 5;
    record.completion_tokens = 7;
    record.latency_ms = 12.5;
    record.status = audit_text("success");
    return record;
}

#endif
