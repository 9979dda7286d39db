/*
 * Linked with the static library and another one of Rust's: each holds its own panics, and this
 * program's exceptions go where they should. Arguments: the log's directory, the server's base URL,
 * the name of the status that a call ends with.
 */
#include "host.h"

#include <stdexcept>
#include <string>

extern "C" int other_catches(void);

static int unwound;

struct Frame {
    ~Frame() { unwound++; }
};

static int throws(int depth)
{
    Frame frame;
    if (depth == 0)
        throw std::runtime_error("thrown");
    return throws(depth - 1) + 1;
}

static bool exceptions_work()
{
    unwound = 0;
    try {
        throws(9);
    } catch (const std::runtime_error &error) {
        return unwound == 10 && error.what() == std::string("thrown");
    }
    return false;
}

int main(int argc, char **argv)
{
    AuditChatRequest request = a_request();
    AuditRecord record = a_record();
    AuditReply *reply;

    CHECK(argc == 4);
    CHECK(other_catches() && exceptions_work());
    AuditLogger *logger = logger_for(argv[1], argv[2]);
    AuditStatus status = audit_chat(logger, &request, &reply);
    CHECK(audit_status_name(status) == std::string(argv[3]));
    audit_reply_free(reply);
    CHECK(other_catches() && exceptions_work());
    CHECK(audit_logger_log(logger, &record, NULL) == AUDIT_OK);
    CHECK(audit_logger_close(logger, 1000, NULL) == AUDIT_OK);
    audit_log_free(logger);
    return 0;
}
