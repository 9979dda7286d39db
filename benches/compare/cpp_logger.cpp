/*
 * The audit log as one would write it in C++: spdlog's daily sink, flushed after each entry,
 * OpenSSL, nlohmann::json and libuuid. The same fields in the same order as audit_logger_log.
 *
 * usage: cpp_logger WORKLOAD LOG CALLS
 */
#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>
#include <spdlog/sinks/daily_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "measure.h"

namespace {

struct Record {
    std::string user_id, model, prompt, response;
    long prompt_tokens, completion_tokens;
    double latency_ms;
    nlohmann::ordered_json metadata;
};

class AuditLogger {
public:
    explicit AuditLogger(const std::string &directory)
        : log_(spdlog::daily_logger_mt("audit", directory + "/audit.jsonl")),
          sha256_(EVP_MD_fetch(nullptr, "SHA256", nullptr), EVP_MD_free)
    {
        char name[256] = {};
        gethostname(name, sizeof name - 1);
        host_ = name;
        log_->set_pattern("%v");
        log_->flush_on(spdlog::level::info);
    }

    void log(const Record &record)
    {
        const nlohmann::ordered_json entry = {
            {"id", new_id()},
            {"timestamp", now()},
            {"event_type", "chat_completion"},
            {"user_id", record.user_id},
            {"model", record.model},
            {"prompt_hash", hash(record.prompt)},
            {"response_hash", hash(record.response)},
            {"prompt_tokens", record.prompt_tokens},
            {"completion_tokens", record.completion_tokens},
            {"latency_ms", record.latency_ms},
            {"status", "success"},
            {"error_type", nullptr},
            {"metadata", record.metadata},
            {"details", {{"schema", 1}, {"host", host_}, {"pid", getpid()}}},
        };
        log_->info(entry.dump());
    }

private:
    std::string hash(const std::string &text) const
    {
        static const char digits[] = "0123456789abcdef";
        std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
        unsigned length = 0;
        if (EVP_Digest(text.data(), text.size(), digest.data(), &length, sha256_.get(), nullptr)
            != 1) {
            die("SHA-256 failed");
        }
        std::string hex;
        hex.reserve(2 * length);
        for (unsigned i = 0; i < length; i++) {
            hex += digits[digest[i] >> 4];
            hex += digits[digest[i] & 15];
        }
        return hex;
    }

    static std::string new_id()
    {
        uuid_t id;
        char text[UUID_STR_LEN];
        uuid_generate_random(id);
        uuid_unparse_lower(id, text);
        return text;
    }

    static std::string now()
    {
        const auto since = std::chrono::system_clock::now().time_since_epoch();
        const auto us = std::chrono::duration_cast<std::chrono::microseconds>(since).count();
        const std::time_t seconds = us / 1000000;
        std::tm utc{};
        gmtime_r(&seconds, &utc);
        char date[32], text[48];
        std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
        std::snprintf(text, sizeof text, "%s.%06dZ", date, static_cast<int>(us % 1000000));
        return text;
    }

    std::shared_ptr<spdlog::logger> log_;
    std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)> sha256_;
    std::string host_;
};

std::string text_of(const std::string &path)
{
    size_t len = 0;
    char *text = read_file(path.c_str(), &len);
    std::string copy(text, len);
    free(text);
    return copy;
}

}  // namespace

int main(int argc, char **argv)
{
    if (argc != 4) {
        die("usage: cpp_logger WORKLOAD LOG CALLS");
    }
    const std::string workload = argv[1];
    const long calls = number(argv[3]);
    const Record record = {
        "user-42",
        "openai/gpt-4-turbo",
        text_of(workload + "/prompt.txt"),
        text_of(workload + "/answer.txt"),
        512,
        256,
        812.5,
        nlohmann::ordered_json::parse(text_of(workload + "/metadata.json")),
    };
    AuditLogger logger(argv[2]);

    for (long i = 0; i < calls / 10; i++) {
        logger.log(record);
    }
    const Moment start = moment();
    for (long i = 0; i < calls; i++) {
        logger.log(record);
    }
    print_since(start, calls);
    return EXIT_SUCCESS;
}
