"""The logger that this library grew from, and the openai client that it instruments.

usage: seed.py log WORKLOAD LOG CALLS
       seed.py chat WORKLOAD LOG CALLS URL

Prints one line of JSON. Exits with 77 where openai isn't installed.
"""

import hashlib
import json
import os
import resource
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Dict, Optional

SKIPPED = 77


@dataclass
class AuditEntry:
    """Single audit log entry."""

    id: str
    timestamp: str
    event_type: str
    user_id: str
    model: str
    prompt_hash: str
    response_hash: str
    prompt_tokens: int
    completion_tokens: int
    latency_ms: float
    status: str  # success, error
    error_type: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None


class AuditLogger:
    """Production audit logging for OpenRouter."""

    def __init__(self, output_path: str = "audit_logs"):
        self.output_path = output_path
        os.makedirs(output_path, exist_ok=True)

    def _hash(self, content: str) -> str:
        """Create SHA-256 hash of content."""
        return hashlib.sha256(content.encode()).hexdigest()

    def _get_log_file(self) -> str:
        """Get current log file path (daily rotation)."""
        date_str = datetime.utcnow().strftime("%Y-%m-%d")
        return os.path.join(self.output_path, f"audit_{date_str}.jsonl")

    def log(self, entry: AuditEntry):
        """Write audit entry to log file."""
        log_file = self._get_log_file()
        with open(log_file, "a") as f:
            f.write(json.dumps(asdict(entry)) + "\n")

    def create_entry(
        self,
        user_id: str,
        model: str,
        prompt: str,
        response: str,
        prompt_tokens: int,
        completion_tokens: int,
        latency_ms: float,
        status: str = "success",
        error_type: str = None,
        metadata: dict = None,
    ) -> AuditEntry:
        """Create audit entry from request/response."""
        return AuditEntry(
            id=str(uuid.uuid4()),
            timestamp=datetime.utcnow().isoformat() + "Z",
            event_type="chat_completion",
            user_id=user_id,
            model=model,
            prompt_hash=self._hash(prompt),
            response_hash=self._hash(response),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            latency_ms=latency_ms,
            status=status,
            error_type=error_type,
            metadata=metadata,
        )


class AuditedOpenRouterClient:
    """OpenRouter client with built-in audit logging."""

    def __init__(self, client, audit_logger: AuditLogger):
        self.client = client
        self.audit = audit_logger

    def chat(
        self,
        prompt: str,
        user_id: str,
        model: str = "openai/gpt-4-turbo",
        metadata: dict = None,
        **kwargs,
    ) -> str:
        start_time = time.time()

        try:
            response = self.client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                **kwargs,
            )

            latency = (time.time() - start_time) * 1000
            content = response.choices[0].message.content

            # Log success
            entry = self.audit.create_entry(
                user_id=user_id,
                model=model,
                prompt=prompt,
                response=content,
                prompt_tokens=response.usage.prompt_tokens,
                completion_tokens=response.usage.completion_tokens,
                latency_ms=latency,
                status="success",
                metadata=metadata,
            )
            self.audit.log(entry)

            return content

        except Exception as e:
            latency = (time.time() - start_time) * 1000

            # Log error
            entry = self.audit.create_entry(
                user_id=user_id,
                model=model,
                prompt=prompt,
                response="",
                prompt_tokens=0,
                completion_tokens=0,
                latency_ms=latency,
                status="error",
                error_type=type(e).__name__,
                metadata=metadata,
            )
            self.audit.log(entry)

            raise


def moment():
    """Wall time, and the CPU time of this process, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic(), usage.ru_utime + usage.ru_stime


def measure(once, calls):
    for _ in range(max(calls // 10, 1)):
        once()
    wall, cpu = moment()
    for _ in range(calls):
        once()
    wall_end, cpu_end = moment()
    report = {
        "calls": calls,
        "wall_us": (wall_end - wall) / calls * 1e6,
        "cpu_us": (cpu_end - cpu) / calls * 1e6,
    }
    print(json.dumps(report))


def main(mode, workload, log, calls, url=None):
    def read(name):
        with open(os.path.join(workload, name), encoding="utf-8") as file:
            return file.read()

    prompt, answer = read("prompt.txt"), read("answer.txt")
    metadata = json.loads(read("metadata.json"))
    audit = AuditLogger(log)

    if mode == "log":

        def once():
            entry = audit.create_entry(
                user_id="user-42",
                model="openai/gpt-4-turbo",
                prompt=prompt,
                response=answer,
                prompt_tokens=512,
                completion_tokens=256,
                latency_ms=812.5,
                metadata=metadata,
            )
            audit.log(entry)

    else:
        try:
            from openai import OpenAI
        except ImportError as error:
            print(error, file=sys.stderr)
            return SKIPPED
        openai = OpenAI(base_url=url, api_key="none")
        client = AuditedOpenRouterClient(openai, audit)

        def once():
            if mode == "chat":
                client.chat(prompt, "user-42", metadata=metadata)
                return
            # The client alone: the seed doesn't stream.
            stream = openai.chat.completions.create(
                model="openai/gpt-4-turbo",
                messages=[{"role": "user", "content": prompt}],
                stream=True,
            )
            text = [c.choices[0].delta.content or "" for c in stream if c.choices]
            assert "".join(text)

    measure(once, int(calls))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
