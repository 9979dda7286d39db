<?php

declare(strict_types=1);

namespace AuditLogger;

use FFI;

/** A call that the program makes by another client, from Client::begin. */
final class Pending
{
    /** @internal */
    public function __construct(
        private readonly FFI\CData $handle,
        /** The id that the entry will have. */
        public readonly string $entryId,
    ) {
    }

    /**
     * Writes the entry.
     *
     * @param array<string, mixed> $record "status" ("success" or "error"), and what else came of it: see
     *     schema/record.json
     * @throws AuditException AUDIT_E_ARGUMENT (it can be finished again), AUDIT_E_HANDLE (it was before)
     */
    public function finish(array $record): Reply
    {
        $text = Native::json($record);
        return Native::call('record_finish_json', $this->handle, $text, strlen($text));
    }
}
