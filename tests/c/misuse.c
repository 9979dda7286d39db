/*
 * Everything a host can pass wrongly, and what it gets: a status and a message, never a crash.
 * Arguments: the log's directory, the server's base URL. Prints how many entries it left.
 */
#include <stdint.h>

#include "host.h"

static AuditLogger *logger;
static long long entries;

/* Each text of a request in turn, by its place in the structure. */
static void texts_of_a_request(void)
{
    static const struct {
        const char *name;
        size_t at;
        int required;
    } texts[] = {
        {"user_id", offsetof(AuditChatRequest, user_id), 1},
        {"prompt", offsetof(AuditChatRequest, prompt), 1},
        {"system", offsetof(AuditChatRequest, system), 0},
        {"model", offsetof(AuditChatRequest, model), 0},
        {"metadata", offsetof(AuditChatRequest, metadata), 0},
        {"params", offsetof(AuditChatRequest, params), 0},
        {"options", offsetof(AuditChatRequest, options), 0},
    };
    size_t i;

    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        AuditChatRequest request = a_request();
        AuditText *text = (AuditText *)((char *)&request + texts[i].at);

        text->data = "a\xff";
        text->len = 2;
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_ARGUMENT, texts[i].name);
        text->data = NULL;
        text->len = 1;
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_ARGUMENT, texts[i].name);
        text->data = "x";
        text->len = SIZE_MAX;
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_ARGUMENT, texts[i].name);
        text->data = NULL;
        text->len = 0;
        if (texts[i].required) {
            EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_ARGUMENT, texts[i].name);
        } else {
            EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
            entries++;
        }
    }
}

static void texts_of_a_record(void)
{
    static const struct {
        const char *name;
        size_t at;
        int required;
    } texts[] = {
        {"event_type", offsetof(AuditRecord, event_type), 0},
        {"user_id", offsetof(AuditRecord, user_id), 1},
        {"model", offsetof(AuditRecord, model), 1},
        {"prompt", offsetof(AuditRecord, prompt), 1},
        {"response", offsetof(AuditRecord, response), 0},
        {"status", offsetof(AuditRecord, status), 1},
        {"error_type", offsetof(AuditRecord, error_type), 0},
        {"metadata", offsetof(AuditRecord, metadata), 0},
    };
    size_t i;

    for (i = 0; i < sizeof texts / sizeof *texts; i++) {
        AuditRecord record = a_record();
        AuditText *text = (AuditText *)((char *)&record + texts[i].at);

        text->data = "\xc0\x80";
        text->len = 2;
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, texts[i].name);
        text->data = NULL;
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, texts[i].name);
        text->len = 0;
        if (texts[i].required) {
            EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, texts[i].name);
        } else {
            EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
            entries++;
        }
    }
}

static void numbers_of_a_record(void)
{
    AuditRecord record = a_record();

    record.prompt_tokens = -1;
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "tokens");
    record.flags = 0;
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    entries++;
    record = a_record();
    record.latency_ms = -0.5;
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "latency_ms");
    record.latency_ms = strtod("nan", NULL);
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "latency_ms");
    record.latency_ms = strtod("inf", NULL);
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "latency_ms");
    record = a_record();
    record.status = audit_text("ok");
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "\"success\" or \"error\"");
    record.status = audit_text("error");
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "set error_type");
    record.status = audit_text("success");
    record.error_type = audit_text("RateLimitError");
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "leave error_type absent");
}

static void sizes_flags_and_tails(void)
{
    struct {
        AuditChatRequest request;
        uint64_t later;
    } newer;
    AuditChatRequest request = a_request();
    AuditRecord record = a_record();
    size_t size;

    for (size = 0; size < sizeof request; size++) {
        request.struct_size = size;
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_ARGUMENT, "struct_size");
    }
    request.struct_size = SIZE_MAX;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_ARGUMENT, "struct_size");
    for (size = 0; size < sizeof record; size++) {
        record.struct_size = size;
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "struct_size");
    }

    /* A program made for a later version may use this one as long as it sets nothing new. */
    newer.request = a_request();
    newer.request.struct_size = sizeof newer;
    newer.later = 0;
    EXPECT(audit_chat(logger, &newer.request, &reply), AUDIT_OK, "");
    entries++;
    newer.later = 1;
    EXPECT(audit_chat(logger, &newer.request, &reply), AUDIT_E_ARGUMENT, "doesn't know");

    request = a_request();
    request.flags = 1;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_ARGUMENT, "flags");
    record = a_record();
    record.flags = 2;
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_E_ARGUMENT, "flags");

}

static void null_pointers(const char *config)
{
    AuditLogger *other = (AuditLogger *)1;
    AuditChatRequest request = a_request();
    AuditRecord record = a_record();
    size_t len = 1;

    EXPECT(audit_logger_new(config, NULL, &reply), AUDIT_E_ARGUMENT, "logger is NULL");
    CHECK(audit_logger_new("{", &other, NULL) == AUDIT_E_CONFIG);
    CHECK(other == NULL);
    EXPECT(audit_chat(NULL, &request, &reply), AUDIT_E_HANDLE, "logger is NULL");
    EXPECT(audit_chat(logger, NULL, &reply), AUDIT_E_ARGUMENT, "request is NULL");
    CHECK(audit_chat(logger, &request, NULL) == AUDIT_E_ARGUMENT);
    EXPECT(audit_logger_log(NULL, &record, &reply), AUDIT_E_HANDLE, "logger is NULL");
    EXPECT(audit_logger_log(logger, NULL, &reply), AUDIT_E_ARGUMENT, "record is NULL");
    CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_OK);
    entries++;
    EXPECT(audit_logger_flush(NULL, 0, &reply), AUDIT_E_HANDLE, "logger is NULL");
    CHECK(audit_logger_flush(logger, 1000, NULL) == AUDIT_OK);
    EXPECT(audit_logger_close(NULL, 0, &reply), AUDIT_E_HANDLE, "logger is NULL");
    EXPECT(audit_logger_stats(NULL, &reply), AUDIT_E_HANDLE, "logger is NULL");
    CHECK(audit_logger_stats(logger, NULL) == AUDIT_E_ARGUMENT);
    EXPECT(audit_logger_hash(NULL, "x", 1, &reply), AUDIT_E_HANDLE, "logger is NULL");
    EXPECT(audit_logger_hash(logger, NULL, 1, &reply), AUDIT_E_ARGUMENT, "text is NULL");
    EXPECT(audit_logger_hash(logger, NULL, 0, &reply), AUDIT_OK, "");
    CHECK(audit_logger_hash(logger, "x", 1, NULL) == AUDIT_E_ARGUMENT);

    CHECK(audit_reply_text(NULL, AUDIT_REPLY_CONTENT, &len) == NULL && len == 0);
    CHECK(strcmp(audit_reply_text(NULL, AUDIT_REPLY_ERROR_TYPE, &len), "") == 0 && len == 0);
    CHECK(strcmp(audit_reply_text(NULL, AUDIT_REPLY_ERROR_MESSAGE, NULL), "") == 0);
    CHECK(audit_reply_int(NULL, AUDIT_REPLY_HTTP_STATUS) == -1);
    audit_reply_free(NULL);
    audit_log_free(NULL);
    audit_logger_free(NULL);
}

static void fields_out_of_range(void)
{
    AuditReply *reply = NULL;
    int32_t field;

    CHECK(audit_logger_stats(logger, &reply) == AUDIT_OK);
    for (field = -300; field < 300; field++) {
        (void)audit_reply_text(reply, field, NULL);
        (void)audit_reply_int(reply, field);
    }
    CHECK(audit_reply_text(reply, INT32_MIN, NULL) == NULL);
    CHECK(audit_reply_text(reply, INT32_MAX, NULL) == NULL);
    CHECK(audit_reply_int(reply, INT32_MIN) == -1);
    CHECK(audit_reply_int(reply, INT32_MAX) == -1);
    CHECK(audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL) == NULL);
    audit_reply_free(reply);
}

/* Handles that aren't: freed, swapped, foreign, random. */
static void strange_handles(const char *path, const char *base_url)
{
    AuditChatRequest request = a_request();
    AuditRecord record = a_record();
    AuditLogger *freed = logger_for(path, base_url);
    AuditReply *reply = NULL;
    uint64_t random = 88172645463325252u;
    int i;

    audit_log_free(freed);
    audit_log_free(freed);
    audit_logger_free(freed);
    EXPECT(audit_chat(freed, &request, &reply), AUDIT_E_HANDLE, "was freed");
    EXPECT(audit_logger_log(freed, &record, &reply), AUDIT_E_HANDLE, "was freed");
    EXPECT(audit_logger_flush(freed, 0, &reply), AUDIT_E_HANDLE, "was freed");
    EXPECT(audit_logger_close(freed, 0, &reply), AUDIT_E_HANDLE, "was freed");
    EXPECT(audit_logger_stats(freed, &reply), AUDIT_E_HANDLE, "was freed");
    EXPECT(audit_logger_hash(freed, "", 0, &reply), AUDIT_E_HANDLE, "was freed");

    CHECK(audit_logger_stats(logger, &reply) == AUDIT_OK);
    CHECK(audit_logger_log((AuditLogger *)reply, &record, NULL) == AUDIT_E_HANDLE);
    audit_log_free((AuditLogger *)reply);
    CHECK(audit_reply_text(reply, AUDIT_REPLY_JSON, NULL) != NULL);
    CHECK(audit_reply_text((AuditReply *)logger, AUDIT_REPLY_JSON, NULL) == NULL);
    audit_reply_free((AuditReply *)logger);
    audit_reply_free(reply);
    audit_reply_free(reply);
    CHECK(audit_reply_text(reply, AUDIT_REPLY_JSON, NULL) == NULL);

    CHECK(audit_logger_log((AuditLogger *)&record, &record, NULL) == AUDIT_E_HANDLE);
    CHECK(audit_logger_log((AuditLogger *)(uintptr_t)-1, &record, NULL) == AUDIT_E_HANDLE);
    for (i = 0; i < 1000000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if (random != (uint64_t)(uintptr_t)logger) {
            CHECK(audit_reply_int((AuditReply *)(uintptr_t)random, AUDIT_REPLY_OUTCOME) == -1);
            audit_log_free((AuditLogger *)(uintptr_t)random);
        }
    }
}

static void cancels(void)
{
    AuditChatRequest request = a_request();
    AuditCancel *cancel = (AuditCancel *)1;
    AuditCancel *freed = NULL;

    CHECK(audit_cancel_new(NULL) == AUDIT_E_ARGUMENT);
    CHECK(audit_cancel_new(&cancel) == AUDIT_OK && cancel != NULL);
    CHECK(audit_cancel_new(&freed) == AUDIT_OK && freed != cancel);
    audit_cancel_free(freed);
    audit_cancel_free(freed);
    audit_cancel_trigger(freed);
    audit_cancel_trigger(NULL);
    audit_cancel_free(NULL);
    request.cancel = cancel;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_OK, "");
    entries++;
    audit_cancel_trigger(cancel);
    audit_cancel_trigger(cancel);
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_CANCELLED, "nothing was sent");
    request.cancel = freed;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_HANDLE, "cancel was freed");
    request.cancel = (AuditCancel *)logger;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_HANDLE, "cancel was freed");
    request.cancel = (AuditCancel *)&request;
    EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_HANDLE, "cancel was freed");
    audit_cancel_free(cancel);
}

static void a_misaligned_structure(void)
{
    char room[sizeof(AuditRecord) + 1];
    AuditRecord record = a_record();

    memcpy(room + 1, &record, sizeof record);
    EXPECT(audit_logger_log(logger, (AuditRecord *)(void *)(room + 1), &reply), AUDIT_OK, "");
    entries++;
}

/* What languages without macros start from is what the macros are. */
static void starting_values(void)
{
    AuditChatRequest request, as_request = AUDIT_CHAT_REQUEST_INIT;
    AuditRecord record, as_record = AUDIT_RECORD_INIT;
    unsigned char room[sizeof(AuditRecord) + 1];
    size_t size;

    audit_chat_request_init(&request, sizeof request);
    CHECK(memcmp(&request, &as_request, sizeof request) == 0);
    audit_record_init(&record, sizeof record);
    CHECK(memcmp(&record, &as_record, sizeof record) == 0);
    for (size = 0; size < sizeof room; size++) {
        memset(room, 'x', sizeof room);
        audit_record_init((AuditRecord *)room, size);
        CHECK(room[size] == 'x');
        CHECK(size < sizeof size || memcmp(room, &size, sizeof size) == 0);
    }
    audit_chat_request_init(NULL, sizeof request);
    audit_record_init(NULL, sizeof record);
    CHECK(audit_text(NULL).data == NULL && audit_text(NULL).len == 0);
    CHECK(audit_text("").data != NULL && audit_text("").len == 0);
}

static void json_quoting(void)
{
    char out[16];
    size_t size;

    CHECK(audit_json_quote(NULL, 0, "a\"b", 3) == 6);
    CHECK(audit_json_quote(out, sizeof out, "a\"b", 3) == 6);
    CHECK(strcmp(out, "\"a\\\"b\"") == 0);
    for (size = 0; size <= 7; size++) {
        memset(out, 'x', sizeof out);
        CHECK(audit_json_quote(out, size, "a\"b", 3) == 6);
        CHECK(size == 0 || (strlen(out) == size - 1 && memcmp(out, "\"a\\\"b\"", size - 1) == 0));
        CHECK(out[size] == 'x');
    }
    CHECK(audit_json_quote(out, sizeof out, NULL, 0) == 2);
    CHECK(strcmp(out, "\"\"") == 0);
    CHECK(audit_json_quote(out, sizeof out, "\xff", 1) == 5);
    CHECK(strcmp(out, "\"\xef\xbf\xbd\"") == 0);
    CHECK(audit_json_quote(out, sizeof out, "\0", 1) == 8);
    CHECK(strcmp(out, "\"\\u0000\"") == 0);
    CHECK(audit_json_quote(NULL, 0, "x", SIZE_MAX) == 0);
}

static void statuses(void)
{
    CHECK(strcmp(audit_status_name(AUDIT_OK), "AUDIT_OK") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_ARGUMENT), "AUDIT_E_ARGUMENT") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_HANDLE), "AUDIT_E_HANDLE") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_CONFIG), "AUDIT_E_CONFIG") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_LOG), "AUDIT_E_LOG") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_LOG_PENDING), "AUDIT_E_LOG_PENDING") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_CALL), "AUDIT_E_CALL") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_CANCELLED), "AUDIT_E_CANCELLED") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_TIMEOUT), "AUDIT_E_TIMEOUT") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_REENTRANT), "AUDIT_E_REENTRANT") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_FORKED), "AUDIT_E_FORKED") == 0);
    CHECK(strcmp(audit_status_name(AUDIT_E_INTERNAL), "AUDIT_E_INTERNAL") == 0);
    CHECK(strcmp(audit_status_name(1), "AUDIT_E_UNKNOWN") == 0);
    CHECK(strcmp(audit_status_name(INT32_MIN), "AUDIT_E_UNKNOWN") == 0);
    CHECK(strcmp(audit_logger_version(), AUDIT_LOGGER_VERSION) == 0);
    CHECK(sizeof AUDIT_LOGGER_VERSION > 5);
    {
        char composed[32];
        snprintf(composed, sizeof composed, "%d.%d.%d", AUDIT_LOGGER_VERSION_MAJOR,
                 AUDIT_LOGGER_VERSION_MINOR, AUDIT_LOGGER_VERSION_PATCH);
        CHECK(strcmp(composed, AUDIT_LOGGER_VERSION) == 0);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    logger = logger_for(argv[1], argv[2]);
    texts_of_a_request();
    texts_of_a_record();
    numbers_of_a_record();
    sizes_flags_and_tails();
    null_pointers(config_for(argv[1], argv[2]));
    fields_out_of_range();
    strange_handles(argv[1], argv[2]);
    cancels();
    a_misaligned_structure();
    starting_values();
    json_quoting();
    statuses();
    EXPECT(audit_logger_close(logger, -1, &reply), AUDIT_OK, "");
    EXPECT(audit_logger_close(logger, -1, &reply), AUDIT_OK, "");
    {
        AuditChatRequest request = a_request();
        EXPECT(audit_chat(logger, &request, &reply), AUDIT_E_HANDLE, "closed");
    }
    audit_logger_free(logger);
    CHECK(audit_logger_flush(logger, 0, NULL) == AUDIT_E_HANDLE);
    printf("%lld\n", entries);
    return 0;
}
