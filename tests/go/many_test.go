// Runs beside examples/go/main.go, where tests/examples.rs puts it.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"testing"
)

func TestGoroutinesShareOneLogger(t *testing.T) {
	logger, _, err := NewLogger(fmt.Sprintf(`{"base_url": %q}`, os.Getenv("AUDIT_BASE_URL")))
	if err != nil {
		t.Fatal(err)
	}
	defer logger.Free()

	var calls sync.WaitGroup
	start := make(chan struct{})
	for n := 0; n < 100; n++ {
		calls.Add(1)
		go func(n int) {
			defer calls.Done()
			<-start
			prompt := fmt.Sprintf("number %d,\x00 a NUL and a \u2602", n)
			reply, err := logger.Chat(fmt.Sprintf("user-%d", n), prompt, "", "")
			if err != nil {
				t.Error(err)
			} else if reply.Content != "You said: "+prompt {
				t.Errorf("%q was answered with %q", prompt, reply.Content)
			}
		}(n)
	}
	close(start)
	done := make(chan struct{})
	go func() {
		calls.Wait()
		close(done)
	}()
	// The collector frees what is only known to C, should a call rely on that.
	for running := true; running; runtime.GC() {
		select {
		case <-done:
			running = false
		default:
		}
	}
	if err := logger.Close(5000); err != nil {
		t.Fatal(err)
	}

	_, err = logger.Chat("user", "too late", "", "")
	var failed *Error
	if !errors.As(err, &failed) || failed.Status != "AUDIT_E_HANDLE" {
		t.Errorf("a closed logger answered %v", err)
	}
}
