-- What LuaJIT takes from the declarations. Arguments: those, the library, a configuration.
local ffi = require("ffi")
-- Compiled code can't be called back.
require("jit").off()
local declarations, library, config = ...
ffi.cdef(assert(io.open(declarations)):read("*a"))
local lib = ffi.load(library)

local heard = ""
local on_delta = ffi.cast("AuditCallback", function(text, length)
    heard = heard .. ffi.string(text, length)
    return lib.AUDIT_CONTINUE
end)
local logger, reply = ffi.new("AuditLogger *[1]"), ffi.new("AuditReply *[1]")
assert(lib.audit_logger_new(config, logger, nil) == lib.AUDIT_OK)

local request = ffi.new("AuditChatRequest[1]")
lib.audit_chat_request_init(request, ffi.sizeof("AuditChatRequest"))
request[0].user_id = lib.audit_text("user-1")
request[0].prompt = lib.audit_text("hello")
request[0].on_delta = on_delta
assert(lib.audit_chat(logger[0], request, reply) == lib.AUDIT_OK)
assert(ffi.string(lib.audit_reply_text(reply[0], lib.AUDIT_REPLY_CONTENT, nil)) == heard)
print(heard)
lib.audit_reply_free(reply[0])

local record = ffi.new("AuditRecord[1]")
lib.audit_record_init(record, ffi.sizeof("AuditRecord"))
record[0].user_id = lib.audit_text("user-1")
record[0].model = lib.audit_text("a/model")
record[0].prompt = lib.audit_text("hello")
record[0].status = lib.audit_text("success")
assert(lib.audit_logger_log(logger[0], record, reply) == lib.AUDIT_OK)
print(ffi.string(lib.audit_reply_text(reply[0], lib.AUDIT_REPLY_ENTRY_ID, nil)))
lib.audit_reply_free(reply[0])
lib.audit_logger_free(logger[0])

local status = lib.audit_logger_new("{", logger, nil)
assert(status == lib.AUDIT_E_CONFIG)
print(ffi.string(lib.audit_status_name(status)))
