<?php

declare(strict_types=1);

// For opcache.preload: php.ini's ffi.enable=preload lets only preloaded code call FFI. README.md says more.

foreach (['AuditException', 'Call', 'Client', 'Inbox', 'Native', 'Pending', 'Reply'] as $class) {
    require_once __DIR__ . "/src/$class.php";
}
