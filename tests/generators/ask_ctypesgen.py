"""What ctypesgen makes of the header: audit_logger.py beside it. Argument: a configuration."""
import sys
from ctypes import POINTER, byref, sizeof, string_at

import audit_logger as lib

config = sys.argv[1].encode()
heard = []


@lib.AuditCallback
def on_delta(data, length, _):
    heard.append(string_at(data.raw, length).decode())
    return lib.AUDIT_CONTINUE


logger, reply = POINTER(lib.AuditLogger)(), POINTER(lib.AuditReply)()
kept = [lib.String(word) for word in (b"user-1", b"hello", b"a/model", b"success")]
user, prompt, model, success = map(lib.audit_text, kept)
assert lib.audit_logger_new(config, byref(logger), None) == lib.AUDIT_OK

request = lib.AuditChatRequest()
lib.audit_chat_request_init(byref(request), sizeof(request))
request.user_id, request.prompt, request.on_delta = user, prompt, on_delta
assert lib.audit_chat(logger, byref(request), byref(reply)) == lib.AUDIT_OK
assert "".join(heard) == lib.audit_reply_text(reply, lib.AUDIT_REPLY_CONTENT, None).decode()
print("".join(heard))
lib.audit_reply_free(reply)

record = lib.AuditRecord()
lib.audit_record_init(byref(record), sizeof(record))
record.user_id, record.model, record.prompt, record.status = user, model, prompt, success
assert lib.audit_logger_log(logger, byref(record), byref(reply)) == lib.AUDIT_OK
print(lib.audit_reply_text(reply, lib.AUDIT_REPLY_ENTRY_ID, None).decode())
lib.audit_reply_free(reply)
lib.audit_logger_free(logger)

status = lib.audit_logger_new(b"{", byref(logger), None)
assert status == lib.AUDIT_E_CONFIG
print(lib.audit_status_name(status).decode())
