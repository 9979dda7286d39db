#!/bin/sh
# Installs the package into DIRECTORY, with the example and the tests, and what these need.
set -eu
into=$(cd "$1" && pwd)
cd "$(dirname "$0")"

cp example/chat.js tests/*.js tests/*.ts "$into"
echo '{"type": "module", "private": true}' >"$into/package.json"
npm install --silent --no-audit --no-fund --ignore-scripts --offline --cache "$PWD/cache" --prefix "$into" \
    "$PWD"/dist/audit-logger-*.tgz typescript@5.9.3 @types/node@20.19.0
# Where it came from isn't to be looked at any more.
rm "$into/package-lock.json"
program() {
    printf '#!/bin/sh\nset -e\nhere=$(dirname "$0")\n%s\n' "$2" >"$into/$1"
    chmod +x "$into/$1"
}
program chat 'exec node "$here/chat.js" "$@"'
program conformance 'exec node "$here/conformance.js" "$@"'
program check '"$here/node_modules/.bin/tsc" --strict --noEmit --module nodenext --target es2022 "$here/types.ts"
exec node "$here/check.js" "$@"'
