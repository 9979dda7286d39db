#!/bin/sh
# Packs the package for this machine out of AUDIT_LOGGER_PREFIX, or, if AUDIT_DIST names a directory with what
# scripts/dist.sh made, for all of those: x64 and arm64, glibc and musl. AUDIT_LOGGER_FETCH has it bring what
# it needs and is tested with into cache/.
set -eu
cd "$(dirname "$0")"

command -v node >/dev/null && command -v npm >/dev/null || { echo "node: no node with npm" >&2; exit 77; }
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
cp package.json index.js index.d.ts library.js poller.js README.md "$made"
cp ../../LICENSE-MIT ../../LICENSE-APACHE ../../THIRD_PARTY "$made"
if [ -n "${AUDIT_LOGGER_FETCH:-}" ]; then
    mkdir "$made/fetch"
    cp package.json package-lock.json "$made/fetch"
    fetch() { npm "$@" --silent --ignore-scripts --cache "$PWD/cache" --prefix "$made/fetch"; }
    # The first holds what comes to the lock file; the second keeps what an installation without one asks for.
    fetch ci
    rm -r "$made/fetch/package-lock.json" "$made/fetch/node_modules"
    fetch install --no-package-lock
fi
[ -d cache ] || { echo "node: no packages in bindings/node/cache" >&2; exit 77; }

mkdir "$made/lib"
if [ -n "${AUDIT_DIST:-}" ]; then
    for archive in "$AUDIT_DIST"/audit_logger-*.tar.gz; do
        name=$(basename "$archive" .tar.gz)
        tar -C "$made" -xzf "$archive"
        case $name in *-x86_64-*) machine=x64 ;; *) machine=arm64 ;; esac
        cp "$made/$name/lib/libaudit_logger.so" "$made/lib/linux-$machine-${name##*-}.so"
    done
else
    libc=$(node -p 'process.report.getReport().header.glibcVersionRuntime ? "gnu" : "musl"')
    cp "$AUDIT_LOGGER_PREFIX/lib/libaudit_logger.so" "$made/lib/linux-$(node -p process.arch)-$libc.so"
fi
rm -rf dist
mkdir dist
npm pack --silent --pack-destination "$PWD/dist" "$made" >/dev/null
