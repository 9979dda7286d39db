#!/bin/sh
# Builds the NuGet package, with mono's compiler: dist/AuditLogger.VERSION.nupkg. (With an SDK of .NET,
# `dotnet pack` makes it of AuditLogger.csproj, from native/libaudit_logger.so.)
set -eu
cd "$(dirname "$0")"

command -v mcs >/dev/null || { echo "mono's mcs isn't installed" >&2; exit 77; }
rm -rf dist
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p dist "$stage/lib/netstandard2.0" "$stage/runtimes/linux-x64/native"
mcs -langversion:7 -warn:4 -warnaserror+ -optimize+ -target:library \
    -doc:"$stage/lib/netstandard2.0/AuditLogger.xml" -out:"$stage/lib/netstandard2.0/AuditLogger.dll" src/*.cs >&2
cp "$AUDIT_LOGGER_PREFIX/lib/libaudit_logger.so" "$stage/runtimes/linux-x64/native"
cp AuditLogger.nuspec README.md ../../LICENSE-* "$stage"
cat >"$stage/[Content_Types].xml" <<'EOF'
<?xml version="1.0" encoding="utf-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
  <Default Extension="nuspec" ContentType="application/octet" />
  <Default Extension="md" ContentType="application/octet" />
  <Default Extension="dll" ContentType="application/octet" />
  <Default Extension="xml" ContentType="application/octet" />
  <Default Extension="so" ContentType="application/octet" />
  <Override PartName="/LICENSE-MIT" ContentType="application/octet" />
  <Override PartName="/LICENSE-APACHE" ContentType="application/octet" />
</Types>
EOF
to=$PWD/dist/AuditLogger.0.1.0.nupkg
cd "$stage"
"${AUDIT_TEST_PYTHON:-python3}" -m zipfile -c "$to" ./*
