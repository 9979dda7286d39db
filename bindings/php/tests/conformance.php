<?php

declare(strict_types=1);

// The runner of the table, as conformance/README.md describes it: conformance.php CASES SERVER DIRECTORY

use AuditLogger\AuditException;
use AuditLogger\Call;
use AuditLogger\Client;
use AuditLogger\Reply;

require __DIR__ . '/vendor/autoload.php';

final class Skip extends Exception
{
}

final class Conformance
{
    private const OUTCOMES = ['AUDIT_OUTCOME_NOT_SENT', 'AUDIT_OUTCOME_ANSWERED', 'AUDIT_OUTCOME_UNKNOWN'];
    private const PATTERNS = [
        '$text' => '/./s',
        '$uuid' => '/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/D',
        '$hash' => '/^[0-9a-f]{64}$/D',
        '$timestamp' => '/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/D',
    ];

    private ?Client $client = null;
    /** @var array<string, string> */
    private array $words;
    /** @var array<string, object> */
    private array $named = [];
    /** @var list<string> the entries that replies held */
    private array $lines = [];
    private string $log;

    public function __construct(string $cases, string $server, string $directory, private object $case, int $number)
    {
        $this->log = "$directory/$number";
        $this->words = [
            '$SERVER' => $server, '$LOG' => $this->log, '$CASES' => dirname(realpath($cases)), '$CASE' => $case->name,
        ];
    }

    public static function main(string $cases, string $server, string $directory): int
    {
        $failed = 0;
        foreach (json_decode(file_get_contents($cases), flags: JSON_THROW_ON_ERROR) as $number => $case) {
            $reason = '';
            try {
                (new self($cases, $server, $directory, $case, $number))->run();
                $result = 'pass';
            } catch (Skip $skip) {
                [$result, $reason] = ['skip', $skip->getMessage()];
            } catch (Throwable $failure) {
                [$result, $reason, $failed] = ['fail', get_class($failure) . ": {$failure->getMessage()}", 1];
            }
            echo json_encode(['case' => $case->name, 'result' => $result, 'reason' => $reason]), "\n";
        }
        return $failed;
    }

    private function run(): void
    {
        $config = ['output_path' => '$LOG', 'base_url' => '$SERVER', 'api_key' => 'sk-test', 'max_retries' => 0];
        $config = $this->expand([...$config, ...get_object_vars($this->case->config ?? new stdClass())]);
        $this->expect($this->case->open ?? (object) ['status' => 'AUDIT_OK'], 'open', function () use ($config) {
            $this->client = new Client($config);
            return ['json' => $this->client->opened];
        });
        foreach ($this->case->steps ?? [] as $at => $step) {
            if ($step->do === 'together') {
                $this->together($step, "step $at");
            } else {
                $this->expect($step->expect ?? new stdClass(), "step $at", fn () => $this->perform($step));
            }
        }
        $this->client?->close(30);
        $this->written();
    }

    private function written(): void
    {
        $lines = [];
        foreach (glob("$this->log/audit_*.jsonl") as $file) {
            array_push($lines, ...file($file, FILE_IGNORE_NEW_LINES));
        }
        if (count($lines) !== $this->case->entries) {
            throw new Exception(count($lines) . " entries instead of {$this->case->entries}");
        }
        if ($missing = array_diff($this->lines, $lines)) {
            throw new Exception('not in the log: ' . implode("\n", $missing));
        }
    }

    /** Performs a step, and returns what came of it: fields of "expect". */
    private function perform(object $step): array
    {
        if (isset($step->request_text)) {
            throw new Skip('the package makes the JSON itself');
        }
        $request = (array) $this->expand($step->request ?? new stdClass());
        $record = (array) $this->expand($step->record ?? new stdClass());
        $seconds = ($step->timeout_ms ?? $step->ms ?? 0) / 1000;
        switch ($step->do) {
            case 'chat':
                return $this->finished($this->start($request), $request, $step->stop_after ?? null);
            case 'start':
                $this->named[$step->as] = [$this->start($request), $request];
                return [];
            case 'cancel':
                $this->named[$step->as][0]->cancel();
                return [];
            case 'await':
                return $this->finished(...$this->named[$step->as]);
            case 'sleep':
                usleep((int) ($seconds * 1e6));
                return [];
            case 'log':
                return self::facts($this->client->log($record));
            case 'begin':
                $this->named[$step->as] = $this->client->begin($record);
                return [];
            case 'finish':
                return self::facts($this->named[$step->as]->finish($record));
            case 'flush':
                $this->client->flush($seconds, $step->witnessed ?? false);
                return [];
            case 'stats':
                return ['json' => $this->client->stats()];
            case 'hash':
                return ['text' => $this->client->hash($this->expand($step->text))];
            case 'close':
                $this->client->close($seconds);
                return [];
        }
        throw new Exception("an unknown step: $step->do");
    }

    private function start(array $request): Call
    {
        return empty($request['stream']) ? $this->client->start($request) : $this->client->stream($request);
    }

    private function finished(Call $call, array $request, ?int $stopAfter = null): array
    {
        $parts = ['delta' => [], 'chunk' => []];
        try {
            foreach ($call as $kind => $part) {
                $parts[$kind][] = $part;
                if (count($parts['delta']) === $stopAfter) {
                    $call->cancel();
                    break;
                }
            }
            $reply = $call->reply();
        } catch (AuditException $error) {
            $reply = $error->reply;
        }
        return self::facts($reply) + ['deltas' => $parts['delta'], 'chunks' => $parts['chunk']];
    }

    private function together(object $step, string $place): void
    {
        $calls = [];
        for ($number = 0; $number < $step->count; $number++) {
            $this->words['$N'] = (string) $number;
            $request = (array) $this->expand($step->request);
            $calls[] = [$this->start($request), $request];
        }
        foreach ($calls as $number => $call) {
            $this->words['$N'] = (string) $number;
            $this->expect($step->expect, "$place, call $number", fn () => $this->finished(...$call));
        }
    }

    private static function facts(Reply $reply): array
    {
        $fields = [];
        foreach (get_object_vars($reply) as $name => $value) {
            $fields[strtolower(preg_replace('/[A-Z]/', '_$0', $name))] = $value;
        }
        $fields['outcome'] = self::OUTCOMES[$reply->outcome] ?? null;
        return [
            'status' => $reply->status, 'error_type' => $reply->errorType, 'message' => $reply->errorMessage,
            'text' => $reply->content, 'json' => $reply->json, 'entry' => $reply->entry, 'line' => $reply->entry,
            'reply' => (object) $fields,
        ];
    }

    private function expect(object $expected, string $place, Closure $perform): void
    {
        try {
            $facts = $perform() + ['status' => 'AUDIT_OK', 'error_type' => ''];
        } catch (AuditException $error) {
            $facts = self::facts($error->reply);
        }
        if (isset($facts['line'])) {
            $this->lines[] = $facts['line'];
        }
        foreach (get_object_vars($this->expand($expected)) as $key => $wanted) {
            $value = $facts[$key === 'text_json' ? 'text' : $key] ?? null;
            if ($key === 'message' || $key === 'line') {
                str_contains((string) $value, $wanted) ?: throw new Exception("$place: $key $value has no $wanted");
                continue;
            }
            if (in_array($key, ['json', 'entry', 'text_json'], true) && $value !== null) {
                $value = json_decode($value, flags: JSON_THROW_ON_ERROR);
            } elseif ($key === 'chunks') {
                $value = array_map(json_decode(...), $value);
            }
            $this->match($wanted, $value, "$place: $key");
        }
    }

    private function match(mixed $wanted, mixed $value, string $place): void
    {
        if (is_object($wanted) && is_object($value)) {
            foreach (get_object_vars($wanted) as $key => $item) {
                if (property_exists($value, $key) === ($item === '$absent')) {
                    throw new Exception("$place: $key " . ($item === '$absent' ? 'is there' : "isn't there"));
                }
                $item === '$absent' || $this->match($item, $value->$key, "$place.$key");
            }
            return;
        }
        if (is_array($wanted) && is_array($value) && count($wanted) === count($value)) {
            foreach ($wanted as $at => $item) {
                $this->match($item, $value[$at], "{$place}[$at]");
            }
            return;
        }
        $number = is_int($value) || is_float($value);
        $good = match (true) {
            $wanted === '$any' => true,
            $wanted === '$number' => $number && $value >= 0,
            is_string($wanted) && isset(self::PATTERNS[$wanted]) =>
                is_string($value) && preg_match(self::PATTERNS[$wanted], $value) === 1,
            is_int($wanted) || is_float($wanted) => $number && $wanted == $value,
            default => $wanted === $value,
        };
        $good ?: throw new Exception(
            "$place: " . substr(json_encode($value), 0, 200) . ' instead of ' . substr(json_encode($wanted), 0, 200),
        );
    }

    private function expand(mixed $value): mixed
    {
        if (is_string($value)) {
            foreach ($this->words as $name => $word) {
                $value = str_replace($name, $word, $value);
            }
            return $value;
        }
        if (is_array($value)) {
            return array_map($this->expand(...), $value);
        }
        if (is_object($value)) {
            $members = get_object_vars($value);
            if (isset($members['$text'])) {
                $repeat = fn (array $pair) => str_repeat($pair[0], $pair[1]);
                return implode('', array_map($repeat, array_chunk($members['$text'], 2)));
            }
            $expanded = [];
            foreach ($members as $key => $item) {
                $expanded[$this->expand((string) $key)] = $this->expand($item);
            }
            return (object) $expanded;
        }
        return $value;
    }
}

exit(Conformance::main(...array_slice($argv, 1)));
