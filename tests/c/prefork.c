/*
 * A server that opens the log and then forks its workers: all of them, and the parent, call and log at
 * once. Arguments: the log's directory, the base URL of a server that repeats the prompt, how many
 * workers, how many calls and how many records on each of a worker's two threads.
 */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"

static AuditLogger *logger;
static int number, times;

static void *work(void *thread)
{
    int i;
    for (i = 0; i < times; i++) {
        char prompt[64];
        AuditChatRequest request = a_request();
        AuditRecord record = a_record();
        AuditReply *reply = NULL;

        snprintf(prompt, sizeof prompt, "%d-%ld-%d", number, (long)(size_t)thread, i);
        request.prompt = record.prompt = audit_text(prompt);
        CHECK(audit_chat(logger, &request, &reply) == AUDIT_OK);
        CHECK(strcmp(audit_reply_text(reply, AUDIT_REPLY_CONTENT, NULL), prompt) == 0);
        audit_reply_free(reply);
        EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int workers, i, status = 0;
    AuditRecord record = a_record();
    pthread_t thread;

    CHECK(argc == 5);
    alarm(60);
    logger = logger_for(argv[1], argv[2]);
    workers = atoi(argv[3]);
    times = atoi(argv[4]);
    EXPECT(audit_logger_log(logger, &record, &reply), AUDIT_OK, "");
    for (i = 1; i <= workers; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            number = i;
            break;
        }
    }
    CHECK(pthread_create(&thread, NULL, work, (void *)1) == 0);
    work((void *)0);
    CHECK(pthread_join(thread, NULL) == 0);
    audit_log_free(logger);
    for (i = 0; number == 0 && i < workers; i++) {
        CHECK(wait(&status) > 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    return 0;
}
