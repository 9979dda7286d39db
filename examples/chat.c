/*
 * An audited chat call: make a logger, ask, print the answer, show the entry in today's log.
 *
 *   cargo build --release
 *   cc -std=c99 -Iinclude examples/chat.c -Ltarget/release -laudit_logger \
 *      -Wl,-rpath,$PWD/target/release -o chat
 *   OPENROUTER_API_KEY=... ./chat "Why is the sky blue?"
 *
 * Without a key, try it on the server beside this file (examples/server); AUDIT_BASE_URL says
 * where it listens. `sh examples/run.sh` does all of this.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit_logger.h"

/* Prints why a function failed, and frees the reply that says so. */
static int failed(const char *what, AuditStatus status, AuditReply *reply)
{
    const char *answer = audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL);
    const char *error_type = audit_reply_text(reply, AUDIT_REPLY_ERROR_TYPE, NULL);

    fprintf(stderr, "%s: %s: ", what, audit_status_name(status));
    /* The class of a call's error; of any other it's the name of the status. */
    if (strcmp(error_type, audit_status_name(status)) != 0) {
        fprintf(stderr, "%s: ", error_type);
    }
    fprintf(stderr, "%s\n", audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
    if (answer != NULL) {
        /* It came all the same: a part of it, or all, with an entry that waits for the log. */
        printf("answer: %s\n", answer);
    }
    audit_reply_free(reply);
    return EXIT_FAILURE;
}

/* The configuration as JSON; the key comes from the environment. */
static int configure(char *config, size_t size)
{
    char quoted[512];
    const char *base_url = getenv("AUDIT_BASE_URL");

    if (base_url == NULL) {
        base_url = "https://openrouter.ai/api/v1";
    }
    if (audit_json_quote(quoted, sizeof quoted, base_url, strlen(base_url)) >= sizeof quoted) {
        return -1;
    }
    snprintf(config, size, "{\"output_path\": \"audit_logs\", \"base_url\": %s}", quoted);
    return 0;
}

int main(int argc, char **argv)
{
    char config[1024];
    AuditLogger *logger = NULL;
    AuditReply *reply = NULL;
    AuditChatRequest request = AUDIT_CHAT_REQUEST_INIT;
    AuditStatus status;

    /* 1. Make a logger: one for the whole process, shared by all threads. */
    if (configure(config, sizeof config) != 0) {
        fprintf(stderr, "AUDIT_BASE_URL is too long\n");
        return EXIT_FAILURE;
    }
    status = audit_logger_new(config, &logger, &reply);
    if (status != AUDIT_OK) {
        return failed("audit_logger_new", status, reply);
    }
    printf("log: %s\n", audit_reply_text(reply, AUDIT_REPLY_JSON, NULL));
    audit_reply_free(reply);

    /* 2. Ask. Nothing is sent unless the log can take the entry. */
    request.user_id = audit_text("user-42");
    request.prompt = audit_text(argc > 1 ? argv[1] : "Say hello in one sentence.");
    request.metadata = audit_text("{\"feature\": \"example\", \"ticket\": 7}");
    request.params = audit_text("{\"max_tokens\": 200}");
    status = audit_chat(logger, &request, &reply);
    if (status != AUDIT_OK) {
        /* A failed call has its entry too: AUDIT_REPLY_ENTRY. */
        audit_log_free(logger);
        return failed("audit_chat", status, reply);
    }

    /* 3. The answer, and the line that now stands in today's log. */
    printf("answer: %s\n", audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL));
    printf("tokens: %lld + %lld\n",
           (long long)audit_reply_int(reply, AUDIT_REPLY_PROMPT_TOKENS),
           (long long)audit_reply_int(reply, AUDIT_REPLY_COMPLETION_TOKENS));
    printf("entry: %s\n", audit_reply_text(reply, AUDIT_REPLY_ENTRY, NULL));
    audit_reply_free(reply);

    /* 4. Wait up to five seconds for calls of other threads, and have the disk confirm the log. */
    status = audit_logger_close(logger, 5000, &reply);
    audit_log_free(logger);
    if (status != AUDIT_OK) {
        return failed("audit_logger_close", status, reply);
    }
    audit_reply_free(reply);
    return EXIT_SUCCESS;
}
