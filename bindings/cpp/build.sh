#!/bin/sh
# Packs the installed tree, of which audit_logger.hpp is a part; bindings/README.md says how this is called.
set -eu
cd "$(dirname "$0")"

rm -rf dist
mkdir dist
version=$(sed -n 's/.*AUDIT_LOGGER_VERSION "\(.*\)"/\1/p' "$AUDIT_LOGGER_PREFIX/include/audit_logger.h")
tar -C "$AUDIT_LOGGER_PREFIX" -czf "dist/audit_logger-$version-cpp.tar.gz" include lib
