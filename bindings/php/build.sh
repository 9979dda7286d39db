#!/bin/sh
# Builds the Composer package: dist/audit-logger-VERSION.zip.
set -eu
cd "$(dirname "$0")"

absent() { echo "$1" >&2; exit 77; }
for program in php composer "${CC:-cc}"; do
    command -v "$program" >/dev/null || absent "$program isn't installed"
done
for extension in FFI zip; do
    php -m | grep -qx "$extension" || absent "php has no $extension"
done
rm -rf dist
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir dist "$stage/package" "$stage/package/native"
cp -r composer.json README.md header.php preload.php src ../../LICENSE-* "$stage/package"
cp "$AUDIT_LOGGER_PREFIX/lib/libaudit_logger.so" "$stage/package/native"
# Of a result that is const char *, FFI makes a string that ends at the first NUL.
"${CC:-cc}" -E -P -DAUDIT_CDEF "$AUDIT_LOGGER_PREFIX/include/audit_logger.h" |
    sed 's/const char \*audit_reply_text/const uint8_t *audit_reply_text/' >"$stage/package/native/audit_logger.cdef.h"
COMPOSER_HOME=$stage/home COMPOSER_ALLOW_SUPERUSER=1 COMPOSER_DISABLE_NETWORK=1 \
    composer archive --quiet --no-interaction --working-dir="$stage/package" \
    --format=zip --dir="$PWD/dist" --file=audit-logger-0.1.0 >&2
