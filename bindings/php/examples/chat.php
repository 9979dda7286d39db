<?php

declare(strict_types=1);

// An audited chat call, a stream, and one that is cancelled: what examples/chat.c does, in PHP.
//
//   composer require audit-logger/audit-logger
//   OPENROUTER_API_KEY=... php chat.php "Why is the sky blue?"
//
// Without a key, try it on the server in examples/server; AUDIT_BASE_URL says where it listens.

use AuditLogger\AuditException;
use AuditLogger\Client;

require __DIR__ . '/vendor/autoload.php';

try {
    // 1. Make a client. The key comes from the environment.
    $client = new Client([
        'output_path' => 'audit_logs',
        'base_url' => getenv('AUDIT_BASE_URL') ?: 'https://openrouter.ai/api/v1',
    ]);
    echo 'log: ', json_decode($client->opened)->path, "\n";

    // 2. Ask. Nothing is sent unless the log can take the entry.
    $request = [
        'user_id' => 'user-42',
        'prompt' => $argv[1] ?? 'Say hello in one sentence.',
        'metadata' => ['feature' => 'example', 'ticket' => 7],
        'params' => ['max_tokens' => 200],
    ];
    $reply = $client->chat($request);

    // 3. The answer, and the line that now stands in today's log.
    echo "answer: $reply->content\n";
    echo "tokens: $reply->promptTokens + $reply->completionTokens\n";
    echo "entry: $reply->entry\n";

    // 4. The same as a stream, its pieces as they come.
    echo 'stream: ';
    foreach ($client->stream($request) as $piece) {
        echo $piece;
    }
    echo "\n";

    // 5. One that is left at its first piece. It's cancelled, and has its entry all the same.
    foreach ($client->stream($request) as $piece) {
        echo "cancelled after: $piece\n";
        break;
    }

    // 6. Have the disk confirm the log.
    $client->close();
} catch (AuditException $error) {
    // A failed call has its entry too: $error->reply->entry.
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
