/*
 * Exceptions of a callback's come out of the call, and what they pass is destroyed. Arguments: the log's
 * directory, the base URL of a server that streams a little and then is silent.
 */
#include "host.h"

#include <stdexcept>
#include <string>

static int destroyed;

struct Guard {
    ~Guard() { destroyed++; }
};

static int32_t throws(const char *text, size_t len, void *)
{
    Guard guard;
    throw std::runtime_error(std::string(text, len));
}

static AuditStatus ask(AuditLogger *logger)
{
    Guard guard;
    AuditReply *reply = NULL;
    AuditChatRequest request = a_request();
    request.on_delta = throws;
    return audit_chat(logger, &request, &reply);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    AuditLogger *logger = logger_for(argv[1], argv[2]);
    for (int calls = 1; calls <= 3; calls++) {
        std::string caught;
        try {
            ask(logger);
        } catch (const std::runtime_error &error) {
            caught = error.what();
        }
        CHECK(caught == "a");
        CHECK(destroyed == 2 * calls);
    }
    CHECK(audit_logger_close(logger, 5000, NULL) == AUDIT_OK);
    audit_logger_free(logger);
    return 0;
}
