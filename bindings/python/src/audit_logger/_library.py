"""The shared library by ctypes: handles, bytes, numbers and texts, no structure and no callback."""

import ctypes
import json
import os
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from ._errors import raise_for
from ._reply import Reply

# From audit_logger.h.
_OK, _TIMEOUT = 0, -8
_DONE = 3
_CONTENT, _STATUS, _EVENT, _TAG = 1, 107, 108, 109
_FIELDS = {field.name: field.metadata["number"] for field in fields(Reply) if field.metadata}
_OUTCOMES = {0: "AUDIT_OUTCOME_NOT_SENT", 1: "AUDIT_OUTCOME_ANSWERED", 2: "AUDIT_OUTCOME_UNKNOWN"}

_HANDLE, _REPLY = c_void_p, POINTER(c_void_p)
_FUNCTIONS: Dict[str, Tuple[Any, Tuple[Any, ...]]] = {
    "audit_logger_version": (c_char_p, ()),
    "audit_status_name": (c_char_p, (c_int32,)),
    "audit_logger_new": (c_int32, (c_char_p, POINTER(_HANDLE), _REPLY)),
    "audit_logger_flush_with": (c_int32, (_HANDLE, c_int64, c_char_p, _REPLY)),
    "audit_logger_close": (c_int32, (_HANDLE, c_int64, _REPLY)),
    "audit_logger_stats": (c_int32, (_HANDLE, _REPLY)),
    "audit_logger_hash": (c_int32, (_HANDLE, c_char_p, c_size_t, _REPLY)),
    "audit_logger_free": (None, (_HANDLE,)),
    "audit_record_json": (c_int32, (_HANDLE, c_char_p, c_size_t, _REPLY)),
    "audit_record_begin_json": (c_int32, (_HANDLE, c_char_p, c_size_t, POINTER(_HANDLE), _REPLY)),
    "audit_record_finish_json": (c_int32, (_HANDLE, c_char_p, c_size_t, _REPLY)),
    "audit_queue_new": (c_int32, (_HANDLE, c_char_p, POINTER(_HANDLE), _REPLY)),
    "audit_queue_submit": (c_int32, (_HANDLE, c_char_p, c_size_t, c_uint64, _REPLY)),
    "audit_queue_next": (c_int32, (_HANDLE, c_int64, _REPLY)),
    "audit_queue_cancel": (c_int32, (_HANDLE, c_uint64, _REPLY)),
    "audit_queue_fd": (c_int32, (_HANDLE,)),
    "audit_queue_free": (None, (_HANDLE,)),
    "audit_reply_int": (c_int64, (c_void_p, c_int32)),
    # Not c_char_p: that would end a text at its first NUL.
    "audit_reply_text": (c_void_p, (c_void_p, c_int32, POINTER(c_size_t))),
    "audit_reply_free": (None, (c_void_p,)),
}


def _load() -> ctypes.CDLL:
    path = os.environ.get("AUDIT_LOGGER_LIBRARY") or Path(__file__).with_name("libaudit_logger.so")
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


library = _load()


def version() -> str:
    """The library's version."""
    return _decoded(library.audit_logger_version())


def _decoded(text: bytes) -> str:
    # What a server sent need not be UTF-8.
    return text.decode(errors="replace")


def encoded(value: Any) -> bytes:
    """JSON. A text of the system's that isn't UTF-8 (sys.argv, os.environ) keeps its bytes, which the
    library refuses."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogateescape")


def milliseconds(seconds: Optional[float]) -> int:
    """As the library has times; without a limit it's negative."""
    return -1 if seconds is None else max(0, round(seconds * 1000))


def _text(reply: c_void_p, number: int) -> Optional[str]:
    length = c_size_t()
    text = library.audit_reply_text(reply, number, ctypes.byref(length))
    return None if text is None else _decoded(ctypes.string_at(text, length.value))


def _number(reply: c_void_p, number: int) -> Optional[int]:
    value = int(library.audit_reply_int(reply, number))
    return None if value < 0 else value


def _read(status: int, reply: c_void_p) -> Reply:
    read: Dict[str, Any] = {
        name: (_text if number < 100 else _number)(reply, number) for name, number in _FIELDS.items()
    }
    read["outcome"] = _OUTCOMES.get(read["outcome"])
    return Reply(_decoded(library.audit_status_name(status)), **read)


def call(function: Any, *arguments: Any) -> Reply:
    """Calls a function that takes a reply last; raises unless it returns AUDIT_OK."""
    reply = c_void_p()
    try:
        read = _read(function(*arguments, ctypes.byref(reply)), reply)
    finally:
        library.audit_reply_free(reply)
    raise_for(read)
    return read


def made(function: Any, *arguments: Any) -> Tuple[c_void_p, Reply]:
    """Calls a function that makes a handle."""
    handle = c_void_p()
    return handle, call(function, *arguments, ctypes.byref(handle))


class Queue:
    """The library's queue: calls are submitted, and their events taken."""

    def __init__(self, logger: c_void_p, running: int) -> None:
        self._handle, _ = made(library.audit_queue_new, logger, encoded({"running": running}))
        #: Readable while events wait.
        self.fd = int(library.audit_queue_fd(self._handle))
        if self.fd < 0:
            self.free()
            raise OSError("no descriptor is left to wait for an answer by; nothing was sent")

    def submit(self, request: Mapping[str, Any], tag: int) -> None:
        text, reply = encoded(request), c_void_p()
        status = library.audit_queue_submit(self._handle, text, len(text), tag, ctypes.byref(reply))
        try:
            # Of a success there is nothing to read, and an event loop waits meanwhile.
            if status != _OK:
                raise_for(_read(status, reply))
        finally:
            library.audit_reply_free(reply)

    def take(self) -> Optional[Tuple[int, Union[str, Reply]]]:
        """The next event, if one waits: its tag, and a chunk, or the reply of a call that is over."""
        reply = c_void_p()
        try:
            status = library.audit_queue_next(self._handle, 0, ctypes.byref(reply))
            if status == _TIMEOUT:
                return None
            if status != _OK:
                # It's another process's, or somebody freed it.
                raise_for(_read(status, reply))
            tag = int(library.audit_reply_int(reply, _TAG))
            if library.audit_reply_int(reply, _EVENT) == _DONE:
                return tag, _read(int(library.audit_reply_int(reply, _STATUS)), reply)
            return tag, _text(reply, _CONTENT) or ""
        finally:
            library.audit_reply_free(reply)

    def cancel(self, tag: int) -> None:
        library.audit_queue_cancel(self._handle, tag, None)

    def free(self) -> None:
        """Ends its calls, each with its entry. Doing it again does nothing."""
        library.audit_queue_free(self._handle)
