/*
 * audit_logger for C++17 and later: LLM calls that each leave exactly one entry in an append-only log.
 *
 *   audit::Client client(R"({"output_path": "audit_logs"})");
 *   audit::Request request;
 *   request.user_id = "user-42";
 *   request.prompt = "Why is the sky blue?";
 *   std::cout << client.chat(request).text() << '\n';                               // waits
 *   client.chat(request, [](std::string_view part) { std::cout << part; });         // streams
 *   for (std::string_view part : client.stream(request)) std::cout << part;         // likewise
 *
 * All of it is inline, over audit_logger.h; link with -laudit_logger. No callback of C is used: a stream
 * is read from a queue, so exceptions pass where they like.
 *
 *  - What fails throws audit::Error, which has the status, the class of the error and the reply.
 *  - Texts go in as std::string_view. One that was never set is absent; "" is empty.
 *  - JSON goes in as text; audit::quote makes a JSON string of any text.
 *  - A Client may be used by any thread, several at once; of a Call only cancel may. Calls block the
 *    thread that makes or reads them.
 *  - In a child of fork a Client goes on. A Call or a Pending of before is the parent's.
 */
#ifndef AUDIT_LOGGER_HPP
#define AUDIT_LOGGER_HPP

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "audit_logger.h"

namespace audit {

/* What a function answered. Texts belong to it; a copy shares them. */
class Reply {
public:
    Reply() = default;
    /* Takes over what a function of C gave. */
    explicit Reply(AuditReply *reply) : reply_(reply, audit_reply_free) {}

    /* A field of text, one of AUDIT_REPLY_*; nothing if there is none. */
    std::optional<std::string_view> get(std::int32_t field) const
    {
        std::size_t length = 0;
        const char *text = audit_reply_text(reply_.get(), field, &length);
        return text ? std::optional<std::string_view>({text, length}) : std::nullopt;
    }

    /* A field that is a number; nothing if it isn't known. */
    std::optional<std::int64_t> number(std::int32_t field) const
    {
        const std::int64_t number = audit_reply_int(reply_.get(), field);
        return number < 0 ? std::nullopt : std::optional(number);
    }

    /* The answer, or what of it came; "" if none did. */
    std::string_view text() const { return get(AUDIT_REPLY_CONTENT).value_or(""); }
    /* The response's body, or what the function reports; "" if there is none. */
    std::string_view json() const { return get(AUDIT_REPLY_JSON).value_or(""); }
    /* The line in the log; "" if there is none. */
    std::string_view entry() const { return get(AUDIT_REPLY_ENTRY).value_or(""); }
    std::string_view entry_id() const { return get(AUDIT_REPLY_ENTRY_ID).value_or(""); }

private:
    std::shared_ptr<AuditReply> reply_;
};

/* Why something failed. */
class Error : public std::exception {
public:
    Error(AuditStatus status, Reply reply) : status_(status), reply_(std::move(reply)) {}

    /* For a person; it can repeat the provider's words. */
    const char *what() const noexcept override
    {
        const auto text = reply_.get(AUDIT_REPLY_ERROR_MESSAGE);
        return text && !text->empty() ? text->data() : audit_status_name(status_);
    }
    /* One of AUDIT_E_*. */
    AuditStatus status() const noexcept { return status_; }
    /* The class of a call's error ("RateLimitError"), otherwise the name of the status. */
    std::string_view type() const noexcept
    {
        const auto text = reply_.get(AUDIT_REPLY_ERROR_TYPE);
        return text && !text->empty() ? *text : std::string_view(audit_status_name(status_));
    }
    /* What came before the error: a part of the answer, the entry. With AUDIT_E_LOG_PENDING, all. */
    const Reply &reply() const noexcept { return reply_; }

private:
    AuditStatus status_;
    Reply reply_;
};

/* A text as a JSON string, quotes included. */
inline std::string quote(std::string_view text)
{
    std::string quoted(audit_json_quote(nullptr, 0, text.data(), text.size()), '\0');
    /* The NUL that ends a std::string is the one that it writes. */
    audit_json_quote(quoted.data(), quoted.size() + 1, text.data(), text.size());
    return quoted;
}

namespace detail {

inline Reply expect(AuditStatus status, AuditReply *reply)
{
    Reply owned(reply);
    if (status != AUDIT_OK)
        throw Error(status, std::move(owned));
    return owned;
}

/* An object of the members that are set. */
class Object {
public:
    void text(std::string_view name, std::string_view value)
    {
        if (value.data())
            json(name, quote(value));
    }
    void json(std::string_view name, std::string_view value)
    {
        if (!value.data())
            return;
        text_.append(text_.empty() ? "{\"" : ",\"").append(name).append("\":").append(value);
    }
    std::string end() && { return (text_.empty() ? "{" : std::move(text_)) + "}"; }

private:
    std::string text_;
};

}  // namespace detail

/* What a chat call asks; schema/request.json has each member. */
struct Request {
    /* Required. */
    std::string_view user_id;
    /* Required, unless params have "messages". */
    std::string_view prompt;
    std::string_view system, model;
    /* Objects of JSON. */
    std::string_view metadata, params, options;
    /* For Client::start: JSON of what events come, true, "chunks" (quoted) or "all". */
    std::string_view stream;

    std::string json() const
    {
        detail::Object object;
        object.text("user_id", user_id);
        object.text("prompt", prompt);
        object.text("system", system);
        object.text("model", model);
        object.json("metadata", metadata);
        object.json("params", params);
        object.json("options", options);
        object.json("stream", stream);
        return std::move(object).end();
    }
};

/* A call that the host makes or made itself; schema/record.json has each member. */
struct Record {
    std::string_view event_type, user_id, model, prompt, response;
    /* Both or neither. */
    std::optional<std::int64_t> prompt_tokens, completion_tokens;
    /* Finite, 0 or more; 0 to finish: the time since the call was begun. */
    double latency_ms = 0;
    /* "success" or "error"; error_type with "error" alone. */
    std::string_view status, error_type;
    /* An object of JSON. */
    std::string_view metadata;

    std::string json() const
    {
        detail::Object object;
        object.text("event_type", event_type);
        object.text("user_id", user_id);
        object.text("model", model);
        object.text("prompt", prompt);
        object.text("response", response);
        if (prompt_tokens)
            object.json("prompt_tokens", std::to_string(*prompt_tokens));
        if (completion_tokens)
            object.json("completion_tokens", std::to_string(*completion_tokens));
        object.json("latency_ms", number(latency_ms));
        object.text("status", status);
        object.text("error_type", error_type);
        object.json("metadata", metadata);
        return std::move(object).end();
    }

private:
    static std::string number(double value)
    {
        /* JSON has no infinity: the library refuses this word, and says where it stands. */
        if (!std::isfinite(value))
            return "\"not finite\"";
        char text[32];
        std::snprintf(text, sizeof text, "%.17g", value);
        /* Of a locale's. */
        for (char &letter : text)
            letter = letter == ',' ? '.' : letter;
        return text;
    }
};

/* A part of an answer that came: of its text, or with "chunks" the payload of an event. */
class Event {
public:
    explicit Event(Reply reply) : reply_(std::move(reply)) {}

    std::string_view text() const { return reply_.text(); }
    operator std::string_view() const { return text(); }
    bool is_chunk() const { return reply_.number(AUDIT_REPLY_EVENT) == AUDIT_EVENT_CHUNK; }

private:
    Reply reply_;
};

/* A call that runs: a range of what comes, and then the reply. It is cancelled when this is destroyed before
 * its end, which waits for its entry. */
class Call {
public:
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Event;
        using difference_type = std::ptrdiff_t;
        using pointer = const Event *;
        using reference = const Event &;

        Iterator() = default;
        explicit Iterator(Call *call) : call_(call) { ++*this; }
        reference operator*() const { return *event_; }
        pointer operator->() const { return &*event_; }
        Iterator &operator++()
        {
            event_ = call_->next();
            if (!event_)
                call_ = nullptr;
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const Iterator &a, const Iterator &b) { return a.call_ == b.call_; }
        friend bool operator!=(const Iterator &a, const Iterator &b) { return a.call_ != b.call_; }

    private:
        Call *call_ = nullptr;
        std::optional<Event> event_;
    };

    /* Waits for the next part; nothing when the answer is whole. Throws what the call failed with. */
    std::optional<Event> next()
    {
        while (!done_) {
            AuditReply *taken = nullptr;
            const AuditStatus status = audit_queue_next(queue_.get(), -1, &taken);
            Reply reply = detail::expect(status, taken);
            if (reply.number(AUDIT_REPLY_EVENT) != AUDIT_EVENT_DONE)
                return Event(std::move(reply));
            /* A status is negative, so number() doesn't do. */
            status_ = static_cast<AuditStatus>(audit_reply_int(taken, AUDIT_REPLY_STATUS));
            done_ = std::move(reply);
        }
        if (status_ != AUDIT_OK)
            throw Error(status_, *done_);
        return std::nullopt;
    }

    /* Waits for the end, past all that wasn't read. Throws what the call failed with. */
    Reply reply()
    {
        while (next()) {
        }
        return *done_;
    }

    /* Ends it: its reader gets an Error with AUDIT_E_CANCELLED. Any thread; a call that is over stays so. */
    void cancel() noexcept { static_cast<void>(audit_queue_cancel(queue_.get(), tag, nullptr)); }

    Iterator begin() { return Iterator(this); }
    Iterator end() { return Iterator(); }

private:
    friend class Client;
    static constexpr std::uint64_t tag = 1;

    struct Free {
        void operator()(AuditQueue *queue) const { audit_queue_free(queue); }
    };

    Call(AuditLogger *logger, std::string_view request)
    {
        AuditReply *reply = nullptr;
        AuditQueue *queue = nullptr;
        AuditStatus status = audit_queue_new(logger, nullptr, &queue, &reply);
        queue_.reset(queue);
        detail::expect(status, reply);
        status = audit_queue_submit(queue, request.data(), request.size(), tag, &reply);
        detail::expect(status, reply);
    }

    /* Of this call alone, so who reads it needs nobody to sort events. */
    std::unique_ptr<AuditQueue, Free> queue_;
    std::optional<Reply> done_;
    AuditStatus status_ = AUDIT_OK;
};

/* A call that the host is making itself. Destroyed unfinished, it is logged as an error of the class
 * "OutcomeUnknown". */
class Pending {
public:
    Pending(Pending &&other) noexcept : pending_(std::exchange(other.pending_, nullptr)) {}
    Pending &operator=(Pending &&other) noexcept
    {
        std::swap(pending_, other.pending_);
        return *this;
    }
    ~Pending()
    {
        constexpr std::string_view unknown = R"({"status":"error","error_type":"OutcomeUnknown"})";
        if (pending_)
            static_cast<void>(audit_record_finish_json(pending_, unknown.data(), unknown.size(), nullptr));
    }

    /* Writes its entry: response, tokens, latency_ms, status, error_type and metadata are read. After
     * AUDIT_E_ARGUMENT it can be called again. */
    Reply finish(const Record &record) { return finish_json(record.json()); }
    Reply finish_json(std::string_view record)
    {
        AuditReply *reply = nullptr;
        const AuditStatus status = audit_record_finish_json(pending_, record.data(), record.size(), &reply);
        if (status != AUDIT_E_ARGUMENT)
            pending_ = nullptr;
        return detail::expect(status, reply);
    }

private:
    friend class Client;
    explicit Pending(AuditPending *pending) : pending_(pending) {}

    AuditPending *pending_;
};

/* A logger, and what makes calls by it: one for the whole process, shared by all threads. */
class Client {
public:
    /* config: a JSON object; docs/configuration.md has the keys. */
    explicit Client(std::string_view config = "{}")
    {
        AuditReply *reply = nullptr;
        /* A NUL would end it, and what stands behind would be ignored: as a bad token it's refused. */
        std::string text(config);
        for (char &letter : text)
            letter = letter == '\0' ? '\1' : letter;
        const AuditStatus status = audit_logger_new(text.c_str(), &logger_, &reply);
        opened_ = detail::expect(status, reply);
    }
    /* Running calls finish. Use close to wait for them and for the disk. */
    ~Client() { audit_logger_free(logger_); }
    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;

    /* What audit_logger_new reported, as JSON: "path", "recovered", "torn", "warnings". */
    std::string_view opened() const { return opened_.json(); }

    /* Makes a call, and waits for the answer. */
    Reply chat(const Request &request) { return chat_json(request.json()); }
    Reply chat_json(std::string_view request)
    {
        AuditReply *reply = nullptr;
        const AuditStatus status = audit_chat_json(logger_, request.data(), request.size(), nullptr, &reply);
        return detail::expect(status, reply);
    }

    /* Makes a call whose text is given to a function as it comes, on this thread. An exception of the
     * function's cancels the call and comes out of here; so does returning false, as an Error. */
    template <class OnDelta>
    Reply chat(const Request &request, OnDelta &&on_delta)
    {
        Call call = stream(request);
        while (const auto event = call.next()) {
            if constexpr (std::is_void_v<std::invoke_result_t<OnDelta &, std::string_view>>) {
                on_delta(event->text());
            } else if (!on_delta(event->text())) {
                call.cancel();
                break;
            }
        }
        return call.reply();
    }

    /* Begins a call whose text is read as it comes. */
    Call stream(Request request)
    {
        if (!request.stream.data())
            request.stream = "true";
        return start(request);
    }

    /* Begins a call; Call::reply waits for its end. */
    Call start(const Request &request) { return start_json(request.json()); }
    Call start_json(std::string_view request) { return Call(logger_, request); }

    /* Logs a call that was made elsewhere. */
    Reply log(const Record &record) { return log_json(record.json()); }
    Reply log_json(std::string_view record)
    {
        AuditReply *reply = nullptr;
        const AuditStatus status = audit_record_json(logger_, record.data(), record.size(), &reply);
        return detail::expect(status, reply);
    }

    /* Writes down that the host is about to make a call: event_type, user_id, model, prompt and metadata are
     * read. Make it only if this doesn't throw. */
    Pending begin(const Record &record) { return begin_json(record.json()); }
    Pending begin_json(std::string_view record)
    {
        AuditReply *reply = nullptr;
        AuditPending *pending = nullptr;
        const AuditStatus status =
            audit_record_begin_json(logger_, record.data(), record.size(), &pending, &reply);
        detail::expect(status, reply);
        return Pending(pending);
    }

    /* The hash that the log shows for a text. */
    std::string hash(std::string_view text)
    {
        AuditReply *reply = nullptr;
        const AuditStatus status = audit_logger_hash(logger_, text.data(), text.size(), &reply);
        return std::string(detail::expect(status, reply).text());
    }

    /* The logger's health, as JSON. */
    std::string stats()
    {
        AuditReply *reply = nullptr;
        const AuditStatus status = audit_logger_stats(logger_, &reply);
        return std::string(detail::expect(status, reply).json());
    }

    /* Has the disk confirm what was written, and seals it. Negative: without a limit. If witnessed, it waits
     * until the log's witnesses have signed it too, and throws AUDIT_E_WITNESS if they haven't in time. */
    void flush(std::int64_t timeout_ms = -1, bool witnessed = false)
    {
        AuditReply *reply = nullptr;
        const char *options = witnessed ? R"({"witnessed": true})" : nullptr;
        const AuditStatus status = audit_logger_flush_with(logger_, timeout_ms, options, &reply);
        detail::expect(status, reply);
    }

    /* Waits for running calls, cancels those that are left when the time is up, and has the disk confirm the
     * log. Whoever uses the client later gets AUDIT_E_HANDLE; closing again does nothing. */
    void close(std::int64_t timeout_ms = 5000)
    {
        if (closed_.exchange(true))
            return;
        AuditReply *reply = nullptr;
        const AuditStatus status = audit_logger_close(logger_, timeout_ms, &reply);
        /* From now on the handle is no logger's, which every function says of itself. */
        audit_logger_free(logger_);
        detail::expect(status, reply);
    }

private:
    AuditLogger *logger_ = nullptr;
    Reply opened_;
    std::atomic<bool> closed_{false};
};

}  // namespace audit

#endif
