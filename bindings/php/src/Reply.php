<?php

declare(strict_types=1);

namespace AuditLogger;

use FFI;

/** What the library answers. What isn't known is null. */
final class Reply
{
    /** @internal */
    public const EVENT = 108;
    /** @internal */
    public const TAG = 109;
    private const CONTENT = 1;
    private const STATUS = 107;

    private function __construct(
        /** "AUDIT_OK", or the name of an error's status. */
        public readonly string $status,
        /** The answer of the model, or the part of it that came before an error. */
        public readonly ?string $content,
        /** The body of the response; of a streamed one the chat.completion that it adds up to. */
        public readonly ?string $json,
        /** The entry, as its line stands in the log. */
        public readonly ?string $entry,
        public readonly ?string $entryId,
        /** The class of the error ("RateLimitError"), or the name of the status; "" for a success. */
        public readonly string $errorType,
        /** What was wrong, for a person. */
        public readonly string $errorMessage,
        public readonly ?string $finishReason,
        public readonly ?string $model,
        public readonly ?string $provider,
        public readonly ?string $generationId,
        public readonly ?string $providerErrorType,
        public readonly ?int $httpStatus,
        /** 0: nothing was sent; 1: the server answered; 2: it may have been processed and billed. */
        public readonly ?int $outcome,
        public readonly ?int $promptTokens,
        public readonly ?int $completionTokens,
        public readonly ?int $retryAfterMs,
        public readonly ?int $attempts,
    ) {
    }

    /**
     * Reads a reply of the library's, and frees it.
     *
     * @internal
     * @param ?int $status null: what the event says
     */
    public static function take(?int $status, FFI\CData $reply): self
    {
        $library = Native::library();
        $number = function (int $field) use ($library, $reply): ?int {
            $number = $library->audit_reply_int($reply, $field);
            return $number < 0 ? null : $number;
        };
        try {
            return new self(
                $library->audit_status_name($status ?? $library->audit_reply_int($reply, self::STATUS)),
                ...array_map(fn (int $field) => self::text($reply, $field), range(self::CONTENT, 11)),
                ...array_map($number, range(101, 106)),
            );
        } finally {
            $library->audit_reply_free($reply);
        }
    }

    /** @internal */
    public function checked(): self
    {
        return $this->status === 'AUDIT_OK' ? $this : throw new AuditException($this);
    }

    /**
     * The text of an event. By its length, for it may hold NULs.
     *
     * @internal
     */
    public static function text(FFI\CData $reply, int $field = self::CONTENT): ?string
    {
        $library = Native::library();
        $length = $library->new('size_t');
        $text = $library->audit_reply_text($reply, $field, FFI::addr($length));
        return $text === null ? null : FFI::string($text, $length->cdata);
    }
}
