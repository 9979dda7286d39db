// An audited chat call, a stream, and one that is cancelled: what examples/chat.c does, in Go.
//
//	go get auditlogger.example/auditlogger
//	OPENROUTER_API_KEY=... go run . "Why is the sky blue?"
//
// Without a key, try it on the server in examples/server; AUDIT_BASE_URL says where it listens.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"auditlogger.example/auditlogger"
)

func run(ctx context.Context, prompt string) error {
	baseURL, set := os.LookupEnv("AUDIT_BASE_URL")
	if !set {
		baseURL = "https://openrouter.ai/api/v1"
	}

	// 1. Make a client: one for the whole process, shared by all goroutines. The key comes from the environment.
	client, err := auditlogger.New(map[string]string{"output_path": "audit_logs", "base_url": baseURL})
	if err != nil {
		return err
	}
	defer client.Close(0)
	fmt.Println("log:", client.Opened())

	// 2. Ask. Nothing is sent unless the log can take the entry.
	request := auditlogger.Request{
		UserID:   "user-42",
		Prompt:   prompt,
		Metadata: map[string]any{"feature": "example", "ticket": 7},
		Params:   map[string]any{"max_tokens": 200},
	}
	reply, err := client.Chat(ctx, request)
	if err != nil {
		return err // A failed call has its entry too: reply.Entry.
	}

	// 3. The answer, and the line that now stands in today's log.
	fmt.Println("answer:", reply.Text)
	fmt.Println("tokens:", reply.PromptTokens, "+", reply.CompletionTokens)
	fmt.Println("entry:", reply.Entry)

	// 4. The same as a stream, its pieces as they come.
	fmt.Print("stream: ")
	for event, err := range client.Stream(ctx, request) {
		if err != nil {
			return err
		}
		fmt.Print(event.Delta)
	}
	fmt.Println()

	// 5. One that is left at its first piece. It's cancelled, and has its entry all the same.
	for event, err := range client.Stream(ctx, request) {
		if err != nil {
			return err
		}
		fmt.Println("cancelled after:", event.Delta)
		break
	}

	// 6. Wait up to five seconds for calls of other goroutines, and have the disk confirm the log.
	return client.Close(5 * time.Second)
}

func main() {
	// The first argument, or what stands after the last.
	if err := run(context.Background(), append(os.Args, "Say hello in one sentence.")[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
