// What the table of conformance can't say. AUDIT_TEST_SERVER is the server, AUDIT_TEST_DIRECTORY for logs.
package auditlogger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"auditlogger.example/auditlogger"
)

func open(t *testing.T, options ...auditlogger.Option) (*auditlogger.Client, func() []string) {
	t.Helper()
	server := os.Getenv("AUDIT_TEST_SERVER")
	if server == "" {
		t.Skip("AUDIT_TEST_SERVER isn't set")
	}
	log := filepath.Join(os.Getenv("AUDIT_TEST_DIRECTORY"), t.Name())
	client, err := auditlogger.New(map[string]any{
		"output_path": log, "base_url": server, "api_key": "sk-test", "max_retries": 0,
	}, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(0) })
	return client, func() (lines []string) {
		files, _ := filepath.Glob(filepath.Join(log, "audit_*.jsonl"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
		}
		return lines
	}
}

func asking(model string) auditlogger.Request {
	return auditlogger.Request{UserID: "user-1", Prompt: "hello", Model: model}
}

func TestAThousandGoroutinesTakeAHandfulOfThreads(t *testing.T) {
	client, lines := open(t)
	begun := pprof.Lookup("threadcreate").Count()
	var calls sync.WaitGroup
	for n := range 1000 {
		calls.Add(1)
		go func() {
			defer calls.Done()
			prompt := fmt.Sprintf("number %d,\x00 a NUL and a \u2602", n)
			request := auditlogger.Request{UserID: fmt.Sprintf("user-%d", n), Prompt: prompt}
			reply, err := client.Chat(context.Background(), request)
			if err != nil {
				t.Error(err)
			} else if reply.Text != "You said: "+prompt {
				t.Errorf("%q was answered with %q", prompt, reply.Text)
			}
		}()
	}
	calls.Wait()
	made := pprof.Lookup("threadcreate").Count() - begun
	t.Logf("%d threads of Go's for 1,000 calls", made)
	// A call that blocks would take one each. How long one within the library's lock waits, the machine says.
	if made > 100 {
		t.Errorf("%d threads were made", made)
	}
	if err := client.Close(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	if found := len(lines()); found != 1000 {
		t.Errorf("the log has %d lines", found)
	}
}

func TestAContextEndsACall(t *testing.T) {
	client, lines := open(t)
	var ctx context.Context
	var reply *auditlogger.Reply
	var err error
	// On a busy machine it may be over before the call begins.
	for wait := 200 * time.Millisecond; reply == nil && wait < time.Minute; wait *= 2 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.Background(), wait)
		defer cancel()
		reply, err = client.Chat(ctx, asking("test/hang"))
	}
	var failed *auditlogger.Error
	if !errors.As(err, &failed) || failed.Type != "Cancelled" || failed.Reply != reply {
		t.Fatalf("%#v", err)
	}
	if !errors.Is(err, auditlogger.Cancelled) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v is neither", err)
	}
	if logged := lines(); len(logged) != 1 || logged[0] != reply.Entry {
		t.Errorf("%q instead of %q", logged, reply.Entry)
	}
	// One that is over already: nothing is sent, and nothing logged.
	if _, err = client.Chat(ctx, asking("")); !errors.Is(err, context.DeadlineExceeded) || len(lines()) != 1 {
		t.Errorf("%v", err)
	}
}

func TestErrorsAreFoundByTheirClass(t *testing.T) {
	client, _ := open(t)
	_, err := client.Chat(context.Background(), asking("test/429"))
	var failed *auditlogger.Error
	if !errors.As(fmt.Errorf("around: %w", err), &failed) || failed.Type != "RateLimitError" ||
		failed.Reply.HTTPStatus != 429 || !errors.Is(err, auditlogger.Call) || errors.Is(err, context.Canceled) {
		t.Errorf("%#v", err)
	}
	if _, err = client.Chat(context.Background(), auditlogger.Request{}); !errors.Is(err, auditlogger.Argument) {
		t.Errorf("%v", err)
	}
	if _, err = auditlogger.New(map[string]any{"verbose": true}); !errors.Is(err, auditlogger.Config) {
		t.Errorf("%v", err)
	}
	if _, err = client.Log(auditlogger.Record{Metadata: func() {}}); !errors.Is(err, auditlogger.Argument) {
		t.Errorf("%v", err)
	}
}

func TestAPanicInALoopCancelsAndGoesOn(t *testing.T) {
	client, lines := open(t)
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("it didn't come out")
			}
		}()
		for range client.Stream(context.Background(), asking("test/endless")) {
			panic("mine")
		}
	}()
	if logged := lines(); len(logged) != 1 || !strings.Contains(logged[0], `"error_type":"Cancelled"`) {
		t.Errorf("%q", logged)
	}
	if err := client.Close(5 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestAStreamYieldsItsErrorWithWhatCame(t *testing.T) {
	client, _ := open(t)
	heard := ""
	var last error
	for event, err := range client.Stream(context.Background(), asking("test/cut")) {
		heard += event.Delta
		if last = err; err != nil && event.Reply.Text != heard {
			t.Errorf("%q instead of %q", event.Reply.Text, heard)
		}
	}
	if last == nil || heard == "" {
		t.Errorf("%q, %v", heard, last)
	}
}

func TestASlowReaderHoldsUpNoOther(t *testing.T) {
	client, _ := open(t)
	for range client.Stream(context.Background(), asking("test/endless")) {
		if _, err := client.Chat(context.Background(), asking("")); err != nil {
			t.Error(err)
		}
		break
	}
}

func TestClosingWhileOthersCall(t *testing.T) {
	client, lines := open(t, auditlogger.Running(8))
	var calls sync.WaitGroup
	var mutex sync.Mutex
	done := 0
	for range 50 {
		calls.Add(1)
		go func() {
			defer calls.Done()
			for {
				_, err := client.Chat(context.Background(), asking(""))
				if errors.Is(err, auditlogger.Handle) {
					return
				}
				mutex.Lock()
				if err == nil || errors.Is(err, auditlogger.Cancelled) {
					done++
				} else {
					t.Error(err)
				}
				mutex.Unlock()
			}
		}()
	}
	time.Sleep(100 * time.Millisecond)
	if err := client.Close(30 * time.Second); err != nil {
		t.Error(err)
	}
	calls.Wait()
	if found := len(lines()); found != done || done == 0 {
		t.Errorf("%d lines for %d calls", found, done)
	}
}
