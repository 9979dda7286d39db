#!/bin/sh
# Checks the tree with tessera's stock fsck: sh fsck.sh VKEY DIRECTORY
# It exits with 0 whatever it finds, so what it says counts; and with fewer workers than bad tiles
# it hangs for ever (tessera, issue 1098), so there are 16 and a time limit.
set -eu
vkey=$(realpath "$1")
tree=$(realpath "$2")/.integrity
cd "$(dirname "$0")/fsck"
said=$(timeout "${FSCK_SECONDS:-600}" go tool fsck --ui=false -N 16 \
    --storage_url="file://$tree" --public_key="$vkey" 2>&1) || said="$said
fsck ended with status $?"
printf '%s\n' "$said" | cut -c 1-200
printf '%s\n' "$said" | grep -q "Successfully fsck'd log"
