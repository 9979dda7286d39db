#!/bin/sh
# Installs real servers from PyPI below target/matrix, and runs tests/matrix.rs with them. They listen on
# loopback and call nobody.
set -eu
cd "$(dirname "$0")/../.."

matrix=${CARGO_TARGET_DIR:-$PWD/target}/matrix
install() {
    [ -x "$matrix/$1/bin/python" ] || python3 -m venv "$matrix/$1"
    "$matrix/$1/bin/pip" install -q "$2"
}
install litellm 'litellm[proxy]==1.108.7'
install mlflow 'mlflow[gateway]==3.17.2'
AUDIT_TEST_MATRIX=$matrix exec cargo test --test matrix -- --ignored --nocapture
