#!/usr/bin/env bash
# Runs all tests beside two busy loops, ten times or as often as the first argument says: they are to pass
# on a machine that has other things to do. Further arguments are cargo test's ("--test cancel").
set -euo pipefail
cd "$(dirname "$0")/.."
times=${1:-10}
loops=()
for _ in 1 2; do
    while :; do :; done &
    loops+=($!)
done
trap 'kill "${loops[@]}"' EXIT
for ((n = 1; n <= times; n++)); do
    printf '\n== %s of %s (%s s)\n' "$n" "$times" "$SECONDS"
    cargo test --locked --no-fail-fast "${@:2}"
done
