<?php

declare(strict_types=1);

// What the table of conformance can't say of the package: check.php SERVER DIRECTORY

use AuditLogger\AuditException;
use AuditLogger\Client;

require __DIR__ . '/vendor/autoload.php';

const HANGS = ['user_id' => 'user-1', 'prompt' => 'hello', 'model' => 'test/hang'];
const ENDLESS = ['user_id' => 'user-1', 'prompt' => 'hello', 'model' => 'test/endless'];
const HELLO = ['user_id' => 'user-1', 'prompt' => 'hello'];

[, $server, $directory] = $argv;

function client(string $log): Client
{
    return new Client(['output_path' => $log, 'base_url' => $GLOBALS['server'], 'api_key' => 'sk-test', 'max_retries' => 0]);
}

/** @return list<?string> */
function errorTypes(string $log): array
{
    $lines = file(glob("$log/audit_*.jsonl")[0]);
    return array_map(fn (string $line) => json_decode($line)->error_type, $lines);
}

function same(mixed $expected, mixed $actual): void
{
    if ($expected !== $actual) {
        throw new Exception(json_encode($actual) . ' instead of ' . json_encode($expected));
    }
}

function thrown(Closure $action): Throwable
{
    try {
        $action();
    } catch (Throwable $thrown) {
        return $thrown;
    }
    throw new Exception('nothing was thrown');
}

/** This program in a process of its own, which ends while it streams. */
function child(string $way): array
{
    $command = [PHP_BINARY, '-d', 'display_errors=stderr', '-d', 'log_errors=0', __FILE__, $GLOBALS['server'],
        "$GLOBALS[directory]/$way", $way];
    $process = proc_open($command, [1 => ['pipe', 'w'], 2 => ['pipe', 'w']], $pipes);
    if ($way === 'signal') {
        fgets($pipes[1]);
        proc_terminate($process);
    }
    $said = stream_get_contents($pipes[2]);
    return [proc_close($process), $said, errorTypes("$GLOBALS[directory]/$way")];
}

if (isset($argv[3])) {
    $client = client($directory);
    if ($argv[3] === 'signal') {
        pcntl_async_signals(true);
        pcntl_signal(SIGTERM, fn () => exit(4));
        $call = $client->start(HANGS);
        echo "waiting\n";
        $call->reply();
    }
    foreach ($client->stream(ENDLESS) as $piece) {
        if ($argv[3] === 'exit') {
            exit(3);
        }
        throw new Exception('enough');
    }
}

$promises = [
    'what a callback throws cancels the call and comes out' => function (Client $client, string $log): void {
        $enough = new LogicException('enough');
        same($enough, thrown(fn () => $client->chat(ENDLESS, fn () => throw $enough)));
        unset($enough);
        same(['Cancelled'], errorTypes($log));
    },
    'a stream that is left by break is cancelled' => function (Client $client, string $log): void {
        foreach ($client->stream(ENDLESS) as $piece) {
            break;
        }
        same(['Cancelled'], errorTypes($log));
    },
    'a call that nobody holds is cancelled' => function (Client $client, string $log): void {
        $client->start(HANGS);
        same(['Cancelled'], errorTypes($log));
    },
    'calls run at once' => function (Client $client, string $log): void {
        $hangs = $client->start(HANGS);
        same('You said: hello', $client->chat(HELLO)->content);
        $hangs->cancel();
        same([null, 'Cancelled'], errorTypes($log));
    },
    'an error has its class and its entry' => function (Client $client, string $log): void {
        $error = thrown(fn () => $client->chat(['model' => 'test/429'] + HELLO));
        same([AuditException::class, 'RateLimitError'], [$error::class, $error->type]);
        same([$error->reply->entry], file(glob("$log/*.jsonl")[0], FILE_IGNORE_NEW_LINES));
    },
    'bytes that are no text are refused' => function (Client $client): void {
        same(JsonException::class, thrown(fn () => $client->chat(['prompt' => "\xff"] + HELLO))::class);
    },
    'a forked child goes on with the client, and the parent with its calls' => function (Client $client, string $log): void {
        $stream = $client->stream(HELLO);
        $child = pcntl_fork();
        if ($child === 0) {
            $client->chat(HELLO);
            exit(0);
        }
        pcntl_waitpid($child, $status);
        same(0, $status);
        same('You said: hello', $stream->reply()->content);
        same([null, null], errorTypes($log));
    },
    'a stream that runs at exit is cancelled' => fn () => same([3, '', ['Cancelled']], child('exit')),
    'a stream that runs when the script dies is cancelled' => function (): void {
        [$status, $said, $types] = child('throw');
        same([255, true, ['Cancelled']], [$status, str_contains($said, 'enough'), $types]);
    },
    'a signal is handled while a call waits' => fn () => same([4, '', ['Cancelled']], child('signal')),
    'php-fpm serves calls, with the library preloaded and FFI shut for requests' => function (Client $client, string $log): void {
        $fpm = "$log.fpm";
        mkdir($fpm);
        $package = __DIR__ . '/vendor/audit-logger/audit-logger';
        file_put_contents("$fpm/header", shell_exec(PHP_BINARY . ' ' . escapeshellarg("$package/header.php")));
        file_put_contents("$fpm/conf", <<<END
            [global]
            error_log = $fpm/errors
            daemonize = no
            [www]
            listen = $fpm/socket
            pm = static
            pm.max_children = 1
            catch_workers_output = yes
            END);
        $ini = ['opcache.enable=1', "opcache.preload=$package/preload.php", 'ffi.enable=preload',
            "ffi.preload=$fpm/header", ...(posix_getuid() === 0 ? ['opcache.preload_user=root'] : [])];
        $options = array_merge(...array_map(fn (string $value) => ['-d', $value], $ini));
        $process = proc_open([getenv('PHP_FPM'), '-R', '-y', "$fpm/conf", ...$options], [], $pipes);
        try {
            for ($tries = 0; !file_exists("$fpm/socket") && $tries < 1000; $tries++) {
                usleep(10000);
            }
            $ask = fn (string $query): string => (string) shell_exec(
                'REQUEST_METHOD=GET QUERY_STRING=' . $query . ' SCRIPT_FILENAME=' . escapeshellarg(__DIR__ . '/fpm.php')
                . ' LOG=' . escapeshellarg("$fpm/log") . ' SERVER_URL=' . escapeshellarg($GLOBALS['server'])
                . ' cgi-fcgi -bind -connect ' . escapeshellarg("$fpm/socket") . ' 2>&1',
            );
            $first = $ask('ask');
            same(1, preg_match('/You said: hello (\d+)$/', $first) ?: $first );
            $ask('die');
            same(strrchr($first, 'Y'), strrchr($ask('ask'), 'Y')); // The same worker.
            same([null, 'Cancelled', null], errorTypes("$fpm/log"));
        } finally {
            proc_terminate($process);
            proc_close($process);
        }
    },
];
$number = 0;
foreach ($promises as $what => $promise) {
    $log = "$directory/" . $number++;
    try {
        $client = client($log);
        $promise($client, $log);
        $client->close();
        unset($client);
    } catch (Throwable $failure) {
        fwrite(STDERR, "$what: $failure\n");
        exit(1);
    }
}
echo "$number passed, 0 failed\n";
