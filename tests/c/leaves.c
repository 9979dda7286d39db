/*
 * A host that leaves its calls: by longjmp, by the end of their thread, by never returning from a
 * callback, by exit. Arguments: the log's directory, the base URL of a server that streams a little and
 * then is silent, the way to leave.
 */
#include <alloca.h>
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger;
static jmp_buf back;
static sem_t inside, leave;
static AuditStatus status_of_thread;

static int32_t jump(const char *text, size_t len, void *context)
{
    (void)context;
    CHECK(text[len] == '\0');
    longjmp(back, 1);
}

static int32_t end_thread(const char *text, size_t len, void *context)
{
    (void)text, (void)len, (void)context;
    pthread_exit(NULL);
}

static int32_t cancel_thread(const char *text, size_t len, void *context)
{
    (void)text, (void)len, (void)context;
    CHECK(pthread_cancel(pthread_self()) == 0);
    pthread_testcancel();
    return AUDIT_CONTINUE;
}

static int32_t wait_for_leave(const char *text, size_t len, void *context)
{
    char before[64];
    (void)context;
    CHECK(len < sizeof before);
    memcpy(before, text, len + 1);
    sem_post(&inside);
    sem_wait(&leave);
    CHECK(memcmp(before, text, len + 1) == 0);
    return AUDIT_CONTINUE;
}

static int32_t exit_at_once(const char *text, size_t len, void *context)
{
    (void)text, (void)len, (void)context;
    exit(0);
}

static AuditStatus ask(AuditCallback callback, const char *options)
{
    AuditChatRequest request = a_request();
    AuditReply *reply = NULL;
    AuditStatus status;
    request.on_delta = callback;
    request.options = audit_text(options);
    status = audit_chat(logger, &request, &reply);
    audit_reply_free(reply);
    return status;
}

/* Jumps from a call that a callback of another makes. */
static int32_t ask_and_jump(const char *text, size_t len, void *context)
{
    (void)text, (void)len, (void)context;
    ask(jump, NULL);
    return AUDIT_CONTINUE;
}

static void leave_by(AuditCallback callback)
{
    if (setjmp(back) == 0) {
        ask(callback, NULL);
        CHECK(!"the callback returned");
    }
}

static int descriptors(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void nothing_runs(void)
{
    AuditReply *reply = NULL;
    CHECK(audit_logger_stats(logger, &reply) == AUDIT_OK);
    CHECK(strstr(audit_reply_text(reply, AUDIT_REPLY_JSON, NULL), "\"running\":0,") != NULL);
    audit_reply_free(reply);
}

/* From where the stack has grown over the frames that were left. */
static void nothing_runs_seen_from_below(void)
{
    volatile char *room = alloca(64 * 1024);
    size_t at;
    for (at = 0; at < 64 * 1024; at++)
        room[at] = 7;
    nothing_runs();
}

static void *ask_and_end_thread(void *callback)
{
    ask(*(AuditCallback *)callback, NULL);
    CHECK(!"the thread goes on");
    return NULL;
}

static void *ask_and_wait(void *unused)
{
    status_of_thread = ask(wait_for_leave, NULL);
    return unused;
}

static void *ask_and_jump_and_wait(void *unused)
{
    if (setjmp(back) == 0)
        ask(jump, "{\"timeout_ms\": 1000}");
    sem_post(&inside);
    sem_wait(&leave);
    return unused;
}

static void *ask_for_ever(void *unused)
{
    ask(wait_for_leave, NULL);
    return unused;
}

static int32_t note(const char *text, size_t len, void *context)
{
    (void)text, (void)len, (void)context;
    sem_post(&inside);
    return AUDIT_CONTINUE;
}

static void *ask_in_silence(void *unused)
{
    ask(note, NULL);
    return unused;
}

int main(int argc, char **argv)
{
    const char *way;
    pthread_t thread;
    int before, i;

    CHECK(argc == 4);
    way = argv[3];
    alarm(60);
    CHECK(sem_init(&inside, 0, 0) == 0 && sem_init(&leave, 0, 0) == 0);
    logger = logger_for(argv[1], argv[2]);
    /* What is made once is there. */
    leave_by(jump);
    nothing_runs();
    before = descriptors();

    if (strcmp(way, "jump") == 0) {
        for (i = 0; i < 20; i++)
            leave_by(jump);
    } else if (strcmp(way, "below") == 0) {
        leave_by(jump);
        nothing_runs_seen_from_below();
    } else if (strcmp(way, "nested") == 0) {
        leave_by(ask_and_jump);
    } else if (strcmp(way, "thread") == 0 || strcmp(way, "cancel") == 0) {
        AuditCallback callback = way[0] == 't' ? end_thread : cancel_thread;
        CHECK(pthread_create(&thread, NULL, ask_and_end_thread, &callback) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    } else if (strcmp(way, "blocked") == 0) {
        CHECK(pthread_create(&thread, NULL, ask_and_wait, NULL) == 0);
        sem_wait(&inside);
        EXPECT(audit_logger_close(logger, 100, &reply), AUDIT_E_TIMEOUT, "their entries are written");
        nothing_runs();
        sem_post(&leave);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(status_of_thread == AUDIT_E_CANCELLED);
        audit_log_free(logger);
        return 0;
    } else if (strcmp(way, "late") == 0) {
        /* Its thread lives on and does nothing: who closes notices, once the call's time is over. */
        CHECK(pthread_create(&thread, NULL, ask_and_jump_and_wait, NULL) == 0);
        sem_wait(&inside);
        CHECK(audit_logger_close(logger, -1, NULL) == AUDIT_OK);
        sem_post(&leave);
        CHECK(pthread_join(thread, NULL) == 0);
        audit_log_free(logger);
        return 0;
    } else if (strcmp(way, "exit") == 0) {
        for (i = 0; i < 8; i++)
            CHECK(pthread_create(&thread, NULL, i % 2 ? ask_for_ever : ask_in_silence, NULL) == 0);
        for (i = 0; i < 8; i++)
            sem_wait(&inside);
        return 0;
    } else if (strcmp(way, "exit_inside") == 0) {
        ask(exit_at_once, NULL);
    } else {
        CHECK(!"a way to leave");
    }
    nothing_runs();
    /* The log's thread has some open now and then. */
    while (descriptors() > before)
        usleep(1000);
    CHECK(audit_logger_close(logger, 5000, NULL) == AUDIT_OK);
    audit_log_free(logger);
    return 0;
}
