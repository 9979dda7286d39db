#!/bin/sh
# Builds the jar, and puts beside it those that it's used with: dist/audit-logger-VERSION.jar, dist/with/.
set -eu
cd "$(dirname "$0")"

absent() { echo "$1" >&2; exit 77; }
for program in javac mvn; do
    command -v $program >/dev/null || absent "$program isn't installed"
done
# The half for Java 22 and later is compiled against the classes of such a one; its JRE is enough.
java22=$(sh java22.sh) || exit 77
if [ -n "${AUDIT_LOGGER_FETCH:-}" ]; then
    offline=
elif [ -d cache ]; then
    offline=--offline
else
    absent "Maven's plugins aren't there: AUDIT_LOGGER_FETCH=1 fetches them into bindings/java/cache"
fi

rm -rf dist
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r pom.xml src "$stage"
mkdir -p "$stage/native/linux-$(uname -m | tr _ -)" dist/with
cp "$AUDIT_LOGGER_PREFIX/lib/libaudit_logger.so" "$stage/native/linux-$(uname -m | tr _ -)"
mvn --quiet --batch-mode $offline -Dmaven.repo.local="$PWD/cache" -f "$stage/pom.xml" \
    -Djava22.home="$java22" -Dnative.directory="$stage/native" package \
    dependency:copy-dependencies -DoutputDirectory="$stage/with" >&2
cp "$stage"/target/audit-logger-*.jar dist
cp "$stage"/with/jna-*.jar "$stage"/with/gson-*.jar dist/with
