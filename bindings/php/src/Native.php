<?php

declare(strict_types=1);

namespace AuditLogger;

use FFI;

/**
 * The library, by FFI. Handles are pointers of C, which FFI keeps as they are.
 *
 * @internal
 */
final class Native
{
    private const SCOPE = 'audit_logger';

    private static ?FFI $library = null;

    public static function library(): FFI
    {
        return self::$library ??= self::preloaded() ?? FFI::cdef(self::declarations(), self::file());
    }

    /** A header for ffi.preload, after which requests find the library in a scope of its name. */
    public static function header(): string
    {
        return sprintf("#define FFI_SCOPE \"%s\"\n#define FFI_LIB \"%s\"\n", self::SCOPE, self::file())
            . self::declarations();
    }

    /**
     * Calls a function whose last parameter is a reply.
     *
     * @throws AuditException
     */
    public static function call(string $function, mixed ...$arguments): Reply
    {
        $reply = self::place('AuditReply *');
        $status = self::library()->{"audit_$function"}(...[...$arguments, FFI::addr($reply)]);
        return Reply::take($status, $reply)->checked();
    }

    /** Where the library puts a handle. */
    public static function place(string $type): FFI\CData
    {
        return self::library()->new($type);
    }

    /** @param array<mixed>|object $value */
    public static function json(array|object $value): string
    {
        $flags = JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRESERVE_ZERO_FRACTION;
        return json_encode((object) $value, $flags);
    }

    private static function preloaded(): ?FFI
    {
        try {
            return FFI::scope(self::SCOPE);
        } catch (FFI\Exception) {
            return null;
        }
    }

    private static function declarations(): string
    {
        return file_get_contents(__DIR__ . '/../native/audit_logger.cdef.h');
    }

    private static function file(): string
    {
        $packed = realpath(__DIR__ . '/../native/libaudit_logger.so');
        return getenv('AUDIT_LOGGER_LIBRARY') ?: ($packed ?: 'libaudit_logger.so.0.1');
    }
}
