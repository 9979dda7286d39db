#!/bin/sh
# Makes a module proxy of files in dist/, which has the module with the header and the static library in it;
# bindings/README.md says how this is called.
set -eu
cd "$(dirname "$0")"
absent() { echo "$1" >&2; exit 77; }
go version 2>/dev/null | grep -Eq 'go1\.(2[3-9]|[3-9][0-9])' || absent "Go 1.23 or later isn't installed"

module=$(sed -n 's/^module //p' go.mod)
version=v$(sed -n 's/.*AUDIT_LOGGER_VERSION "\(.*\)"/\1/p' "$AUDIT_LOGGER_PREFIX/include/audit_logger.h")
rm -rf dist
files=dist/source
lib=$files/lib/$(go env GOOS)_$(go env GOARCH)
into=$PWD/dist/$module/@v
mkdir -p "$files" "$lib" "$into"
cp -R go.mod ./*.go README.md chat conformance "$files"
cp ../../LICENSE-MIT ../../LICENSE-APACHE ../../THIRD_PARTY "$AUDIT_LOGGER_PREFIX/include/audit_logger.h" "$files"
cp "$AUDIT_LOGGER_PREFIX/lib/libaudit_logger.a" "$lib"
GOTOOLCHAIN=local GOWORK=off go run internal/pack/main.go "$files" "$module@$version" "$into/$version.zip"
cp go.mod "$into/$version.mod"
echo "{\"Version\": \"$version\"}" >"$into/$version.info"
echo "$version" >"$into/list"
rm -rf "$files"
