#!/bin/sh
# Installs the jar into an empty directory, with what is used with it, a Java of 22 or later, and three
# programs: install.sh DIRECTORY
set -eu
cd "$(dirname "$0")"
to=$1

absent() { echo "$1" >&2; exit 77; }
command -v javac >/dev/null || absent "javac isn't installed"
java22=$(sh java22.sh) || exit 77
cp dist/audit-logger-*.jar dist/with/*.jar "$to"
cp -rL "$java22" "$to/java22"
javac --release 17 -Xlint:all,-classfile -Werror -cp "$to/*" -d "$to/classes" src/test/java/*.java

# JNA and the Java of the machine, FFM and the other.
program() {
    cat >"$to/$1"
    chmod +x "$to/$1"
}
common='here=$(dirname "$0")
jna() { java -cp "$here/*:$here/classes" "$@"; }
ffm() {
    "$here/java22/bin/java" --enable-native-access=ALL-UNNAMED -Djdk.virtualThreadScheduler.parallelism=1 \
        -Djdk.virtualThreadScheduler.maxPoolSize=1 -cp "$here/*:$here/classes" "$@"
}'
program chat <<EOF
#!/bin/sh
$common
ffm Chat "\$@"
EOF
program conformance <<EOF
#!/bin/sh
# The table says what came by FFM; what fails by JNA is a failure too.
$common
mkdir "\$3/jna" "\$3/ffm"
ffm Conformance "\$1" "\$2" "\$3/ffm"
status=\$?
jna Conformance "\$1" "\$2" "\$3/jna" >"\$3/jna.json" || { grep '"fail"' "\$3/jna.json" >&2; exit 1; }
exit \$status
EOF
program check <<EOF
#!/bin/sh
set -e
$common
mkdir "\$2/jna" "\$2/ffm"
jna Check "\$1" "\$2/jna"
ffm Check "\$1" "\$2/ffm"
EOF
