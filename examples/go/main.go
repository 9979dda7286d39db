// An audited chat call: make a logger, ask, print the answer, show the entry in today's log.
//
//	cargo build --release
//	cd examples/go && OPENROUTER_API_KEY=... go run . "Why is the sky blue?"
//
// Without a key, try it on the server in examples/server.rs; AUDIT_BASE_URL says where it listens.
package main

/*
#cgo CFLAGS: -I${SRCDIR}/../../include
#cgo LDFLAGS: -L${SRCDIR}/../../target/release -laudit_logger -Wl,-rpath,${SRCDIR}/../../target/release
#include <stdlib.h>
#include "audit_logger.h"
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"
)

// Error is why a function failed. Its class is the call's own; else the name of the status.
type Error struct{ Function, Status, Class, Message string }

func (e *Error) Error() string {
	return strings.Join(slices.Compact([]string{e.Function, e.Status, e.Class, e.Message}), ": ")
}

// Reply is what a function answered, copied out of the library.
type Reply struct {
	Content, JSON, Entry           string
	PromptTokens, CompletionTokens int64
}

// Logger is one for the whole process; any goroutine may use it.
type Logger struct{ handle *C.AuditLogger }

// NewLogger makes a logger from a configuration in JSON.
func NewLogger(config string) (*Logger, *Reply, error) {
	text := C.CString(config)
	defer C.free(unsafe.Pointer(text))
	logger := &Logger{}
	var reply *C.AuditReply
	opened, err := take("audit_logger_new", C.audit_logger_new(text, &logger.handle, &reply), &reply)
	return logger, opened, err
}

// Chat asks; an empty text is absent. The reply is set beside an error too: a failed call has an
// entry, and one whose entry has to wait (AUDIT_E_LOG_PENDING) has its answer.
func (l *Logger) Chat(userID, prompt, metadata, params string) (*Reply, error) {
	// The request may lie in Go's memory because all that it points to is C's.
	request := C.AuditChatRequest{struct_size: C.sizeof_AuditChatRequest}
	for to, text := range map[*C.AuditText]string{
		&request.user_id: userID, &request.prompt: prompt,
		&request.metadata: metadata, &request.params: params,
	} {
		if text != "" {
			to.data, to.len = C.CString(text), C.size_t(len(text))
			defer C.free(unsafe.Pointer(to.data))
		}
	}
	var reply *C.AuditReply
	return take("audit_chat", C.audit_chat(l.handle, &request, &reply), &reply)
}

// Close waits for running calls, cancels those that last longer, and has the disk confirm the log.
func (l *Logger) Close(timeoutMS int64) error {
	var reply *C.AuditReply
	_, err := take("audit_logger_close", C.audit_logger_close(l.handle, C.int64_t(timeoutMS), &reply), &reply)
	return err
}

// Free lets go of the logger; whoever uses it later gets an error.
func (l *Logger) Free() { C.audit_log_free(l.handle) }

// take copies a reply, frees it, and makes an error of any status but AUDIT_OK.
func take(function string, status C.AuditStatus, reply **C.AuditReply) (*Reply, error) {
	defer C.audit_reply_free(*reply)
	text := func(field C.int32_t) string {
		var length C.size_t
		data := C.audit_reply_text(*reply, field, &length)
		return string(unsafe.Slice((*byte)(unsafe.Pointer(data)), length))
	}
	number := func(field C.int32_t) int64 { return int64(C.audit_reply_int(*reply, field)) }
	copied := &Reply{
		text(C.AUDIT_REPLY_CONTENT), text(C.AUDIT_REPLY_JSON), text(C.AUDIT_REPLY_ENTRY),
		number(C.AUDIT_REPLY_PROMPT_TOKENS), number(C.AUDIT_REPLY_COMPLETION_TOKENS),
	}
	if status == C.AUDIT_OK {
		return copied, nil
	}
	return copied, &Error{function, C.GoString(C.audit_status_name(status)),
		text(C.AUDIT_REPLY_ERROR_TYPE), text(C.AUDIT_REPLY_ERROR_MESSAGE)}
}

func run(prompt string) error {
	baseURL, set := os.LookupEnv("AUDIT_BASE_URL")
	if !set {
		baseURL = "https://openrouter.ai/api/v1"
	}

	// 1. Make a logger: one for the whole process, shared by all threads.
	config, err := json.Marshal(map[string]string{"output_path": "audit_logs", "base_url": baseURL})
	if err != nil {
		return err
	}
	logger, opened, err := NewLogger(string(config))
	if err != nil {
		return err
	}
	defer logger.Free()
	fmt.Println("log:", opened.JSON)

	// 2. Ask. Nothing is sent unless the log can take the entry.
	reply, err := logger.Chat("user-42", prompt,
		`{"feature": "example", "ticket": 7}`, `{"max_tokens": 200}`)
	if err != nil {
		return err // A failed call has its entry too: reply.Entry.
	}

	// 3. The answer, and the line that now stands in today's log.
	fmt.Println("answer:", reply.Content)
	fmt.Println("tokens:", reply.PromptTokens, "+", reply.CompletionTokens)
	fmt.Println("entry:", reply.Entry)

	// 4. Wait up to five seconds for calls of other threads, and have the disk confirm the log.
	return logger.Close(5000)
}

func main() {
	// The first argument, or what stands after the last.
	if err := run(append(os.Args, "Say hello in one sentence.")[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
