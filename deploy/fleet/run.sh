#!/bin/sh
# Starts a fleet of 100 simulated hosts with all that stands behind it, damages what it gathered, and fails unless each
# damage is named: see docs/fleet.md. Builds and fetches below target what it needs: Go modules, Kafka from Maven, chdb
# and a Kafka client from PyPI. Needs root for the hosts' names ("unshare --map-root-user" does), Java 17, Go, Maven, ssh-agent.
# Everything listens on 127.0.0.1 and is ended in the end.
set -eu
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
built=$target/fleet
mkdir -p "$built"

cargo build --locked --lib
cargo build --locked --features cli --bin audit-logger
cc -std=c99 -Iinclude deploy/fleet/host.c "$target/debug/libaudit_logger.a" -lpthread -ldl -lm -o "$built/host"
(cd deploy/collectors/otelcol && go build -o "$built/otelcol" .)
(cd tests/third_party/witnesses && GOTOOLCHAIN=go1.27.3 go build -o "$built/litewitness" filippo.io/torchwood/cmd/litewitness)
[ -d "$built/kafka" ] || mvn -q -f deploy/fleet/pom.xml dependency:copy-dependencies -DoutputDirectory="$built/kafka"
[ -x "$built/python/bin/python" ] || python3 -m venv "$built/python"
"$built/python/bin/pip" install -q -r deploy/fleet/requirements.txt

exec "$built/python/bin/python" deploy/fleet/fleet.py "$built" "$target/debug/audit-logger" "${1:-180}"
