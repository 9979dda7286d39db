#!/bin/sh
# Makes THIRD_PARTY anew, after a dependency changed: what is linked into the library, with its licences.
# Wants cargo-about: cargo install --locked --features cli cargo-about@0.9.3
set -eu
cd "$(dirname "$0")/.."
cargo about generate --locked --offline --fail --manifest-path src/cdylib/Cargo.toml --config about.toml \
    --output-file THIRD_PARTY scripts/third-party.hbs
