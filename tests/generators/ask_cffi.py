"""What cffi takes from the declarations. Arguments: those, the library, a configuration."""
import sys

from cffi import FFI

declarations, library, config = sys.argv[1:]
ffi = FFI()
with open(declarations) as file:
    ffi.cdef(file.read())
lib = ffi.dlopen(library)


def text(reply, field):
    length = ffi.new("size_t *")
    return ffi.buffer(lib.audit_reply_text(reply, field, length), length[0])[:].decode()


heard = []


@ffi.callback("AuditCallback")
def on_delta(data, length, _):
    heard.append(ffi.buffer(data, length)[:].decode())
    return lib.AUDIT_CONTINUE


logger, reply = ffi.new("AuditLogger **"), ffi.new("AuditReply **")
kept = [ffi.new("char[]", word) for word in (b"user-1", b"hello", b"a/model", b"success")]
user, prompt, model, success = map(lib.audit_text, kept)
assert lib.audit_logger_new(config.encode(), logger, ffi.NULL) == lib.AUDIT_OK

request = ffi.new("AuditChatRequest *")
lib.audit_chat_request_init(request, ffi.sizeof("AuditChatRequest"))
request.user_id, request.prompt, request.on_delta = user, prompt, on_delta
assert lib.audit_chat(logger[0], request, reply) == lib.AUDIT_OK
assert "".join(heard) == text(reply[0], lib.AUDIT_REPLY_CONTENT)
print("".join(heard))
lib.audit_reply_free(reply[0])

record = ffi.new("AuditRecord *")
lib.audit_record_init(record, ffi.sizeof("AuditRecord"))
record.user_id, record.model, record.prompt, record.status = user, model, prompt, success
assert lib.audit_logger_log(logger[0], record, reply) == lib.AUDIT_OK
print(text(reply[0], lib.AUDIT_REPLY_ENTRY_ID))
lib.audit_reply_free(reply[0])
lib.audit_logger_free(logger[0])

status = lib.audit_logger_new(b"{", logger, ffi.NULL)
assert status == lib.AUDIT_E_CONFIG
print(ffi.string(lib.audit_status_name(status)).decode())
