#!/bin/sh
# Builds the wheel for this machine out of AUDIT_LOGGER_PREFIX. If AUDIT_DIST names a directory with what
# scripts/dist.sh made, it builds those that are published, for any Linux: manylinux2014 and musllinux.
# AUDIT_LOGGER_FETCH has it bring what it builds and tests with into cache/.
set -eu
cd "$(dirname "$0")"
python=python3

"$python" -c 'import venv, ensurepip' 2>/dev/null || { echo "python: no python3 with venv" >&2; exit 77; }
if [ -n "${AUDIT_LOGGER_FETCH:-}" ]; then
    for list in requirements requirements-langchain; do
        "$python" -m pip download -q --disable-pip-version-check -d "cache/$list" -r "$list.txt"
    done
fi
[ -d cache/requirements-langchain ] || { echo "python: no packages in bindings/python/cache" >&2; exit 77; }

made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$python" -m venv "$made/python"
"$made/python/bin/pip" install -q --disable-pip-version-check --no-index --find-links cache/requirements hatchling
rm -rf dist
wheel() {
    WHEEL_LIBRARY=$1 WHEEL_PLATFORM=$2 "$made/python/bin/hatchling" build -t wheel -d dist
}
if [ -n "${AUDIT_DIST:-}" ]; then
    for archive in "$AUDIT_DIST"/audit_logger-*.tar.gz; do
        name=$(basename "$archive" .tar.gz)
        tar -C "$made" -xzf "$archive"
        machine=${name#audit_logger-*-}
        machine=${machine%%-*}
        case $name in
            *-gnu) platform=manylinux2014_$machine ;;
            *-musl) platform=musllinux_1_2_$machine ;;
        esac
        wheel "$made/$name/lib/libaudit_logger.so" "$platform"
    done
else
    wheel "$AUDIT_LOGGER_PREFIX/lib/libaudit_logger.so" "linux_$(uname -m)"
fi
