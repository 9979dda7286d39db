#!/bin/sh
# Installs the package into an empty directory, with three programs: install.sh DIRECTORY
set -eu
cd "$(dirname "$0")"
to=$1

absent() { echo "$1" >&2; exit 77; }
for program in mcs mono; do
    command -v $program >/dev/null || absent "$program isn't installed"
done
[ -e "$(dirname "$(readlink -f "$(command -v mono)")")/../lib/mono/4.5/System.Web.Extensions.dll" ] ||
    absent "mono has no System.Web.Extensions"
# As NuGet lays it out, and as a build puts it beside the program.
"${AUDIT_TEST_PYTHON:-python3}" -m zipfile -e dist/*.nupkg "$to/auditlogger"
cp "$to/auditlogger/lib/netstandard2.0/AuditLogger.dll" "$to/auditlogger/runtimes/linux-x64/native/libaudit_logger.so" "$to"
for program in examples/Chat tests/Conformance tests/Check; do
    name=$(basename $program)
    mcs -langversion:7 -warn:4 -warnaserror+ -r:"$to/AuditLogger.dll" -r:System.Web.Extensions.dll \
        -out:"$to/$name.exe" $program.cs >&2
    lower=$(echo "$name" | tr '[:upper:]' '[:lower:]')
    cat >"$to/$lower" <<EOF
#!/bin/sh
CHECK=\$0 exec mono "\$(dirname "\$0")/$name.exe" "\$@"
EOF
    chmod +x "$to/$lower"
done
