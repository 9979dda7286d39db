/*
 * A host in C of audit_logger.
 *
 * usage: host log WORKLOAD LOG CALLS THREADS    audit_logger_log, CALLS on each thread
 *        host reply WORKLOAD LOG CALLS          the same on one, which asks for the reply
 *        host chat WORKLOAD LOG CALLS URL       audit_chat
 *        host stream WORKLOAD LOG CALLS URL     the same, its answer heard as it comes
 *        host queue WORKLOAD LOG CALLS URL      the same through a queue, 16 at once
 *        host memory WORKLOAD LOG CALLS URL CHATS
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>

#include "audit_logger.h"
#include "measure.h"

static AuditLogger *logger;
static AuditRecord record = AUDIT_RECORD_INIT;
static AuditChatRequest request = AUDIT_CHAT_REQUEST_INIT;
static long calls;

/* Prints why a function failed, and ends. */
static void failed(const char *what, AuditStatus status, AuditReply *reply)
{
    fprintf(stderr, "%s: %s: %s\n", what, audit_status_name(status),
            audit_reply_text(reply, AUDIT_REPLY_ERROR_MESSAGE, NULL));
    exit(EXIT_FAILURE);
}

static void log_once(void)
{
    AuditStatus status = audit_logger_log(logger, &record, NULL);
    if (status != AUDIT_OK) {
        failed("audit_logger_log", status, NULL);
    }
}

static void log_and_read(void)
{
    AuditReply *reply = NULL;
    AuditStatus status = audit_logger_log(logger, &record, &reply);
    if (status != AUDIT_OK || audit_reply_text(reply, AUDIT_REPLY_ENTRY_ID, NULL) == NULL) {
        failed("audit_logger_log", status, reply);
    }
    audit_reply_free(reply);
}

static void chat_once(void)
{
    AuditReply *reply = NULL;
    AuditStatus status = audit_chat(logger, &request, &reply);
    if (status != AUDIT_OK || audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL) == NULL) {
        failed("audit_chat", status, reply);
    }
    audit_reply_free(reply);
}

static int32_t hear(const char *text, size_t len, void *heard)
{
    (void)text;
    *(size_t *)heard += len;
    return AUDIT_CONTINUE;
}

static void stream_once(void)
{
    size_t heard = 0;
    request.on_delta = hear;
    request.context = &heard;
    chat_once();
    if (heard == 0) {
        die("nothing was heard of a stream");
    }
}

/* Hears so many streams through a queue. */
static void hear_queue(AuditQueue *queue, long streams)
{
    static const long at_once = 16;
    static char json[1 << 17];
    static size_t length;
    long submitted = 0, done = 0;
    size_t heard = 0;

    if (length == 0) {
        char prompt[1 << 16];
        audit_json_quote(prompt, sizeof prompt, request.prompt.data, request.prompt.len);
        length = (size_t)snprintf(
            json, sizeof json,
            "{\"user_id\": \"user-42\", \"model\": \"openai/gpt-4-turbo\", \"prompt\": %s,"
            " \"metadata\": %s, \"stream\": true}",
            prompt, request.metadata.data);
    }
    while (done < streams) {
        AuditReply *reply = NULL;
        AuditStatus status;
        while (submitted < streams && submitted - done < at_once) {
            status = audit_queue_submit(queue, json, length, (uint64_t)submitted++, &reply);
            if (status != AUDIT_OK) {
                failed("audit_queue_submit", status, reply);
            }
            audit_reply_free(reply);
        }
        status = audit_queue_next(queue, -1, &reply);
        if (status == AUDIT_OK && audit_reply_int(reply, AUDIT_REPLY_EVENT) == AUDIT_EVENT_DONE) {
            status = (AuditStatus)audit_reply_int(reply, AUDIT_REPLY_STATUS);
            done++;
        } else {
            size_t text;
            audit_reply_text(reply, AUDIT_REPLY_CONTENT, &text);
            heard += text;
        }
        if (status != AUDIT_OK) {
            failed("audit_queue_next", status, reply);
        }
        audit_reply_free(reply);
    }
    if (heard == 0) {
        die("nothing was heard of a stream");
    }
}

static void measure_queue(void)
{
    AuditQueue *queue;
    Moment start;
    if (audit_queue_new(logger, NULL, &queue, NULL) != AUDIT_OK) {
        die("no queue");
    }
    hear_queue(queue, calls / 10);
    start = moment();
    hear_queue(queue, calls);
    print_since(start, calls);
    audit_queue_free(queue);
}

static void repeat(void (*once)(void), long count)
{
    for (long i = 0; i < count; i++) {
        once();
    }
}

static void measure(void (*once)(void))
{
    Moment start;
    repeat(once, calls / 10);
    start = moment();
    repeat(once, calls);
    print_since(start, calls);
}

/* ---------------------------------------------------------------- threads */

static atomic_long threads_made;

/* Stands before the C library's, for the library too: counts, and goes on there. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    }
    atomic_fetch_add(&threads_made, 1);
    return real(thread, attributes, start, argument);
}

static void *log_many(void *unused)
{
    (void)unused;
    repeat(log_once, calls);
    return NULL;
}

static void measure_threads(long threads)
{
    Moment start;
    repeat(log_once, calls / 10);
    start = moment();
    on_threads(threads, log_many);
    print_since(start, calls * threads);
}

/* ---------------------------------------------------------------- memory */

/* A number that the kernel knows of this process. */
static long status_of(const char *name)
{
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "r");

    if (file == NULL) {
        return -1;
    }
    while (value < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            value = strtol(line + strlen(name), NULL, 10);
        }
    }
    fclose(file);
    return value;
}

/* Early is after a tenth of the calls: between it and the end nothing should grow. */
static void measure_memory(long chats)
{
    long early, late;
    repeat(log_once, calls / 10);
    repeat(chat_once, chats / 10);
    early = status_of("VmRSS:");
    repeat(log_once, calls - calls / 10);
    repeat(chat_once, chats - chats / 10);
    late = status_of("VmRSS:");
    printf("{\"calls\": %ld, \"early_kb\": %ld, \"late_kb\": %ld, \"threads\": %ld, "
           "\"threads_made\": %ld}\n",
           calls + chats, early, late, status_of("Threads:"), atomic_load(&threads_made));
}

/* ---------------------------------------------------------------- */

static AuditText workload(const char *directory, const char *name)
{
    char path[4096];
    AuditText text;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    text.data = read_file(path, &text.len);
    return text;
}

static void open_log(const char *directory, const char *url)
{
    char quoted_directory[4096], quoted_url[256], config[8192];
    AuditReply *reply = NULL;
    AuditStatus status;

    audit_json_quote(quoted_directory, sizeof quoted_directory, directory, strlen(directory));
    audit_json_quote(quoted_url, sizeof quoted_url, url, strlen(url));
    snprintf(config, sizeof config,
             "{\"output_path\": %s, \"base_url\": %s, \"api_key\": \"none\"}", quoted_directory,
             quoted_url);
    status = audit_logger_new(config, &logger, &reply);
    if (status != AUDIT_OK) {
        failed("audit_logger_new", status, reply);
    }
    audit_reply_free(reply);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";

    if (argc < 5) {
        die("usage: host log|reply|chat|stream|queue|memory WORKLOAD LOG CALLS [...]");
    }
    record.flags = AUDIT_RECORD_HAS_USAGE;
    record.user_id = request.user_id = audit_text("user-42");
    record.model = request.model = audit_text("openai/gpt-4-turbo");
    record.prompt = request.prompt = workload(argv[2], "prompt.txt");
    record.response = workload(argv[2], "answer.txt");
    record.metadata = request.metadata = workload(argv[2], "metadata.json");
    record.prompt_tokens = 512;
    record.completion_tokens = 256;
    record.latency_ms = 812.5;
    record.status = audit_text("success");
    calls = number(argv[4]);
    open_log(argv[3], argc > 5 && strcmp(mode, "log") != 0 ? argv[5] : "http://127.0.0.1:1/v1");

    if (strcmp(mode, "log") == 0 && argc == 6) {
        measure_threads(number(argv[5]));
    } else if (strcmp(mode, "reply") == 0 && argc == 5) {
        measure(log_and_read);
    } else if (strcmp(mode, "chat") == 0 && argc == 6) {
        measure(chat_once);
    } else if (strcmp(mode, "stream") == 0 && argc == 6) {
        measure(stream_once);
    } else if (strcmp(mode, "queue") == 0 && argc == 6) {
        measure_queue();
    } else if (strcmp(mode, "memory") == 0 && argc == 7) {
        measure_memory(number(argv[6]));
    } else {
        die("usage: host log|reply|chat|stream|queue|memory WORKLOAD LOG CALLS [...]");
    }
    audit_log_free(logger);
    return EXIT_SUCCESS;
}
