#!/bin/sh
# Builds the gem, for machines like this one: dist/audit_logger-VERSION-PLATFORM.gem.
set -eu
cd "$(dirname "$0")"

command -v gem >/dev/null || { echo "ruby isn't installed" >&2; exit 77; }
rm -rf dist
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r audit_logger.gemspec README.md lib ../../LICENSE-* "$stage"
cp "$AUDIT_LOGGER_PREFIX/lib/libaudit_logger.so" "$stage/lib/audit_logger"
mkdir dist
to=$PWD/dist
cd "$stage"
gem build --quiet audit_logger.gemspec >&2
mv ./*.gem "$to"
