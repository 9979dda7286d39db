#!/bin/sh
# Builds the packages, or those that are named, each by its own build.sh. One whose language isn't there
# (77) is named, and is no failure. `make bindings` calls this.
set -u
cd "$(dirname "$0")"

[ $# -gt 0 ] || set -- */
failed=
for directory; do
    language=${directory%/}
    sh "$language/build.sh"
    case $? in
        0) echo "$language: bindings/$language/dist" ;;
        77) echo "$language: left out" ;;
        *) failed="$failed $language" ;;
    esac
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
