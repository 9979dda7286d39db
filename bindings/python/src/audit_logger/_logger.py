"""The log: entries of calls that others make, and what an operator asks of it."""

import json
import weakref
from typing import Any, Dict, List, Mapping, Optional

from ._library import call, encoded, library, made, milliseconds
from ._reply import Reply

__all__ = ["AuditLogger", "Pending"]


class Pending:
    """A call that the program makes itself, begun by AuditLogger.begin. If the process dies before finish,
    it has an entry all the same."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def finish(self, status: str = "success", **record: Any) -> Reply:
        """Writes its entry. status: "success" or "error"; record: response, prompt_tokens,
        completion_tokens, latency_ms (the time since begin), error_type, metadata."""
        text = encoded({"status": status, **record})
        return call(library.audit_record_finish_json, self._handle, text, len(text))


class AuditLogger:
    """A log. One for the whole process is enough: any thread may use it, and a forked child.

    output_path: the log's directory. config: further keys of docs/configuration.md, such as base_url,
    api_key, durability."""

    def __init__(self, output_path: str = "audit_logs", **config: Any) -> None:
        text = encoded({"output_path": output_path, **config})
        self.handle, opened = made(library.audit_logger_new, text)
        report = json.loads(opened.json or "{}")
        #: The log's absolute path.
        self.path: str = report["path"]
        #: What an operator should know of it.
        self.warnings: List[str] = report["warnings"]
        #: What opening reported, as audit_logger_new says.
        self.opened: Dict[str, Any] = report
        # Not when the interpreter ends: then the library ends the calls that run.
        weakref.finalize(self, library.audit_logger_free, self.handle).atexit = False

    def begin(self, **record: Any) -> Pending:
        """Writes down that a call is about to be made: user_id, model, prompt, metadata, event_type. Raises
        LogError if the log can't take its entry; don't make the call then."""
        text = encoded(record)
        handle, _ = made(library.audit_record_begin_json, self.handle, text, len(text))
        return Pending(handle)

    def create_entry(self, **record: Any) -> Dict[str, Any]:
        """What log takes: user_id, model, prompt, response, prompt_tokens, completion_tokens, latency_ms,
        status, error_type, metadata. (The log gives it its id and its timestamp.)"""
        return {"status": "success", **record}

    def log(self, entry: Mapping[str, Any]) -> Reply:
        """Logs a call that is over: one entry, appended before this returns."""
        text = encoded(entry)
        return call(library.audit_record_json, self.handle, text, len(text))

    def flush(self, timeout: Optional[float] = None, witnessed: bool = False) -> None:
        """Has the disk confirm the log, and seals it. witnessed: waits until the log's witnesses have signed
        it too, and raises WitnessError if they haven't in time. timeout: seconds."""
        options = encoded({"witnessed": witnessed})
        call(library.audit_logger_flush_with, self.handle, milliseconds(timeout), options)

    def stats(self) -> Dict[str, Any]:
        """The log's health, as audit_logger_stats reports it."""
        report: Dict[str, Any] = json.loads(call(library.audit_logger_stats, self.handle).json or "{}")
        return report

    def hash(self, text: str) -> str:
        """What the log shows for a text, to find its entries."""
        data = text.encode()
        return call(library.audit_logger_hash, self.handle, data, len(data)).content or ""

    def close(self, timeout: Optional[float] = None) -> None:
        """Waits up to timeout seconds for running calls, cancels those that are left, and has the disk
        confirm the log. Nothing can be begun any more."""
        call(library.audit_logger_close, self.handle, milliseconds(timeout))

    def __enter__(self) -> "AuditLogger":
        return self

    def __exit__(self, *error: object) -> None:
        self.close(5)
