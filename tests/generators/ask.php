<?php
// What PHP's FFI takes from the declarations. Arguments: those, the library, a configuration.
[, $declarations, $library, $config] = $argv;
$lib = FFI::cdef(file_get_contents($declarations), $library);

function check(bool $so): void
{
    if (!$so) {
        throw new Exception("not so");
    }
}

$heard = "";
// A callback's text may be longer for PHP, which looks for a NUL.
$on_delta = function ($text, $length) use (&$heard, $lib) {
    $heard .= substr($text, 0, $length);
    return $lib->AUDIT_CONTINUE;
};
$logger = $lib->new("AuditLogger *");
$reply = $lib->new("AuditReply *");
check($lib->audit_logger_new($config, FFI::addr($logger), null) === $lib->AUDIT_OK);

// audit_text keeps where a string lies, so the variables have to live.
[$user, $prompt, $model, $success] = ["user-1", "hello", "a/model", "success"];
$request = $lib->new("AuditChatRequest");
$lib->audit_chat_request_init(FFI::addr($request), FFI::sizeof($request));
$request->user_id = $lib->audit_text($user);
$request->prompt = $lib->audit_text($prompt);
$request->on_delta = $on_delta;
check($lib->audit_chat($logger, FFI::addr($request), FFI::addr($reply)) === $lib->AUDIT_OK);
check($heard === $lib->audit_reply_text($reply, $lib->AUDIT_REPLY_CONTENT, null));
echo $heard, "\n";
$lib->audit_reply_free($reply);

$record = $lib->new("AuditRecord");
$lib->audit_record_init(FFI::addr($record), FFI::sizeof($record));
$record->user_id = $lib->audit_text($user);
$record->model = $lib->audit_text($model);
$record->prompt = $lib->audit_text($prompt);
$record->status = $lib->audit_text($success);
check($lib->audit_logger_log($logger, FFI::addr($record), FFI::addr($reply)) === $lib->AUDIT_OK);
echo $lib->audit_reply_text($reply, $lib->AUDIT_REPLY_ENTRY_ID, null), "\n";
$lib->audit_reply_free($reply);
$lib->audit_logger_free($logger);

$status = $lib->audit_logger_new("{", FFI::addr($logger), null);
check($status === $lib->AUDIT_E_CONFIG);
echo $lib->audit_status_name($status), "\n";
