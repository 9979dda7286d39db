<?php

// A page of php-fpm, as tests/check.php asks for it: one call, or a stream that dies with the request.

declare(strict_types=1);

use AuditLogger\Client;

$client = new Client(['output_path' => $_SERVER['LOG'], 'base_url' => $_SERVER['SERVER_URL'], 'api_key' => 'sk-test']);
if ($_SERVER['QUERY_STRING'] === 'die') {
    foreach ($client->stream(['user_id' => 'user-1', 'prompt' => 'hello', 'model' => 'test/endless']) as $piece) {
        trigger_error('enough', E_USER_ERROR);
    }
}
echo $client->chat(['user_id' => 'user-1', 'prompt' => 'hello'])->content, ' ', getmypid();
