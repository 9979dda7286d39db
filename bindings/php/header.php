<?php

declare(strict_types=1);

// Prints what php.ini's ffi.preload takes: php header.php > /etc/php/audit_logger.h

require_once __DIR__ . '/src/Native.php';

echo AuditLogger\Native::header();
