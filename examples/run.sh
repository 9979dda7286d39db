#!/bin/sh
# Builds the library and the C example, and runs it: against OpenRouter if OPENROUTER_API_KEY is
# set, else against the server of these examples. The log goes to audit_logs in the project.
set -eu
cd "$(dirname "$0")/.."

cargo build --release --locked
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
built=$target/release
${CC:-cc} -std=c99 -Wall -Wextra -Iinclude examples/chat.c \
    -L"$built" -laudit_logger -Wl,-rpath,"$built" -o "$built/chat"

if [ -z "${OPENROUTER_API_KEY:-}" ]; then
    echo "OPENROUTER_API_KEY is not set: asking the server of the examples"
    cargo build --locked -p example-server
    address=$(mktemp)
    "$target/debug/example-server" >"$address" &
    server=$!
    trap 'kill $server; rm -f "$address"' EXIT
    while [ ! -s "$address" ]; do
        kill -0 $server
        sleep 0.1
    done
    AUDIT_BASE_URL=$(cat "$address")
    OPENROUTER_API_KEY=none
    export AUDIT_BASE_URL OPENROUTER_API_KEY
fi

"$built/chat" "$@"
echo "today's log:"
tail -n 1 "audit_logs/audit_$(date -u +%Y-%m-%d).jsonl"
