<?php

declare(strict_types=1);

namespace AuditLogger;

/**
 * A call that runs, from Client::stream or Client::start. Given up before its end, by break, an exception
 * or unset, it's cancelled, and its entry says so.
 *
 * @implements \IteratorAggregate<string, string>
 */
final class Call implements \IteratorAggregate
{
    /**
     * @internal
     * @param \Closure(): void $pump takes an event, of this call or another
     * @param \Closure(): void $cancel
     */
    public function __construct(
        private readonly Inbox $inbox,
        private readonly \Closure $pump,
        private readonly \Closure $cancel,
    ) {
    }

    public function __destruct()
    {
        $this->cancel();
    }

    /**
     * The parts of a streamed answer as they come. The key says what each is: "delta", or "chunk" for a
     * payload of the server's. It returns the Reply.
     *
     * @throws AuditException what the call failed with, after the parts that came
     */
    public function getIterator(): \Generator
    {
        while (true) {
            while (!$this->inbox->parts->isEmpty()) {
                [$kind, $text] = $this->inbox->parts->dequeue();
                yield $kind => $text;
            }
            if ($this->inbox->reply !== null) {
                return $this->inbox->reply->checked();
            }
            ($this->pump)();
        }
    }

    /**
     * Waits for the end of the call.
     *
     * @throws AuditException
     */
    public function reply(): Reply
    {
        while ($this->inbox->reply === null) {
            ($this->pump)();
        }
        return $this->inbox->reply->checked();
    }

    /** Ends the call, and waits until its entry is written. */
    public function cancel(): void
    {
        if ($this->inbox->reply === null) {
            ($this->cancel)();
            while ($this->inbox->reply === null) {
                ($this->pump)();
            }
        }
    }
}
