<?php

declare(strict_types=1);

// For php-fpm: opcache.preload=/path/to/vendor/audit-logger/audit-logger/preload.php. With it requests need
// no ffi.enable, which php.ini leaves at "preload", and read no declarations.

foreach (['AuditException', 'Call', 'Client', 'Inbox', 'Native', 'Pending', 'Reply'] as $class) {
    require_once __DIR__ . "/src/$class.php";
}
AuditLogger\Native::preload();
