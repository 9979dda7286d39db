/*
 * A process that may make no more threads: calls go on with those that are there. Arguments: the
 * log's directory, the base URL.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host.h"

#define CALLS 40

static const char request[] = "{\"user_id\": \"user-1\", \"prompt\": \"hello\"}";

/* As a container's limit does: EAGAIN for whoever asks for a thread. */
static void refuse_threads(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program;
    program.len = sizeof code / sizeof code[0];
    program.filter = code;
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    /* The library's threads too. */
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

int main(int argc, char **argv)
{
    AuditLogger *logger;
    AuditQueue *queue, *another;
    uint64_t tag;
    int done;

    CHECK(argc == 3);
    alarm(60);
    logger = logger_for(argv[1], argv[2]);
    EXPECT(audit_queue_new(logger, NULL, &queue, &reply), AUDIT_OK, "");
    for (tag = 0; tag < CALLS; tag++) {
        EXPECT(audit_queue_submit(queue, request, sizeof request - 1, tag, &reply), AUDIT_OK, "");
        if (tag == 0)
            refuse_threads();
    }
    for (done = 0; done < CALLS; done++) {
        AuditReply *event;
        CHECK(audit_queue_next(queue, 20000, &event) == AUDIT_OK);
        CHECK(audit_reply_int(event, AUDIT_REPLY_STATUS) == AUDIT_OK);
        audit_reply_free(event);
    }
    {
        AuditReply *stats;
        CHECK(audit_logger_stats(logger, &stats) == AUDIT_OK);
        CHECK(strstr(audit_reply_text(stats, AUDIT_REPLY_JSON, NULL), "\"threads_refused\":0,")
              == NULL);
        audit_reply_free(stats);
    }
    /* Where there is none at all, nothing is taken that nobody would make. */
    EXPECT(audit_queue_new(logger, NULL, &another, &reply), AUDIT_OK, "");
    EXPECT(audit_queue_submit(another, request, sizeof request - 1, 1, &reply), AUDIT_E_INTERNAL,
           "no thread");
    EXPECT(audit_queue_next(another, 0, &reply), AUDIT_E_TIMEOUT, "");
    audit_queue_free(another);
    audit_queue_free(queue);
    audit_log_free(logger);
    return 0;
}
