#!/bin/sh
# Checks the signature of a checkpoint with openssl alone: sh checkpoint.sh VKEY CHECKPOINT
# Exits with 0 if the key in VKEY signed it. One signature is looked at, the first of that name.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
vkey=$(cat "$1")
name=${vkey%%+*}
rest=${vkey#*+}

# An Ed25519 key in DER is these twelve bytes and the key; before it the vkey has its type.
{ printf '\060\052\060\005\006\003\053\145\160\003\041\000'
  printf %s "${rest#*+}" | openssl base64 -d -A | tail -c 32; } >"$work/key"
# The text ends before the empty line.
sed '/^$/,$d' "$2" >"$work/text"
# A signature comes behind four bytes of key id.
sed '1,/^$/d' "$2" | awk -v name="$name" '$2 == name { print $3; exit }' |
    openssl base64 -d -A | tail -c +5 >"$work/signature"
[ "$(head -n 1 "$work/text")" = "$name" ]
openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key" -rawin -in "$work/text" \
    -sigfile "$work/signature"
