<?php

declare(strict_types=1);

namespace AuditLogger;

use FFI;
use FFI\CData;

/**
 * Makes chat calls, each of which leaves exactly one entry in the audit log. Methods throw AuditException,
 * and a client that is closed answers with AUDIT_E_HANDLE. A forked child may go on with it. Calls that
 * still run when the script or the request ends are cancelled.
 *
 * Requests, records and configurations are arrays, as schema/request.json, schema/record.json and
 * schema/config.json have them. An empty object is new \stdClass, for [] is a list.
 */
final class Client
{
    private const OK = 0;
    private const TIMEOUT = -8;
    private const KINDS = [1 => 'delta', 2 => 'chunk'];
    private const DONE = 3;

    /** What the library said of the log, as JSON: "path", "recovered", "torn", "warnings". */
    public readonly string $opened;

    private readonly CData $logger;
    private readonly string $queueOptions;
    private CData $queue;
    private int $process = 0;
    private int $tags = 0;
    private bool $closed = false;
    /** @var array<int, Inbox> */
    private array $calls = [];

    /**
     * Opens the log, and proves that it can be written to.
     *
     * @param array<string, mixed> $config see docs/configuration.md
     * @param array<string, mixed> $queueOptions "running": how many calls run at once (64; to 4,096)
     */
    public function __construct(array $config = [], array $queueOptions = [])
    {
        $this->queueOptions = Native::json($queueOptions);
        $this->logger = Native::place('AuditLogger *');
        $this->opened = (string) Native::call('logger_new', Native::json($config), FFI::addr($this->logger))->json;
        $this->listen();
        // Of a script that dies of an error, no destructor is called.
        $client = \WeakReference::create($this);
        register_shutdown_function(static fn () => $client->get()?->__destruct());
    }

    public function __destruct()
    {
        if (isset($this->queue)) {
            Native::library()->audit_queue_free($this->queue);
        }
        Native::library()->audit_logger_free($this->logger);
    }

    /**
     * Makes a call, and waits for its answer.
     *
     * @param array<string, mixed> $request "user_id" and "prompt", and what else schema/request.json has
     * @param ?callable(string): mixed $onDelta gets each part of the answer as it comes; what it throws
     *     cancels the call and comes out of here
     */
    public function chat(array $request, ?callable $onDelta = null): Reply
    {
        if ($onDelta === null) {
            return $this->start($request)->reply();
        }
        $call = $this->stream($request);
        foreach ($call as $part) {
            $onDelta($part);
        }
        return $call->reply();
    }

    /**
     * Begins a streamed call: foreach ($client->stream($request) as $delta) ...
     *
     * @param array<string, mixed> $request as for chat; with "stream" => "chunks" the parts are the server's
     *     payloads, with "all" both
     */
    public function stream(array $request): Call
    {
        return $this->start(['stream' => $request['stream'] ?? true] + $request);
    }

    /**
     * Begins a call, and doesn't wait: several can run at once.
     *
     * @param array<string, mixed> $request
     */
    public function start(array $request): Call
    {
        if ($this->process !== getmypid()) {
            // A forked child's: the queue is its parent's.
            $this->listen();
        }
        $text = Native::json($request);
        $tag = ++$this->tags;
        $queue = $this->queue;
        Native::call('queue_submit', $queue, $text, strlen($text), $tag);
        $inbox = $this->calls[$tag] = new Inbox();
        return new Call(
            $inbox,
            fn () => $this->pump($queue, $inbox),
            fn () => Native::library()->audit_queue_cancel($queue, $tag, null),
        );
    }

    /**
     * Logs a call that the program made itself: one entry.
     *
     * @param array<string, mixed> $record see schema/record.json
     */
    public function log(array $record): Reply
    {
        $text = Native::json($record);
        return Native::call('record_json', $this->logger, $text, strlen($text));
    }

    /**
     * Begins a call that the program makes itself, which has an entry even if the process is killed.
     *
     * @param array<string, mixed> $record
     */
    public function begin(array $record): Pending
    {
        $text = Native::json($record);
        $pending = Native::place('AuditPending *');
        $begun = Native::call('record_begin_json', $this->logger, $text, strlen($text), FFI::addr($pending));
        return new Pending($pending, (string) $begun->entryId);
    }

    /** What the log shows for a text: 64 hexadecimal digits. */
    public function hash(string $text): string
    {
        return (string) Native::call('logger_hash', $this->logger, $text, strlen($text))->content;
    }

    /** The health of the logger, as JSON. */
    public function stats(): string
    {
        return (string) Native::call('logger_stats', $this->logger)->json;
    }

    /**
     * Has the disk confirm what was written, and seals it. With $witnessed it waits until the log's witnesses have
     * signed it too; the exception's status is AUDIT_E_WITNESS if they haven't in time.
     */
    public function flush(float $seconds = 5, bool $witnessed = false): void
    {
        $options = json_encode(['witnessed' => $witnessed]);
        Native::call('logger_flush_with', $this->logger, (int) ($seconds * 1000), $options);
    }

    /**
     * Takes no new calls, waits for the running ones, cancels those that are left when the time is up, and
     * has the disk confirm and seal the log. Closing twice is fine.
     */
    public function close(float $seconds = 5): void
    {
        if ($this->closed) {
            return;
        }
        $this->closed = true;
        try {
            Native::call('logger_close', $this->logger, (int) ($seconds * 1000));
        } finally {
            // They have ended; what they came to waits to be taken.
            while ($this->calls !== [] && $this->take($this->queue, 1000)) {
            }
            $this->__destruct();
        }
    }

    private function listen(): void
    {
        $this->queue = Native::place('AuditQueue *');
        Native::call('queue_new', $this->logger, $this->queueOptions, FFI::addr($this->queue));
        $this->process = getmypid();
        $this->calls = [];
    }

    /** Waits until something came of a call, or of another. In steps, so that PHP's signal handlers run. */
    private function pump(CData $queue, Inbox $inbox): void
    {
        while (!$this->take($queue, 100, $inbox)) {
        }
    }

    /** Gives the next event to the call that it belongs to. Returns whether there was one in that time. */
    private function take(CData $queue, int $milliseconds, ?Inbox $waiting = null): bool
    {
        $library = Native::library();
        $event = Native::place('AuditReply *');
        $status = $library->audit_queue_next($queue, $milliseconds, FFI::addr($event));
        if ($status === self::TIMEOUT) {
            $library->audit_reply_free($event);
            return false;
        }
        if ($status !== self::OK) {
            // The client was closed, or the queue is a parent process's.
            $gone = Reply::take($status, $event);
            foreach ($waiting === null ? $this->calls : [$waiting] as $inbox) {
                $inbox->reply = $gone;
            }
            return true;
        }
        $tag = $library->audit_reply_int($event, Reply::TAG);
        $kind = $library->audit_reply_int($event, Reply::EVENT);
        if ($kind === self::DONE) {
            $this->calls[$tag]->reply = Reply::take(null, $event);
            unset($this->calls[$tag]);
        } else {
            $this->calls[$tag]->parts->enqueue([self::KINDS[$kind], Reply::text($event)]);
            $library->audit_reply_free($event);
        }
        return true;
    }
}
