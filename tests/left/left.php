<?php
// A callback that throws, which is fatal to the script: a shutdown function comes next, and the process
// ends. Arguments: the library, its declarations, the log's directory, the base URL of a server that
// streams a little and then is silent.
[, $library, $declarations, $log, $url] = $argv;
$ffi = FFI::cdef(file_get_contents($declarations), $library);
$config = json_encode(['output_path' => $log, 'base_url' => $url, 'api_key' => 'sk-test', 'max_retries' => 0]);
$logger = $ffi->new('AuditLogger *');
assert($ffi->audit_logger_new($config, FFI::addr($logger), null) === 0);

register_shutdown_function(function () use ($ffi, $logger) {
    $reply = $ffi->new('AuditReply *');
    assert($ffi->audit_logger_stats($logger, FFI::addr($reply)) === 0);
    $stats = json_decode($ffi->audit_reply_text($reply, $ffi->AUDIT_REPLY_JSON, null));
    assert($stats->running === 0);
    assert($ffi->audit_logger_close($logger, 5000, null) === 0);
    echo "closed\n";
});

$request = $ffi->new('AuditChatRequest');
$ffi->audit_chat_request_init(FFI::addr($request), FFI::sizeof($request));
$texts = [];
foreach (['user_id' => 'user-1', 'prompt' => 'hello'] as $name => $text) {
    $texts[] = $copy = FFI::new('char[' . strlen($text) . ']');
    FFI::memcpy($copy, $text, strlen($text));
    $request->$name->data = FFI::cast('char *', FFI::addr($copy));
    $request->$name->len = strlen($text);
}
$request->on_delta = function ($text, $length, $context) {
    assert($text === 'a');
    throw new Exception('left');
};
$reply = $ffi->new('AuditReply *');
$ffi->audit_chat($logger, FFI::addr($request), FFI::addr($reply));
