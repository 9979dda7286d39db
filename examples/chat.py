"""An audited chat call: make a logger, ask, print the answer, show the entry in today's log.

    cargo build --release
    OPENROUTER_API_KEY=... python3 examples/chat.py "Why is the sky blue?"

Without a key, try it on the server beside this file (examples/server.rs); AUDIT_BASE_URL says
where it listens. AUDIT_LOGGER_LIBRARY is the library's path, if it isn't where cargo built it.
"""
import json
import os
import sys
from ctypes import CDLL, POINTER, Structure, byref, sizeof, string_at
from ctypes import c_char_p, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

# From audit_logger.h.
AUDIT_OK = 0
TEXTS = {"content": 1, "json": 2, "entry": 3, "error_type": 5, "error_message": 6}
NUMBERS = {"prompt_tokens": 103, "completion_tokens": 104}


class AuditText(Structure):
    _fields_ = [("data", c_char_p), ("len", c_size_t)]


class AuditChatRequest(Structure):
    __slots__ = ()  # Else a misspelt member would be taken and ignored.
    _fields_ = [("struct_size", c_size_t), ("flags", c_uint64)]
    _fields_ += [(name, AuditText) for name in (
        "user_id", "prompt", "system", "model", "metadata", "params", "options")]
    _fields_ += [(name, c_void_p) for name in ("on_delta", "on_chunk", "context", "cancel")]


class AuditError(Exception):
    """Why a function failed. reply has what came nevertheless: a failed call's entry, or the
    answer of a call whose entry has to wait (AUDIT_E_LOG_PENDING)."""

    def __init__(self, status_name, error_type, message, function="", reply=None):
        super().__init__(": ".join(dict.fromkeys((function, status_name, error_type, message))))
        self.status_name, self.error_type, self.message = status_name, error_type, message
        self.function, self.reply = function, reply or {}


def load(path):
    """The library, its functions declared: ctypes would take every result for an int."""
    library = CDLL(str(path))
    for name, result, arguments in (
        ("audit_logger_new", c_int32, [c_char_p, POINTER(c_void_p), POINTER(c_void_p)]),
        ("audit_chat", c_int32, [c_void_p, POINTER(AuditChatRequest), POINTER(c_void_p)]),
        ("audit_logger_close", c_int32, [c_void_p, c_int64, POINTER(c_void_p)]),
        ("audit_log_free", None, [c_void_p]),
        # Not c_char_p: that would end a text at its first NUL.
        ("audit_reply_text", c_void_p, [c_void_p, c_int32, POINTER(c_size_t)]),
        ("audit_reply_int", c_int64, [c_void_p, c_int32]),
        ("audit_reply_free", None, [c_void_p]),
        ("audit_status_name", c_char_p, [c_int32]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Logger:
    """One for the whole process; any thread may use it (ctypes lets go of the GIL in a call)."""

    def __init__(self, library, **config):
        self._library, self._handle = library, c_void_p()
        text = json.dumps(config).encode()
        self.opened = self._call(library.audit_logger_new, text, byref(self._handle))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._library.audit_log_free(self._handle)

    def chat(self, user_id, prompt, **more):
        """Asks. more: system, model (texts); metadata, params, options (dicts)."""
        request = AuditChatRequest(struct_size=sizeof(AuditChatRequest))
        kept = []  # The request has only the addresses of these bytes.
        for name, value in {"user_id": user_id, "prompt": prompt, **more}.items():
            if value is not None:
                text = value if isinstance(value, str) else json.dumps(value)
                kept.append(text.encode(errors="surrogateescape"))  # As sys.argv had it.
                setattr(request, name, AuditText(kept[-1], len(kept[-1])))
        return self._call(self._library.audit_chat, self._handle, byref(request))

    def close(self, timeout_ms):
        """Ends calls that run longer, and has the disk confirm the log."""
        self._call(self._library.audit_logger_close, self._handle, timeout_ms)

    def _call(self, function, *arguments):
        """The reply's fields, copied; AuditError unless the function returns AUDIT_OK."""
        reply, fields = c_void_p(), {}
        try:
            status = function(*arguments, byref(reply))
            for name, field in TEXTS.items():
                length = c_size_t()
                text = self._library.audit_reply_text(reply, field, byref(length))
                # A response's body is what the server sent: it need not be UTF-8.
                fields[name] = text and string_at(text, length.value).decode(errors="replace")
            for name, field in NUMBERS.items():
                fields[name] = self._library.audit_reply_int(reply, field)
        finally:
            self._library.audit_reply_free(reply)
        if status != AUDIT_OK:
            name = self._library.audit_status_name(status).decode()
            error = fields["error_type"], fields["error_message"]
            raise AuditError(name, *error, function.__name__, fields)
        return fields


def main():
    # 1. Make a logger: one for the whole process, shared by all threads.
    built = Path(__file__).resolve().parent.parent / "target/release/libaudit_logger.so"
    library = load(os.environ.get("AUDIT_LOGGER_LIBRARY", built))
    base_url = os.environ.get("AUDIT_BASE_URL", "https://openrouter.ai/api/v1")
    with Logger(library, output_path="audit_logs", base_url=base_url) as logger:
        print("log:", logger.opened["json"])

        # 2. Ask. Nothing is sent unless the log can take the entry.
        prompt = sys.argv[1] if len(sys.argv) > 1 else "Say hello in one sentence."
        reply = logger.chat("user-42", prompt, metadata={"feature": "example", "ticket": 7},
                            params={"max_tokens": 200})

        # 3. The answer, and the line that now stands in today's log.
        print("answer:", reply["content"])
        print("tokens:", reply["prompt_tokens"], "+", reply["completion_tokens"])
        print("entry:", reply["entry"])

        # 4. Wait up to five seconds for calls of other threads, and have the disk confirm the log.
        logger.close(5000)


if __name__ == "__main__":
    try:
        main()
    except (AuditError, OSError) as error:
        # A failed call has its entry too: error.reply["entry"].
        sys.exit(str(error))
