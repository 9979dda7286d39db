// Package auditlogger makes LLM calls that each leave exactly one entry in an append-only log.
//
//	client, err := auditlogger.New(map[string]any{"output_path": "audit_logs"})
//	...
//	reply, err := client.Chat(ctx, auditlogger.Request{UserID: "user-42", Prompt: "Why is the sky blue?"})
//	for event, err := range client.Stream(ctx, request) { ... }
//
// It links the library that it comes with. With the build tag audit_dynamic it links the shared one that is
// installed, as pkg-config finds it.
//
// Calls are made by the library's own threads; a goroutine that waits for one takes none, and one thread of
// Go's waits for all of them.
package auditlogger

// #cgo CFLAGS: -I${SRCDIR} -I${SRCDIR}/../../include
// #include <stdlib.h>
// #include "audit_logger.h"
import "C"

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
	"unsafe"
)

// Status is what a function of the library returned. As an error it's what errors.Is finds in an *Error.
type Status int32

// What can come; include/audit_logger.h says of each what it means.
const (
	OK         = Status(C.AUDIT_OK)
	Argument   = Status(C.AUDIT_E_ARGUMENT)
	Handle     = Status(C.AUDIT_E_HANDLE)
	Config     = Status(C.AUDIT_E_CONFIG)
	Log        = Status(C.AUDIT_E_LOG)
	LogPending = Status(C.AUDIT_E_LOG_PENDING)
	Call       = Status(C.AUDIT_E_CALL)
	Cancelled  = Status(C.AUDIT_E_CANCELLED)
	Timeout    = Status(C.AUDIT_E_TIMEOUT)
	Witness    = Status(C.AUDIT_E_WITNESS)
	Internal   = Status(C.AUDIT_E_INTERNAL)
)

// Error returns the status's name in C, such as "AUDIT_E_CALL".
func (s Status) Error() string { return C.GoString(C.audit_status_name(C.AuditStatus(s))) }

// Error is why something failed.
type Error struct {
	Status Status
	// Type is the class of a call's error ("RateLimitError"), otherwise the status's name.
	Type string
	// Message is for a person; it can repeat the provider's words.
	Message string
	// Reply is what came before the error: a part of the answer, the entry. With LogPending it's all.
	// Never nil.
	Reply *Reply

	cause error
}

func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Unwrap gives the status, and what ended the context if that ended the call.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Status}
	}
	return []error{e.Status, e.cause}
}

// Outcome is how far a call came.
type Outcome int64

const (
	// NotSent: no byte of the request was sent.
	NotSent = Outcome(C.AUDIT_OUTCOME_NOT_SENT)
	// Answered: the server answered, be it with an error.
	Answered = Outcome(C.AUDIT_OUTCOME_ANSWERED)
	// Unknown: no complete answer came; it may have been processed and billed.
	Unknown = Outcome(C.AUDIT_OUTCOME_UNKNOWN)
)

// Reply is what a function answered. A text that there isn't is "", a number that isn't known is -1.
type Reply struct {
	// Text is the answer, or what of it came.
	Text string
	// JSON is the response's body, or what a function reports.
	JSON string
	// Entry is the line in the log.
	Entry, EntryID                                           string
	FinishReason, Model, Provider, GenerationID              string
	ProviderErrorType                                        string
	HTTPStatus, PromptTokens, CompletionTokens, RetryAfterMS int64
	Attempts                                                 int64
	Outcome                                                  Outcome
}

// Request is what a chat call asks; schema/request.json has each member. An empty text is absent. Metadata,
// Params and Options are anything that encoding/json makes an object of; a json.RawMessage keeps its digits.
type Request struct {
	UserID   string `json:"user_id,omitempty"`
	Prompt   string `json:"prompt,omitempty"`
	System   string `json:"system,omitempty"`
	Model    string `json:"model,omitempty"`
	Metadata any    `json:"metadata,omitempty"`
	Params   any    `json:"params,omitempty"`
	Options  any    `json:"options,omitempty"`
	// Stream is for Client.Stream: true, "chunks" or "all"; nil there is true.
	Stream any `json:"stream,omitempty"`
}

// Record is a call that the host makes or made itself; schema/record.json has each member.
type Record struct {
	EventType        string  `json:"event_type,omitempty"`
	UserID           string  `json:"user_id,omitempty"`
	Model            string  `json:"model,omitempty"`
	Prompt           string  `json:"prompt"`
	Response         string  `json:"response,omitempty"`
	PromptTokens     *int64  `json:"prompt_tokens,omitempty"`
	CompletionTokens *int64  `json:"completion_tokens,omitempty"`
	LatencyMS        float64 `json:"latency_ms,omitempty"`
	// Status is "success" or "error"; ErrorType is set with "error" alone.
	Status    string `json:"status,omitempty"`
	ErrorType string `json:"error_type,omitempty"`
	Metadata  any    `json:"metadata,omitempty"`
}

// Event is what a stream yields: text as it comes, the payload of a server's event, and at the end the Reply.
type Event struct {
	Delta string
	Chunk string
	// Reply is set at the end alone.
	Reply *Reply
}

// Client makes calls by one log. Any goroutine may use it, several at once; a process needs one.
type Client struct {
	logger *C.AuditLogger
	queue  *C.AuditQueue
	opened *Reply

	mutex   sync.Mutex
	changed sync.Cond
	calls   map[uint64]*call
	last    uint64
	closed  bool
	// Closed when the poller is gone.
	gone chan struct{}
}

// call is one that runs. Its poller appends and its reader takes, both under the client's mutex; what has come
// is told by a token in the channel.
type call struct {
	events []Event
	err    error
	over   bool
	came   chan struct{}
}

// Option is for New.
type Option func(queue map[string]any)

// Running says how many calls run at once (64; up to 4,096); the rest waits in order.
func Running(calls int) Option { return func(queue map[string]any) { queue["running"] = calls } }

// New makes a client. config is anything that encoding/json makes an object of (docs/configuration.md has the
// keys), or nil for the defaults. Close it.
func New(config any, options ...Option) (*Client, error) {
	if config == nil {
		config = struct{}{}
	}
	settings := map[string]any{}
	for _, option := range options {
		option(settings)
	}
	client := &Client{calls: map[uint64]*call{}, gone: make(chan struct{})}
	client.changed.L = &client.mutex
	err := withText(config, func(text *C.char) (err error) {
		var reply *C.AuditReply
		client.opened, err = take(C.audit_logger_new(text, &client.logger, &reply), reply)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = withText(settings, func(text *C.char) error {
		var reply *C.AuditReply
		_, err := take(C.audit_queue_new(client.logger, text, &client.queue, &reply), reply)
		return err
	})
	if err != nil {
		C.audit_logger_free(client.logger)
		return nil, err
	}
	go client.poll()
	return client, nil
}

// Opened is what opening the log reported, as JSON: "path", "recovered", "torn", "warnings".
func (c *Client) Opened() string { return c.opened.JSON }

// Chat makes a call and waits for its answer. When the context ends, so does the call, and the error is an *Error
// in which errors.Is finds the context's.
func (c *Client) Chat(ctx context.Context, request Request) (*Reply, error) {
	request.Stream = nil
	var reply *Reply
	for event, err := range c.run(ctx, request) {
		if err != nil {
			return event.Reply, err
		}
		reply = event.Reply
	}
	return reply, nil
}

// Stream makes a call whose answer comes in pieces. Its last event has the Reply, beside the error if there is
// one. Leaving the loop, also by a panic, cancels the call and waits for its entry.
func (c *Client) Stream(ctx context.Context, request Request) iter.Seq2[Event, error] {
	if request.Stream == nil {
		request.Stream = true
	}
	return c.run(ctx, request)
}

// run makes a call for each range over it.
func (c *Client) run(ctx context.Context, request Request) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if ctx.Err() != nil {
			failed := failure(Cancelled, "the context ended before the call began")
			failed.cause = context.Cause(ctx)
			yield(Event{Reply: failed.Reply}, failed)
			return
		}
		tag, running, err := c.submit(request)
		if err != nil {
			yield(Event{Reply: replyOf(err)}, err)
			return
		}
		defer c.leave(tag, running)
		ended := ctx.Done()
		for {
			select {
			case <-running.came:
			case <-ended:
				ended = nil
				c.cancel(tag)
				continue
			}
			events, over, err := c.taken(running)
			var failed *Error
			if errors.As(err, &failed) && failed.Status == Cancelled && ended == nil {
				failed.cause = context.Cause(ctx)
			}
			for at, event := range events {
				isLast := over && at == len(events)-1
				if isLast && !yield(event, err) || !isLast && !yield(event, nil) {
					return
				}
			}
			if over {
				return
			}
		}
	}
}

func (c *Client) submit(request Request) (uint64, *call, error) {
	text, err := marshal(request)
	if err != nil {
		return 0, nil, err
	}
	running := &call{came: make(chan struct{}, 1)}
	c.mutex.Lock()
	c.last++
	tag := c.last
	c.calls[tag] = running
	c.mutex.Unlock()
	var reply *C.AuditReply
	status := C.audit_queue_submit(c.queue, chars(text), C.size_t(len(text)), C.uint64_t(tag), &reply)
	if _, err = take(status, reply); err != nil {
		c.forget(tag)
	}
	return tag, running, err
}

func (c *Client) forget(tag uint64) {
	c.mutex.Lock()
	delete(c.calls, tag)
	c.changed.Broadcast()
	c.mutex.Unlock()
}

// cancel may find the call over.
func (c *Client) cancel(tag uint64) { C.audit_queue_cancel(c.queue, C.uint64_t(tag), nil) }

// leave ends a call that isn't over, and waits until it is.
func (c *Client) leave(tag uint64, running *call) {
	over := func() bool {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		return running.over
	}
	if over() {
		return
	}
	c.cancel(tag)
	for !over() {
		<-running.came
	}
}

// taken takes what came. err is of the last event, if the call is over.
func (c *Client) taken(running *call) (events []Event, over bool, err error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	events, running.events = running.events, nil
	return events, running.over, running.err
}

// poll takes all events, and gives each to its call. It never waits for a reader.
func (c *Client) poll() {
	defer close(c.gone)
	for {
		var taken *C.AuditReply
		status := Status(C.audit_queue_next(c.queue, -1, &taken))
		if status != OK {
			// The queue was freed.
			C.audit_reply_free(taken)
			break
		}
		tag, kind := number(taken, C.AUDIT_REPLY_TAG), number(taken, C.AUDIT_REPLY_EVENT)
		var event Event
		var err error
		over := kind == C.AUDIT_EVENT_DONE
		switch kind {
		case C.AUDIT_EVENT_DELTA:
			event.Delta = text(taken, C.AUDIT_REPLY_CONTENT)
			C.audit_reply_free(taken)
		case C.AUDIT_EVENT_CHUNK:
			event.Chunk = text(taken, C.AUDIT_REPLY_CONTENT)
			C.audit_reply_free(taken)
		default:
			status := C.AuditStatus(number(taken, C.AUDIT_REPLY_STATUS))
			event.Reply, err = take(status, taken)
		}
		c.give(uint64(tag), event, err, over)
	}
	c.mutex.Lock()
	left := slices.Collect(maps.Keys(c.calls))
	c.mutex.Unlock()
	for _, tag := range left {
		lost := failure(Handle, "the client was closed before the call's end was known; the log has it")
		c.give(tag, Event{Reply: lost.Reply}, lost, true)
	}
}

func (c *Client) give(tag uint64, event Event, err error, over bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	running := c.calls[tag]
	if running == nil {
		return
	}
	running.events, running.err, running.over = append(running.events, event), err, over
	if over {
		delete(c.calls, tag)
		c.changed.Broadcast()
	}
	select {
	case running.came <- struct{}{}:
	default:
	}
}

// Log logs a call that was made elsewhere.
func (c *Client) Log(record Record) (*Reply, error) {
	text, err := marshal(record)
	if err != nil {
		return nil, err
	}
	var reply *C.AuditReply
	return take(C.audit_record_json(c.logger, chars(text), C.size_t(len(text)), &reply), reply)
}

// Pending is a call that the host is making itself. As long as it isn't finished, Close waits for it; if the
// process ends before, its entry says "OutcomeUnknown".
type Pending struct{ handle *C.AuditPending }

// Begin writes down that the host is about to make a call: EventType, UserID, Model, Prompt and Metadata are read.
// Make it only if this succeeds.
func (c *Client) Begin(record Record) (*Pending, error) {
	text, err := marshal(record)
	if err != nil {
		return nil, err
	}
	pending := &Pending{}
	var reply *C.AuditReply
	status := C.audit_record_begin_json(c.logger, chars(text), C.size_t(len(text)), &pending.handle, &reply)
	_, err = take(status, reply)
	return pending, err
}

// Finish writes the entry: Response, tokens, LatencyMS (0: since it was begun), Status, ErrorType and Metadata are
// read. After Argument it can be called again.
func (p *Pending) Finish(record Record) (*Reply, error) {
	text, err := marshal(record)
	if err != nil {
		return nil, err
	}
	var reply *C.AuditReply
	return take(C.audit_record_finish_json(p.handle, chars(text), C.size_t(len(text)), &reply), reply)
}

// Hash is what the log shows for a text.
func (c *Client) Hash(content string) (string, error) {
	var reply *C.AuditReply
	text := []byte(content)
	answer, err := take(C.audit_logger_hash(c.logger, chars(text), C.size_t(len(text)), &reply), reply)
	return answer.Text, err
}

// Stats is the logger's health, as JSON.
func (c *Client) Stats() (string, error) {
	var reply *C.AuditReply
	answer, err := take(C.audit_logger_stats(c.logger, &reply), reply)
	return answer.JSON, err
}

// Flush has the disk confirm what was written, and seals it. A negative timeout is none.
func (c *Client) Flush(timeout time.Duration) error {
	var reply *C.AuditReply
	_, err := take(C.audit_logger_flush(c.logger, milliseconds(timeout), &reply), reply)
	return err
}

// FlushWitnessed does the same, and waits until the log's witnesses have signed it. If they haven't in time the error is
// Witness.
func (c *Client) FlushWitnessed(timeout time.Duration) error {
	options := C.CString(`{"witnessed": true}`)
	defer C.free(unsafe.Pointer(options))
	var reply *C.AuditReply
	_, err := take(C.audit_logger_flush_with(c.logger, milliseconds(timeout), options, &reply), reply)
	return err
}

// Close waits for running calls, cancels those that are left when the time is up, and has the disk confirm the log.
// A negative timeout is none. Whoever uses the client later gets Handle; closing again does nothing.
func (c *Client) Close(timeout time.Duration) error {
	c.mutex.Lock()
	if c.closed {
		c.mutex.Unlock()
		return nil
	}
	c.closed = true
	c.mutex.Unlock()
	var reply *C.AuditReply
	_, err := take(C.audit_logger_close(c.logger, milliseconds(timeout), &reply), reply)
	// They are over; their last events are on their way, unless the disk hangs.
	late := time.AfterFunc(5*time.Second, func() { C.audit_queue_free(c.queue) })
	c.mutex.Lock()
	for len(c.calls) > 0 {
		c.changed.Wait()
	}
	c.mutex.Unlock()
	late.Stop()
	C.audit_queue_free(c.queue)
	<-c.gone
	C.audit_logger_free(c.logger)
	return err
}

func milliseconds(timeout time.Duration) C.int64_t {
	if timeout < 0 {
		return -1
	}
	return C.int64_t(timeout.Milliseconds())
}

// marshal makes JSON, with every letter as it is.
func marshal(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		failed := failure(Argument, err.Error())
		failed.cause = err
		return nil, failed
	}
	return buffer.Bytes(), nil
}

// withText calls with a value's JSON as a text of C.
func withText(value any, use func(*C.char) error) error {
	text, err := marshal(value)
	if err != nil {
		return err
	}
	copied := C.CString(string(text))
	defer C.free(unsafe.Pointer(copied))
	return use(copied)
}

// chars is where a text begins, for a function that only reads it.
func chars(text []byte) *C.char { return (*C.char)(unsafe.Pointer(unsafe.SliceData(text))) }

func text(reply *C.AuditReply, field C.int32_t) string {
	var length C.size_t
	data := C.audit_reply_text(reply, field, &length)
	return string(unsafe.Slice((*byte)(unsafe.Pointer(data)), length))
}

func number(reply *C.AuditReply, field C.int32_t) int64 {
	return int64(C.audit_reply_int(reply, field))
}

// take copies a reply and frees it, and makes an error of any status but OK.
func take(status C.AuditStatus, reply *C.AuditReply) (*Reply, error) {
	defer C.audit_reply_free(reply)
	copied := &Reply{
		Text:              text(reply, C.AUDIT_REPLY_CONTENT),
		JSON:              text(reply, C.AUDIT_REPLY_JSON),
		Entry:             text(reply, C.AUDIT_REPLY_ENTRY),
		EntryID:           text(reply, C.AUDIT_REPLY_ENTRY_ID),
		FinishReason:      text(reply, C.AUDIT_REPLY_FINISH_REASON),
		Model:             text(reply, C.AUDIT_REPLY_MODEL),
		Provider:          text(reply, C.AUDIT_REPLY_PROVIDER),
		GenerationID:      text(reply, C.AUDIT_REPLY_GENERATION_ID),
		ProviderErrorType: text(reply, C.AUDIT_REPLY_PROVIDER_ERROR_TYPE),
		HTTPStatus:        number(reply, C.AUDIT_REPLY_HTTP_STATUS),
		PromptTokens:      number(reply, C.AUDIT_REPLY_PROMPT_TOKENS),
		CompletionTokens:  number(reply, C.AUDIT_REPLY_COMPLETION_TOKENS),
		RetryAfterMS:      number(reply, C.AUDIT_REPLY_RETRY_AFTER_MS),
		Attempts:          number(reply, C.AUDIT_REPLY_ATTEMPTS),
		Outcome:           Outcome(number(reply, C.AUDIT_REPLY_OUTCOME)),
	}
	if Status(status) == OK {
		return copied, nil
	}
	return copied, &Error{
		Status:  Status(status),
		Type:    text(reply, C.AUDIT_REPLY_ERROR_TYPE),
		Message: text(reply, C.AUDIT_REPLY_ERROR_MESSAGE),
		Reply:   copied,
	}
}

// failure is an error that the library wasn't asked for.
func failure(status Status, message string) *Error {
	return &Error{Status: status, Type: status.Error(), Message: message, Reply: &Reply{
		HTTPStatus: -1, PromptTokens: -1, CompletionTokens: -1, RetryAfterMS: -1, Attempts: -1, Outcome: -1,
	}}
}

func replyOf(err error) *Reply { return err.(*Error).Reply }
