// What the table of conformance can't say of audit_logger.hpp. Arguments: the server, a directory for logs.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <audit_logger.hpp>

#define CHECK(condition)                                                                            \
    do {                                                                                             \
        if (!(condition))                                                                            \
            throw std::runtime_error(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": " #condition); \
    } while (0)

/* Where an exception should have come from. */
#define MISSED() throw std::runtime_error("nothing was thrown before line " + std::to_string(__LINE__))

static std::string server, directory;

static std::string config(const std::string &name)
{
    return "{\"output_path\": " + audit::quote(directory + "/" + name) + ", \"base_url\": " + audit::quote(server) +
           ", \"api_key\": \"sk-test\", \"max_retries\": 0}";
}

static std::vector<std::string> lines(const std::string &name)
{
    std::vector<std::string> found;
    for (const auto &item : std::filesystem::directory_iterator(directory + "/" + name)) {
        std::ifstream day(item.path().extension() == ".jsonl" ? item.path() : "");
        for (std::string line; std::getline(day, line);)
            found.push_back(line);
    }
    return found;
}

static bool has(std::string_view text, std::string_view part)
{
    return text.find(part) != std::string_view::npos;
}

static audit::Request asking(std::string_view model)
{
    audit::Request request;
    request.user_id = "user-1";
    request.prompt = "hello";
    request.model = model;
    return request;
}

static void an_exception_of_the_reader_cancels_and_comes_out()
{
    struct Mine {
        int number;
    };
    audit::Client client(config("exception"));
    try {
        client.chat(asking("test/endless"), [](std::string_view) { throw Mine{7}; });
        MISSED();
    } catch (const Mine &mine) {
        CHECK(mine.number == 7);
    }
    // It is over: its entry stands there already.
    const auto logged = lines("exception");
    CHECK(logged.size() == 1 && has(logged[0], "\"error_type\":\"Cancelled\""));
}

static void a_range_that_is_left_cancels()
{
    audit::Client client(config("range"));
    for (std::string_view delta : client.stream(asking("test/endless"))) {
        CHECK(delta == "again ");
        break;
    }
    CHECK(has(lines("range").at(0), "\"error_type\":\"Cancelled\""));
}

static void a_range_throws_what_the_call_failed_with()
{
    audit::Client client(config("range_error"));
    std::string heard;
    try {
        for (std::string_view delta : client.stream(asking("test/cut")))
            heard += delta;
        MISSED();
    } catch (const audit::Error &error) {
        CHECK(error.status() == AUDIT_E_CALL && error.type() == "APIConnectionError");
        CHECK(heard == "You said: " || heard == "You ");
        CHECK(error.reply().text() == heard);
        const audit::Error copy = error;
        CHECK(copy.reply().entry() == lines("range_error").at(0));
    }
}

static void another_thread_cancels()
{
    audit::Client client(config("thread"));
    audit::Call call = client.start(asking("test/hang"));
    std::thread other([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        call.cancel();
    });
    try {
        call.reply();
        MISSED();
    } catch (const audit::Error &error) {
        CHECK(error.status() == AUDIT_E_CANCELLED);
    }
    other.join();
    // A call that is over stays so.
    call.cancel();
}

static void a_record_that_is_left_has_its_entry()
{
    audit::Client client(config("pending"));
    audit::Record record;
    record.user_id = "user-1";
    record.model = "some/model";
    record.prompt = "prompt";
    try {
        audit::Pending first = client.begin(record);
        audit::Pending moved = std::move(first);
        throw std::runtime_error("of the host's own client");
    } catch (const std::runtime_error &) {
    }
    const auto logged = lines("pending");
    CHECK(logged.size() == 1 && has(logged[0], "\"error_type\":\"OutcomeUnknown\""));
    record.response = "response";
    record.prompt_tokens = 5;
    record.completion_tokens = 7;
    record.latency_ms = 12.5;
    record.status = "success";
    const auto line = client.begin(record).finish(record);
    CHECK(has(line.entry(), "\"prompt_tokens\":5,\"completion_tokens\":7,\"latency_ms\":12.5,\"status\":\"success\""));
    record.latency_ms = std::numeric_limits<double>::infinity();
    try {
        client.log(record);
        MISSED();
    } catch (const audit::Error &error) {
        CHECK(error.status() == AUDIT_E_ARGUMENT && has(error.what(), "latency_ms"));
    }
}

static void threads_share_a_client()
{
    audit::Client client(config("threads"));
    std::vector<std::thread> threads;
    std::atomic<int> right{0};
    for (int number = 0; number < 32; number++)
        threads.emplace_back([&, number] {
            const std::string prompt = "number " + std::to_string(number);
            audit::Request request = asking("");
            request.model = {};
            request.prompt = prompt;
            right += client.chat(request).text() == "You said: " + prompt;
        });
    for (std::thread &thread : threads)
        thread.join();
    CHECK(right == 32);
    client.close();
    client.close();
    CHECK(lines("threads").size() == 32);
}

static void a_child_of_fork_goes_on()
{
    audit::Client client(config("fork"));
    client.chat(asking("test/a"));
    audit::Call parents = client.start(asking("test/hang"));
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int wrong = 1;
        try {
            parents.reply();
        } catch (const audit::Error &error) {
            wrong = error.status() != AUDIT_E_FORKED;
        }
        try {
            wrong += client.chat(asking("test/b")).text() != "You said: hello";
            client.close();
        } catch (const audit::Error &) {
            wrong++;
        }
        _exit(wrong);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    { audit::Call ended = std::move(parents); }
    CHECK(lines("fork").size() == 3);
}

static void a_configuration_does_not_end_at_a_nul()
{
    const std::string text = config("nul") + std::string("\0garbage", 8);
    try {
        audit::Client client(text);
        MISSED();
    } catch (const audit::Error &error) {
        CHECK(error.status() == AUDIT_E_CONFIG);
    }
}

static void texts_are_quoted()
{
    CHECK(audit::quote("") == "\"\"");
    CHECK(audit::quote(std::string_view("a\0\"\n", 4)) == "\"a\\u0000\\\"\\n\"");
    audit::Request request;
    CHECK(request.json() == "{}");
    request.prompt = "";
    CHECK(request.json() == "{\"prompt\":\"\"}");
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    server = argv[1];
    directory = argv[2];
    alarm(120);
    try {
        an_exception_of_the_reader_cancels_and_comes_out();
        a_range_that_is_left_cancels();
        a_range_throws_what_the_call_failed_with();
        another_thread_cancels();
        a_record_that_is_left_has_its_entry();
        threads_share_a_client();
        a_child_of_fork_goes_on();
        a_configuration_does_not_end_at_a_nul();
        texts_are_quoted();
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
    return 0;
}
