#!/bin/sh
# Installs the wheel of this machine into an environment in DIRECTORY that has nothing else, and two more
# that have the openai package and LangChain beside it, for the tests.
set -eu
into=$(cd "$1" && pwd)
cd "$(dirname "$0")"

wheel=$(ls dist/audit_logger-*-linux_*.whl)
environment() {
    python3 -m venv "$into/$1"
    "$into/$1/bin/pip" install -q --disable-pip-version-check --no-index "$wheel"
    [ $# -eq 1 ] || "$into/$1/bin/pip" install -q --disable-pip-version-check --no-index \
        --find-links "cache/$2" -r "$2.txt"
}
environment python
environment openai requirements
environment langchain requirements-langchain
cp -r example/chat.py tests "$into"
program() {
    printf '#!/bin/sh\nset -e\nhere=$(dirname "$0")\n%s\n' "$2" >"$into/$1"
    chmod +x "$into/$1"
}
program chat 'exec "$here/python/bin/python" -W error "$here/chat.py" "$@"'
program conformance 'exec "$here/python/bin/python" -W error "$here/tests/conformance.py" "$@"'
program check '(cd "$here" && openai/bin/mypy --strict --cache-dir "$2/mypy" -p audit_logger)
(cd "$here" && openai/bin/mypy --strict --cache-dir "$2/mypy" chat.py)
"$here/python/bin/python" -X dev -W error "$here/tests/test_client.py" "$@"
for with in openai langchain; do "$here/$with/bin/python" "$here/tests/test_openai.py" "$@"; done'
