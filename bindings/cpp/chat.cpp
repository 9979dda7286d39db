// An audited chat call, a stream, and one that is cancelled: what examples/chat.c does, in C++.
//
//   c++ -std=c++17 chat.cpp -laudit_logger -o chat
//   OPENROUTER_API_KEY=... ./chat "Why is the sky blue?"
//
// Without a key, try it on the server in examples/server; AUDIT_BASE_URL says where it listens.
#include <cstdlib>
#include <iostream>
#include <stdexcept>

#include <audit_logger.hpp>

static int run(std::string_view prompt)
{
    // 1. Make a client: one for the whole process, shared by all threads. The key comes from the
    //    environment.
    const char *base_url = std::getenv("AUDIT_BASE_URL");
    audit::Client client("{\"output_path\": \"audit_logs\", \"base_url\": " +
                         audit::quote(base_url ? base_url : "https://openrouter.ai/api/v1") + "}");
    std::cout << "log: " << client.opened() << '\n';

    // 2. Ask. Nothing is sent unless the log can take the entry.
    audit::Request request;
    request.user_id = "user-42";
    request.prompt = prompt;
    request.metadata = R"({"feature": "example", "ticket": 7})";
    request.params = R"({"max_tokens": 200})";
    const audit::Reply reply = client.chat(request);

    // 3. The answer, and the line that now stands in today's log.
    std::cout << "answer: " << reply.text() << '\n'
              << "tokens: " << reply.number(AUDIT_REPLY_PROMPT_TOKENS).value_or(0) << " + "
              << reply.number(AUDIT_REPLY_COMPLETION_TOKENS).value_or(0) << '\n'
              << "entry: " << reply.entry() << '\n';

    // 4. The same as a stream, its pieces as they come.
    std::cout << "stream: ";
    client.chat(request, [](std::string_view piece) { std::cout << piece << std::flush; });
    std::cout << '\n';

    // 5. One that is left at its first piece. It's cancelled, and has its entry all the same.
    for (std::string_view piece : client.stream(request)) {
        std::cout << "cancelled after: " << piece << '\n';
        break;
    }

    // 6. Wait up to five seconds for calls of other threads, and have the disk confirm the log.
    client.close(5000);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    try {
        return run(argc > 1 ? argv[1] : "Say hello in one sentence.");
    } catch (const audit::Error &error) {
        // A failed call has its entry too: error.reply().entry().
        std::cerr << error.type() << ": " << error.what() << '\n';
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
    }
    return EXIT_FAILURE;
}
