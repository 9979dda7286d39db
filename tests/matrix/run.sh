#!/bin/sh
# Installs real servers from PyPI below target/matrix, and runs tests/matrix.rs with them. They listen on
# loopback and call nobody.
set -eu
cd "$(dirname "$0")/../.."

matrix=${CARGO_TARGET_DIR:-$PWD/target}/matrix
install() {
    environment=$matrix/$1
    shift
    [ -x "$environment/bin/python" ] || python3 -m venv "$environment"
    "$environment/bin/pip" install -q "$@"
}
install litellm 'litellm[proxy]==1.108.7'
install mlflow 'mlflow[gateway]==3.17.2'
# llama.cpp's server as wheels have it, and what a model for it is written with.
install llama xllamacpp==2026.10.11549 gguf==0.19.0
install openai "$(grep '^openai==' tests/seed/requirements.txt)"
AUDIT_TEST_MATRIX=$matrix exec cargo test --test matrix -- --ignored --nocapture
