<?php

declare(strict_types=1);

namespace AuditLogger;

/** Why a function of the library failed. The call that it was about has its entry: see $reply. */
final class AuditException extends \RuntimeException
{
    /** The name of the status: "AUDIT_E_CALL", "AUDIT_E_CANCELLED", ... */
    public readonly string $status;

    /** The class of the error, as the entry has it: "RateLimitError", "Cancelled", ... */
    public readonly string $type;

    /**
     * @param Reply $reply What came all the same: a part of the answer, the entry; with
     *     AUDIT_E_LOG_PENDING the whole answer, whose entry waits for the log.
     */
    public function __construct(public readonly Reply $reply)
    {
        parent::__construct("$reply->errorType: $reply->errorMessage");
        $this->status = $reply->status;
        $this->type = $reply->errorType;
    }
}
