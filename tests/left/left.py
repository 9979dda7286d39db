"""A daemon thread of an interpreter that exits, in a streamed call. Arguments: the library, the log's
directory, the base URL of a server that streams a little and then goes on when the thread is gone."""

import ctypes
import json
import sys
import threading

library = ctypes.CDLL(sys.argv[1])
Callback = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p)


class Text(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Request(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("flags", ctypes.c_uint64)]
    _fields_ += [(name, Text) for name in "user_id prompt system model metadata params options".split()]
    _fields_ += [("on_delta", Callback), ("on_chunk", Callback)]
    _fields_ += [("context", ctypes.c_void_p), ("cancel", ctypes.c_void_p)]


config = {"output_path": sys.argv[2], "base_url": sys.argv[3], "api_key": "sk-test", "max_retries": 0}
logger = ctypes.c_void_p()
assert library.audit_logger_new(json.dumps(config).encode(), ctypes.byref(logger), None) == 0
heard = threading.Event()


@Callback
def on_delta(text, length, context):
    heard.set()
    return 1


def ask():
    request = Request(struct_size=ctypes.sizeof(Request), on_delta=on_delta)
    request.user_id = Text(b"user-1", 6)
    request.prompt = Text(b"hello", 5)
    library.audit_chat(logger, ctypes.byref(request), ctypes.byref(ctypes.c_void_p()))


threading.Thread(target=ask, daemon=True).start()
assert heard.wait(30)
