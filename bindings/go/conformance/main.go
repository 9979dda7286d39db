// Command conformance runs the table of conformance (conformance/README.md) through the package.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"auditlogger.example/auditlogger"
)

type object = map[string]any

// expand makes of a value of the table what a runner uses.
func expand(value any, words *strings.Replacer) any {
	switch value := value.(type) {
	case string:
		return words.Replace(value)
	case []any:
		made := make([]any, len(value))
		for at, item := range value {
			made[at] = expand(item, words)
		}
		return made
	case object:
		if parts, ok := value["$text"].([]any); ok {
			var text strings.Builder
			for at := 0; at < len(parts); at += 2 {
				text.WriteString(strings.Repeat(parts[at].(string), int(parts[at+1].(float64))))
			}
			return text.String()
		}
		made := object{}
		for key, item := range value {
			made[key] = expand(item, words)
		}
		return made
	}
	return value
}

var kinds = map[string]*regexp.Regexp{
	"$text":      regexp.MustCompile(`(?s)^.+$`),
	"$uuid":      regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	"$hash":      regexp.MustCompile(`^[0-9a-f]{64}$`),
	"$timestamp": regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`),
}

// differs says why a value isn't what is expected, or "".
func differs(expected, actual any, there bool, place string) string {
	wrong := fmt.Sprintf("%s: %.200v instead of %.200v", place, show(actual), show(expected))
	if expected == "$absent" {
		if there {
			return wrong
		}
		return ""
	}
	if !there {
		return fmt.Sprintf("%s isn't there", place)
	}
	switch expected := expected.(type) {
	case string:
		text, isText := actual.(string)
		number, isNumber := actual.(float64)
		kind := kinds[expected]
		switch {
		case expected == "$any", expected == "$number" && isNumber && number >= 0,
			kind != nil && isText && kind.MatchString(text), expected == text && isText:
			return ""
		}
		return wrong
	case object:
		members, _ := actual.(object)
		for key, value := range expected {
			found, there := members[key]
			if why := differs(value, found, there, place+"."+key); why != "" {
				return why
			}
		}
		return ""
	case []any:
		items, _ := actual.([]any)
		if len(items) != len(expected) {
			return wrong
		}
		for at, value := range expected {
			if why := differs(value, items[at], true, fmt.Sprintf("%s[%d]", place, at)); why != "" {
				return why
			}
		}
		return ""
	}
	if reflect.DeepEqual(expected, actual) {
		return ""
	}
	return wrong
}

func show(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

func parsed(text string) any {
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return nil
	}
	return value
}

// came is what a step came to.
type came struct {
	reply          *auditlogger.Reply
	err            error
	text, report   string
	deltas, chunks []any
}

var outcomes = []string{"AUDIT_OUTCOME_NOT_SENT", "AUDIT_OUTCOME_ANSWERED", "AUDIT_OUTCOME_UNKNOWN"}

func (c *came) differs(expected object) string {
	reply := c.reply
	if reply == nil {
		reply = &auditlogger.Reply{Text: c.text, JSON: c.report, Outcome: -1}
	}
	status, kind, message := auditlogger.OK, "", ""
	var failed *auditlogger.Error
	if errors.As(c.err, &failed) {
		status, kind, message = failed.Status, failed.Type, failed.Message
	} else if c.err != nil {
		return "an error of another type: " + c.err.Error()
	}
	left := maps.Clone(expected)
	for name, whole := range map[string]string{"message": message, "line": reply.Entry} {
		if part, ok := left[name].(string); ok && !strings.Contains(whole, part) {
			return fmt.Sprintf("%s: %q isn't in %.200q", name, part, whole)
		}
		delete(left, name)
	}
	word := func(text string) any {
		if text == "" {
			return nil
		}
		return text
	}
	number := func(number int64) any {
		if number < 0 {
			return nil
		}
		return float64(number)
	}
	var outcome any
	if reply.Outcome >= 0 {
		outcome = outcomes[reply.Outcome]
	}
	shown := object{
		"status": status.Error(), "error_type": kind, "text": reply.Text, "text_json": parsed(reply.Text),
		"json": parsed(reply.JSON), "entry": parsed(reply.Entry), "deltas": c.deltas, "chunks": c.chunks,
		"reply": object{
			"finish_reason": word(reply.FinishReason), "model": word(reply.Model), "provider": word(reply.Provider),
			"generation_id": word(reply.GenerationID), "provider_error_type": word(reply.ProviderErrorType),
			"http_status": number(reply.HTTPStatus), "outcome": outcome,
			"prompt_tokens": number(reply.PromptTokens), "completion_tokens": number(reply.CompletionTokens),
			"retry_after_ms": number(reply.RetryAfterMS), "attempts": number(reply.Attempts),
		},
	}
	if why := differs(left, shown, true, ""); why != "" {
		return strings.TrimSpace(why + " " + message)
	}
	return ""
}

// skip is why the package can't do a case.
type skip string

type started struct {
	cancel context.CancelFunc
	done   chan *came
}

type runner struct {
	client  *auditlogger.Client
	words   []string
	log     string
	started map[string]started
	begun   map[string]*auditlogger.Pending
	entries []string
	closed  bool
}

// into makes a request or a record of what the table has, by the names of its members.
func into[T any](value any) (made T) {
	decoder := json.NewDecoder(strings.NewReader(show(value)))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&made) != nil {
		panic(skip("a Request has no such member, or not of that type: the compiler refuses it"))
	}
	return made
}

// chat makes a call. It stops reading its stream after so many deltas, if that isn't 0.
func (r *runner) chat(ctx context.Context, request auditlogger.Request, stopAfter int) *came {
	into := &came{deltas: []any{}, chunks: []any{}}
	if request.Stream == nil {
		into.reply, into.err = r.client.Chat(ctx, request)
		return into
	}
	for event, err := range r.client.Stream(ctx, request) {
		into.reply, into.err = event.Reply, err
		if event.Delta != "" {
			into.deltas = append(into.deltas, event.Delta)
		}
		if event.Chunk != "" {
			into.chunks = append(into.chunks, parsed(event.Chunk))
		}
		if stopAfter > 0 && len(into.deltas) == stopAfter {
			break
		}
	}
	if into.reply == nil && into.err == nil {
		// Who left the loop has nothing of the call but its entry.
		lines := r.lines()
		into.reply = &auditlogger.Reply{Entry: lines[len(lines)-1], Outcome: -1}
		kind, _ := parsed(into.reply.Entry).(object)["error_type"].(string)
		into.err = &auditlogger.Error{Status: auditlogger.Cancelled, Type: kind, Reply: into.reply}
	}
	return into
}

func (r *runner) act(step object) *came {
	name, _ := step["as"].(string)
	timeout := func() time.Duration {
		milliseconds, _ := step["timeout_ms"].(float64)
		return time.Duration(milliseconds) * time.Millisecond
	}
	result := &came{}
	switch step["do"] {
	case "chat":
		if step["request_text"] != nil {
			if step["expect"].(object)["status"] != "AUDIT_OK" {
				panic(skip("the package makes the JSON"))
			}
			// Digits are kept by json.RawMessage.
			var given struct {
				UserID   string          `json:"user_id"`
				Prompt   string          `json:"prompt"`
				Metadata json.RawMessage `json:"metadata"`
			}
			if err := json.Unmarshal([]byte(step["request_text"].(string)), &given); err != nil {
				panic(err)
			}
			request := auditlogger.Request{UserID: given.UserID, Prompt: given.Prompt, Metadata: given.Metadata}
			return r.chat(context.Background(), request, 0)
		}
		stopAfter, _ := step["stop_after"].(float64)
		return r.chat(context.Background(), into[auditlogger.Request](step["request"]), int(stopAfter))
	case "start":
		ctx, cancel := context.WithCancel(context.Background())
		call := started{cancel, make(chan *came, 1)}
		r.started[name] = call
		request := into[auditlogger.Request](step["request"])
		go func() { call.done <- r.chat(ctx, request, 0) }()
		// It's submitted by another goroutine, and closing would be before it.
		time.Sleep(50 * time.Millisecond)
		return nil
	case "cancel":
		r.started[name].cancel()
		return nil
	case "await":
		return <-r.started[name].done
	case "sleep":
		time.Sleep(time.Duration(step["ms"].(float64)) * time.Millisecond)
		return nil
	case "log":
		result.reply, result.err = r.client.Log(into[auditlogger.Record](step["record"]))
	case "begin":
		r.begun[name], result.err = r.client.Begin(into[auditlogger.Record](step["record"]))
	case "finish":
		result.reply, result.err = r.begun[name].Finish(into[auditlogger.Record](step["record"]))
	case "flush":
		if witnessed, _ := step["witnessed"].(bool); witnessed {
			result.err = r.client.FlushWitnessed(timeout())
		} else {
			result.err = r.client.Flush(timeout())
		}
	case "stats":
		result.report, result.err = r.client.Stats()
	case "hash":
		result.text, result.err = r.client.Hash(step["text"].(string))
	case "close":
		r.closed = true
		result.err = r.client.Close(timeout())
	default:
		panic(fmt.Sprint("no step is called ", step["do"]))
	}
	return result
}

func (r *runner) note(came *came, step object) string {
	if came == nil {
		return ""
	}
	if came.reply != nil && came.reply.Entry != "" {
		r.entries = append(r.entries, came.reply.Entry)
	}
	expected, _ := step["expect"].(object)
	return came.differs(expected)
}

func (r *runner) check(step object) string {
	if step["do"] != "together" {
		step = expand(step, strings.NewReplacer(r.words...)).(object)
		return r.note(r.act(step), step)
	}
	count := int(step["count"].(float64))
	steps, results := make([]object, count), make([]chan *came, count)
	for at := range steps {
		words := append(slices.Clone(r.words), "$N", strconv.Itoa(at))
		steps[at] = expand(step, strings.NewReplacer(words...)).(object)
		results[at] = make(chan *came, 1)
		request := into[auditlogger.Request](steps[at]["request"])
		go func() { results[at] <- r.chat(context.Background(), request, 0) }()
	}
	wrong := ""
	for at, result := range results {
		if why := r.note(<-result, steps[at]); wrong == "" {
			wrong = why
		}
	}
	return wrong
}

func (r *runner) lines() []string {
	files, _ := filepath.Glob(filepath.Join(r.log, "audit_*.jsonl"))
	var text strings.Builder
	for _, file := range files {
		day, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		text.Write(day)
	}
	return strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
}

func run(test object, server, directory string) (result, reason string) {
	defer func() {
		switch why := recover().(type) {
		case nil:
		case skip:
			result, reason = "skip", string(why)
		default:
			result, reason = "fail", fmt.Sprint(why)
		}
	}()
	name := test["name"].(string)
	log := filepath.Join(directory, strings.ReplaceAll(name, "/", "-"))
	r := &runner{
		words:   []string{"$SERVER", server, "$LOG", log, "$CASE", name},
		log:     log,
		started: map[string]started{},
		begun:   map[string]*auditlogger.Pending{},
	}
	config := object{"output_path": log, "base_url": server, "api_key": "sk-test", "max_retries": 0}
	given, _ := test["config"].(object)
	maps.Copy(config, expand(given, strings.NewReplacer(r.words...)).(object))
	opened := &came{}
	r.client, opened.err = auditlogger.New(config)
	if opened.err == nil {
		opened.report = r.client.Opened()
	}
	expected, ok := test["open"].(object)
	if !ok {
		expected = object{"status": "AUDIT_OK"}
	}
	if why := opened.differs(expected); why != "" {
		return "fail", "opening: " + why
	}
	if opened.err != nil {
		return "pass", ""
	}
	defer r.client.Close(0)
	steps, _ := test["steps"].([]any)
	for _, step := range steps {
		if why := r.check(step.(object)); why != "" {
			return "fail", fmt.Sprint(step.(object)["do"], ": ", why)
		}
	}
	if !r.closed {
		if err := r.client.Close(30 * time.Second); err != nil {
			return "fail", err.Error()
		}
	}
	lines := r.lines()
	if lines[0] == "" {
		lines = nil
	}
	if len(lines) != int(test["entries"].(float64)) {
		return "fail", fmt.Sprint("the log holds ", len(lines))
	}
	for _, entry := range r.entries {
		if !slices.Contains(lines, entry) {
			return "fail", "not in the log: " + entry
		}
	}
	return "pass", ""
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: conformance CASES SERVER DIRECTORY")
		os.Exit(2)
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	var table []object
	if err := json.Unmarshal(text, &table); err != nil {
		panic(err)
	}
	failed := 0
	for _, test := range table {
		result, reason := run(test, os.Args[2], os.Args[3])
		if result == "fail" {
			failed = 1
		}
		fmt.Println(show(object{"case": test["name"], "result": result, "reason": reason}))
	}
	os.Exit(failed)
}
