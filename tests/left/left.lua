-- A callback that raises, in a streamed call. Arguments: the library, its declarations, the log's directory, the
-- base URL of a server that streams a little and then is silent.
local ffi = require("ffi")
ffi.cdef(io.open(arg[2]):read("*a"))
local lib = ffi.load(arg[1])
local logger = ffi.new("AuditLogger *[1]")
assert(lib.audit_logger_new(('{"output_path": "%s", "base_url": "%s", "api_key": "sk-test", "max_retries": 0}'):format(arg[3], arg[4]), logger, nil) == 0)
local req = ffi.new("AuditChatRequest")
lib.audit_chat_request_init(req, ffi.sizeof(req))
req.user_id = lib.audit_text("user-1"); req.prompt = lib.audit_text("hello")
local cb = ffi.cast("AuditCallback", function(text, len, ctx) error("left") end)
req.on_delta = cb
local reply = ffi.new("AuditReply *[1]")
local ok, err = pcall(function() return lib.audit_chat(logger[0], req, reply) end)
assert(not ok and err:find("left"))
local r = ffi.new("AuditReply *[1]")
assert(lib.audit_logger_stats(logger[0], r) == 0)
assert(ffi.string(lib.audit_reply_text(r[0], lib.AUDIT_REPLY_JSON, nil)):find('"running":0,', 1, true))
assert(lib.audit_logger_close(logger[0], 1000, nil) == 0)
