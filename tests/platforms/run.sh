#!/bin/sh
# Builds by scripts/dist.sh and has each library make a call and log it, from C, in the smallest place that it
# runs in: aarch64 under qemu-user. Then builds one again, in another directory, and compares bytes. As root on
# Debian, in half an hour:
#
#     sh tests/platforms/run.sh
set -eu
cd "$(dirname "$0")/../.."

scratch=$(mktemp -d)
trap 'kill ${server:-} 2>/dev/null; rm -rf "$scratch"' EXIT
target=${CARGO_TARGET_DIR:-$PWD/target}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
dist=${AUDIT_DIST:-$PWD/dist}

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq qemu-user libc6-arm64-cross musl binutils >/dev/null
# musl for the other architecture, in a directory of its own.
mkdir -p "$scratch/lists/partial" "$scratch/arm64"
apt="-o APT::Architectures::=amd64 -o APT::Architectures::=arm64 -o Dir::State::Lists=$scratch/lists"
apt-get update -qq $apt
(cd "$scratch" && apt-get download -qq $apt -o APT::Sandbox::User=root musl:arm64)
dpkg -x "$scratch"/musl_*_arm64.deb "$scratch/arm64"

[ -n "${AUDIT_DIST_BUILT:-}" ] || sh scripts/dist.sh
(cd "$dist" && sha256sum --quiet --check SHA256SUMS)
zig="$target/dist/tools/bin/python-zig"

cargo build -q --locked -p example-server
"$target/debug/example-server" >"$scratch/address" &
server=$!
while [ ! -s "$scratch/address" ]; do
    kill -0 $server
    sleep 0.1
done
AUDIT_BASE_URL=$(cat "$scratch/address")
OPENROUTER_API_KEY=none
export AUDIT_BASE_URL OPENROUTER_API_KEY

calls() {
    triple=$1 for_zig=$2
    shift 2
    name=audit_logger-$version-$triple
    tar -C "$scratch" -xzf "$dist/$name.tar.gz"
    unpacked=$scratch/$name
    "$zig" cc -target "$for_zig" -std=c99 -I"$unpacked/include" examples/chat.c -L"$unpacked/lib" \
        -laudit_logger -o "$unpacked/chat"
    (cd "$unpacked" && LD_LIBRARY_PATH=$unpacked/lib "$@" ./chat "Why is the sky blue?" >answer)
    grep -q . "$unpacked/answer"
    entries=$(cat "$unpacked"/audit_logs/audit_*.jsonl | grep -c '"status":"success"')
    [ "$entries" = 1 ]
    # The tool needs nothing of the library's.
    "$@" "$unpacked/bin/audit-logger" verify "$unpacked/audit_logs" >/dev/null
    echo "$triple: made a call, logged it, verified it"
}
calls x86_64-unknown-linux-gnu x86_64-linux-gnu.2.17 env
calls x86_64-unknown-linux-musl x86_64-linux-musl env
calls aarch64-unknown-linux-gnu aarch64-linux-gnu.2.17 qemu-aarch64 -L /usr/aarch64-linux-gnu
calls aarch64-unknown-linux-musl aarch64-linux-musl qemu-aarch64 -L "$scratch/arm64"

git archive --prefix=elsewhere/ HEAD | tar -C "$scratch" -xf -
name=audit_logger-$version-x86_64-unknown-linux-gnu.tar.gz
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) AUDIT_DIST="$scratch/again" CARGO_TARGET_DIR="$scratch/target" \
    sh "$scratch/elsewhere/scripts/dist.sh" x86_64-unknown-linux-gnu
cmp "$dist/$name" "$scratch/again/$name"
cmp "$dist/${name%.tar.gz}.cdx.json" "$scratch/again/${name%.tar.gz}.cdx.json"
echo "$name: the same bytes, built twice"
