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

    /** For opcache.preload: afterwards requests need no ffi.enable, and read no declarations. */
    public static function preload(): void
    {
        $header = tempnam(sys_get_temp_dir(), 'audit_logger');
        try {
            file_put_contents($header, sprintf(
                "#define FFI_SCOPE \"%s\"\n#define FFI_LIB \"%s\"\n%s",
                self::SCOPE,
                self::file(),
                self::declarations(),
            ));
            FFI::load($header);
        } finally {
            unlink($header);
        }
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
