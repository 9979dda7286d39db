<?php

declare(strict_types=1);

namespace AuditLogger;

/**
 * What came of a call: parts of its answer that nobody took yet, and its end.
 *
 * @internal
 */
final class Inbox
{
    /** @var \SplQueue<array{string, string}> kinds and texts */
    public readonly \SplQueue $parts;
    public ?Reply $reply = null;

    public function __construct()
    {
        $this->parts = new \SplQueue();
    }
}
