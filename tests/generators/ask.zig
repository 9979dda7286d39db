//! What zig translate-c makes of the header. Argument: a configuration.
const c = @import("audit_logger.zig");

extern fn puts(text: [*c]const u8) c_int;
extern fn memcpy(to: [*c]u8, from: [*c]const u8, size: usize) [*c]u8;
extern fn strcmp(one: [*c]const u8, other: [*c]const u8) c_int;

var heard: [64:0]u8 = @splat(0);
var length: usize = 0;

fn onDelta(text: [*c]const u8, len: usize, _: ?*anyopaque) callconv(.c) i32 {
    _ = memcpy(&heard[length], text, len);
    length += len;
    return c.AUDIT_CONTINUE;
}

fn check(so: bool) void {
    if (!so) @trap();
}

pub export fn main(_: c_int, argv: [*c][*c]u8) c_int {
    var logger: ?*c.AuditLogger = null;
    var reply: ?*c.AuditReply = null;
    check(c.audit_logger_new(argv[1], &logger, null) == c.AUDIT_OK);

    var request: c.AuditChatRequest = undefined;
    c.audit_chat_request_init(&request, @sizeOf(c.AuditChatRequest));
    request.user_id = c.audit_text("user-1");
    request.prompt = c.audit_text("hello");
    request.on_delta = onDelta;
    check(c.audit_chat(logger, &request, &reply) == c.AUDIT_OK);
    check(strcmp(&heard, c.audit_reply_text(reply, c.AUDIT_REPLY_CONTENT, null)) == 0);
    _ = puts(&heard);
    c.audit_reply_free(reply);

    var record: c.AuditRecord = undefined;
    c.audit_record_init(&record, @sizeOf(c.AuditRecord));
    record.user_id = c.audit_text("user-1");
    record.model = c.audit_text("a/model");
    record.prompt = c.audit_text("hello");
    record.status = c.audit_text("success");
    check(c.audit_logger_log(logger, &record, &reply) == c.AUDIT_OK);
    _ = puts(c.audit_reply_text(reply, c.AUDIT_REPLY_ENTRY_ID, null));
    c.audit_reply_free(reply);
    c.audit_logger_free(logger);

    const status = c.audit_logger_new("{", &logger, null);
    check(status == c.AUDIT_E_CONFIG);
    _ = puts(c.audit_status_name(status));
    return 0;
}
