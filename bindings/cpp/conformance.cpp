// Runs the table of conformance (conformance/README.md) through audit_logger.hpp.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <thread>
#include <vector>

#include <audit_logger.hpp>
#include <nlohmann/json.hpp>

using nlohmann::json;
using Words = std::vector<std::pair<std::string, std::string>>;

// A value of the table as a runner uses it.
static json expand(const json &value, const Words &words)
{
    if (value.is_string()) {
        auto text = value.get<std::string>();
        for (const auto &[name, word] : words)
            for (std::size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += word.size())
                text.replace(at, name.size(), word);
        return text;
    }
    if (value.is_object() && value.contains("$text")) {
        std::string text;
        const json &parts = value["$text"];
        for (std::size_t at = 0; at < parts.size(); at += 2)
            for (int count = parts[at + 1]; count > 0; count--)
                text += parts[at].get<std::string>();
        return text;
    }
    json made = value;
    if (made.is_structured()) {
        for (auto &item : made)
            item = expand(item, words);
    }
    return made;
}

// Why a value isn't what is expected; "" if it is. An actual nullptr is a member that isn't there.
static std::string differs(const json &expected, const json *actual, const std::string &place)
{
    const auto wrong = [&] {
        const std::string shown = actual ? actual->dump() : "nothing";
        return place + ": " + shown.substr(0, 200) + " instead of " + expected.dump().substr(0, 200);
    };
    const std::string kind = expected.is_string() ? expected.get<std::string>() : "";
    if (kind == "$absent")
        return actual ? wrong() : "";
    if (!actual)
        return wrong();
    const std::string text = actual->is_string() ? actual->get<std::string>() : "";
    const auto is = [&](const char *letters, std::size_t length) {
        return text.size() == length && text.find_first_not_of(letters) == std::string::npos;
    };
    if (kind == "$any")
        return "";
    if (kind == "$text")
        return text.empty() ? wrong() : "";
    if (kind == "$number")
        return actual->is_number() && *actual >= 0 ? "" : wrong();
    if (kind == "$uuid")
        return is("0123456789abcdef-", 36) ? "" : wrong();
    if (kind == "$hash")
        return is("0123456789abcdef", 64) ? "" : wrong();
    if (kind == "$timestamp")
        return is("0123456789-T:.Z", 27) && text[10] == 'T' && text[26] == 'Z' ? "" : wrong();
    if (expected.is_object()) {
        for (const auto &[key, value] : expected.items()) {
            const auto found = actual->find(key);
            const bool there = actual->is_object() && found != actual->end();
            const auto why = differs(value, there ? &*found : nullptr, place + "." + key);
            if (!why.empty())
                return why;
        }
        return "";
    }
    if (expected.is_array()) {
        if (!actual->is_array() || actual->size() != expected.size())
            return wrong();
        for (std::size_t at = 0; at < expected.size(); at++) {
            const auto why = differs(expected[at], &(*actual)[at], place + "[" + std::to_string(at) + "]");
            if (!why.empty())
                return why;
        }
        return "";
    }
    return expected == *actual ? "" : wrong();
}

static json parsed(std::string_view text)
{
    json value = json::parse(text, nullptr, false);
    return value.is_discarded() ? json() : value;
}

// What a step came to.
struct Came {
    AuditStatus status = AUDIT_OK;
    std::string type, message;
    audit::Reply reply;
    // The result of a function that gives a text or JSON and no reply.
    std::string text, report;
    json deltas = json::array(), chunks = json::array();

    std::string differs_from(json expected) const
    {
        const std::map<std::string, std::string_view> parts{{"message", message}, {"line", reply.entry()}};
        for (const auto &[name, whole] : parts) {
            if (expected.contains(name)) {
                const auto part = expected[name].get<std::string>();
                if (whole.find(part) == std::string_view::npos)
                    return name + ": \"" + part + "\" isn't in " + std::string(whole.substr(0, 200));
                expected.erase(name);
            }
        }
        const auto content = reply.get(AUDIT_REPLY_CONTENT);
        const std::string answer(content ? *content : text);
        const auto word = [&](std::int32_t field) {
            const auto found = reply.get(field);
            return found ? json(std::string(*found)) : json();
        };
        const auto number = [&](std::int32_t field) {
            const auto found = reply.number(field);
            return found ? json(*found) : json();
        };
        static const char *const outcomes[] = {"AUDIT_OUTCOME_NOT_SENT", "AUDIT_OUTCOME_ANSWERED",
                                               "AUDIT_OUTCOME_UNKNOWN"};
        const auto outcome = reply.number(AUDIT_REPLY_OUTCOME);
        const json shown = {
            {"status", audit_status_name(status)},
            {"error_type", type},
            {"text", answer},
            {"text_json", parsed(answer)},
            {"json", parsed(report.empty() ? reply.json() : report)},
            {"entry", parsed(reply.entry())},
            {"deltas", deltas},
            {"chunks", chunks},
            {"reply",
             {{"finish_reason", word(AUDIT_REPLY_FINISH_REASON)},
              {"model", word(AUDIT_REPLY_MODEL)},
              {"provider", word(AUDIT_REPLY_PROVIDER)},
              {"generation_id", word(AUDIT_REPLY_GENERATION_ID)},
              {"provider_error_type", word(AUDIT_REPLY_PROVIDER_ERROR_TYPE)},
              {"http_status", number(AUDIT_REPLY_HTTP_STATUS)},
              {"outcome", outcome ? json(outcomes[*outcome]) : json()},
              {"prompt_tokens", number(AUDIT_REPLY_PROMPT_TOKENS)},
              {"completion_tokens", number(AUDIT_REPLY_COMPLETION_TOKENS)},
              {"retry_after_ms", number(AUDIT_REPLY_RETRY_AFTER_MS)},
              {"attempts", number(AUDIT_REPLY_ATTEMPTS)}}}};
        const auto why = differs(expected, &shown, "");
        return why.empty() || message.empty() ? why : why + " (" + message.substr(0, 200) + ")";
    }
};

class Runner {
public:
    Runner(std::string config, Words words) : words_(std::move(words)), client_(config) {}

    // Why a step didn't come to what it should have; "" if it did.
    std::string check(const json &given)
    {
        if (given["do"] == "together")
            return together(given);
        const json step = expand(given, words_);
        const Came came = caught([&](Came &into) { act(step, into); });
        return note(came, step.value("expect", json::object()));
    }

    std::vector<std::string> entries;
    bool closed = false;

    void close(std::int64_t timeout)
    {
        closed = true;
        client_.close(timeout);
    }

    std::string_view opened() const { return client_.opened(); }

    template <class Act>
    static Came caught(Act act)
    {
        Came came;
        try {
            act(came);
        } catch (const audit::Error &error) {
            came.status = error.status();
            came.type = error.type();
            came.message = error.what();
            came.reply = error.reply();
        }
        return came;
    }

private:
    std::string note(const Came &came, const json &expected)
    {
        if (!came.reply.entry().empty())
            entries.emplace_back(came.reply.entry());
        return came.differs_from(expected);
    }

    static void read(audit::Call &call, Came &into)
    {
        while (const auto event = call.next())
            (event->is_chunk() ? into.chunks : into.deltas)
                .push_back(event->is_chunk() ? parsed(*event) : json(std::string(*event)));
        into.reply = call.reply();
    }

    // The request as a user of the package makes it, where it has a member for all of it.
    template <class Use>
    static auto with_request(const json &step, Use use)
    {
        const json &given = step["request"];
        std::map<std::string, std::string> kept;
        audit::Request request;
        const std::map<std::string, std::string_view *> members{
            {"user_id", &request.user_id}, {"prompt", &request.prompt},   {"system", &request.system},
            {"model", &request.model},     {"metadata", &request.metadata}, {"params", &request.params},
            {"options", &request.options}, {"stream", &request.stream}};
        for (const auto &[name, value] : given.items()) {
            if (!members.count(name)) {
                request = {};
                kept = {{"", given.dump()}};
                break;
            }
            const bool text = value.is_string() && name != "stream";
            *members.at(name) = kept[name] = text ? std::string(value) : value.dump();
        }
        return use(request, kept.count("") ? kept[""] : "");
    }

    audit::Call start(const json &step)
    {
        return with_request(step, [&](const audit::Request &request, const std::string &other) {
            return other.empty() ? client_.start(request) : client_.start_json(other);
        });
    }

    void chat(const json &step, Came &into)
    {
        if (step.contains("request_text")) {
            into.reply = client_.chat_json(step["request_text"].get<std::string>());
        } else if (step.contains("stop_after")) {
            with_request(step, [&](const audit::Request &request, const std::string &) {
                int left = step["stop_after"];
                into.reply = client_.chat(request, [&](std::string_view delta) {
                    into.deltas.push_back(std::string(delta));
                    return --left > 0;
                });
            });
        } else if (step["request"].value("stream", json()).is_null()) {
            with_request(step, [&](const audit::Request &request, const std::string &other) {
                into.reply = other.empty() ? client_.chat(request) : client_.chat_json(other);
            });
        } else {
            audit::Call call = start(step);
            read(call, into);
        }
    }

    void act(const json &step, Came &into)
    {
        const std::string what = step["do"], name = step.value("as", "");
        const std::int64_t timeout = step.value("timeout_ms", -1);
        const std::string record = step.value("record", json()).dump();
        if (what == "chat")
            chat(step, into);
        else if (what == "start")
            calls_.emplace(name, start(step));
        else if (what == "cancel")
            calls_.at(name).cancel();
        else if (what == "await")
            read(calls_.at(name), into);
        else if (what == "sleep")
            std::this_thread::sleep_for(std::chrono::milliseconds(step["ms"].get<int>()));
        else if (what == "log")
            into.reply = client_.log_json(record);
        else if (what == "begin")
            begun_.emplace(name, client_.begin_json(record));
        else if (what == "finish")
            into.reply = begun_.at(name).finish_json(record);
        else if (what == "flush")
            client_.flush(timeout, step.value("witnessed", false));
        else if (what == "stats")
            into.report = client_.stats();
        else if (what == "hash")
            into.text = client_.hash(step["text"].get<std::string>());
        else if (what == "close")
            close(timeout);
        else
            throw std::runtime_error("no step is called " + what);
    }

    std::string together(const json &given)
    {
        std::vector<json> steps;
        for (int number = 0; number < given["count"].get<int>(); number++) {
            Words words = words_;
            words.emplace_back("$N", std::to_string(number));
            steps.push_back(expand(given, words));
        }
        std::vector<audit::Call> calls;
        for (const json &step : steps)
            calls.push_back(start(step));
        std::string wrong;
        for (std::size_t at = 0; at < calls.size(); at++) {
            const Came came = caught([&](Came &into) { read(calls[at], into); });
            const auto why = note(came, steps[at]["expect"]);
            wrong = wrong.empty() ? why : wrong;
        }
        return wrong;
    }

    Words words_;
    audit::Client client_;
    std::map<std::string, audit::Call> calls_;
    std::map<std::string, audit::Pending> begun_;
};

static std::string run(const json &test, const std::string &server, const std::filesystem::path &directory)
{
    const std::string name = test["name"];
    std::string file = name;
    file[file.find('/')] = '-';
    const auto log = directory / file;
    const Words words{{"$SERVER", server}, {"$LOG", log}, {"$CASE", name}};
    json config{{"output_path", log}, {"base_url", server}, {"api_key", "sk-test"}, {"max_retries", 0}};
    config.update(expand(test.value("config", json::object()), words));
    std::unique_ptr<Runner> runner;
    Came opened = Runner::caught([&](Came &into) {
        runner = std::make_unique<Runner>(config.dump(), words);
        into.report = runner->opened();
    });
    auto why = opened.differs_from(test.value("open", json{{"status", "AUDIT_OK"}}));
    if (!why.empty() || !runner)
        return why.empty() ? "" : "opening: " + why;
    for (const json &step : test.value("steps", json::array())) {
        why = runner->check(step);
        if (!why.empty())
            return step["do"].get<std::string>() + ": " + why;
    }
    if (!runner->closed)
        runner->close(30000);
    std::vector<std::string> lines;
    for (const auto &item : std::filesystem::directory_iterator(log)) {
        std::ifstream day(item.path().extension() == ".jsonl" ? item.path() : "");
        for (std::string line; std::getline(day, line);)
            lines.push_back(line);
    }
    if (lines.size() != test["entries"].get<std::size_t>())
        return "the log holds " + std::to_string(lines.size());
    for (const std::string &entry : runner->entries)
        if (std::find(lines.begin(), lines.end(), entry) == lines.end())
            return "not in the log: " + entry;
    return "";
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        std::cerr << "usage: conformance CASES SERVER DIRECTORY\n";
        return 2;
    }
    int failed = 0;
    std::ifstream table(argv[1]);
    for (const json &test : json::parse(table)) {
        std::string why;
        try {
            why = run(test, argv[2], argv[3]);
        } catch (const std::exception &error) {
            why = error.what();
        }
        failed += !why.empty();
        std::cout << json{{"case", test["name"]}, {"result", why.empty() ? "pass" : "fail"}, {"reason", why}}.dump()
                  << std::endl;
    }
    return failed > 0;
}
