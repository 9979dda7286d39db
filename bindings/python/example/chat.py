"""An audited chat call: make a client, ask, print the answer, show the entry in today's log; then the same
as a stream, and one that is cancelled.

    OPENROUTER_API_KEY=... python3 chat.py "Why is the sky blue?"

Without a key, try it on the server of the project's examples; AUDIT_BASE_URL says where it listens.
"""

import os
import sys

import audit_logger

METADATA = {"feature": "example", "ticket": 7}


def main() -> None:
    # 1. Make a client: one for the whole process, shared by all threads.
    base_url = os.environ.get("AUDIT_BASE_URL", "https://openrouter.ai/api/v1")
    with audit_logger.Client(output_path="audit_logs", base_url=base_url) as client:
        print("log:", client.logger.path)

        # 2. Ask. Nothing is sent unless the log can take the entry.
        prompt = sys.argv[1] if len(sys.argv) > 1 else "Say hello in one sentence."
        messages = [{"role": "user", "content": prompt}]
        completion = client.chat.completions.create(
            messages=messages, user_id="user-42", metadata=METADATA, max_tokens=200
        )

        # 3. The answer, and the line that now stands in today's log.
        print("answer:", completion.choices[0].message.content)
        if completion.usage is not None:
            print("tokens:", completion.usage.prompt_tokens, "+", completion.usage.completion_tokens)
        print("entry:", completion.audit.entry)

        # 4. The same in pieces, as they come.
        print("stream: ", end="")
        for chunk in client.chat.completions.create(
            messages=messages, user_id="user-42", metadata=METADATA, stream=True
        ):
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print()

        # 5. Leaving a stream cancels its call.
        with client.chat.completions.create(
            messages=messages, user_id="user-42", metadata=METADATA, stream=True
        ) as stream:
            print("cancelled after:", next(stream).choices[0].delta.content)

    # 6. Leaving the client waits up to five seconds for calls of other threads, and has the disk confirm
    # the log.


if __name__ == "__main__":
    try:
        main()
    except audit_logger.AuditError as error:
        # A failed call has its entry too: error.reply.entry.
        sys.exit(f"{error.status}: {error.error_type}: {error}")
