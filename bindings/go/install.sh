#!/bin/sh
# Has a module of somebody else's get the package and build the three programs by it; bindings/README.md says how
# this is called.
set -eu
into=$1
cd "$(dirname "$0")"
command -v pkg-config >/dev/null || { echo "pkg-config isn't installed" >&2; exit 77; }
command -v "${CC:-cc}" >/dev/null || { echo "a C compiler isn't installed" >&2; exit 77; }

[ -z "$(gofmt -l -s ./*.go chat conformance internal)" ] || { echo "gofmt has something to say" >&2; exit 1; }
module=$(sed -n 's/^module //p' go.mod)
export GOPROXY="file://$PWD/dist" GOSUMDB=off GOFLAGS=-modcacherw GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=1
export GOMODCACHE="$into/modules"

mkdir "$into/service"
mkdir "$into/service/readme"
cp -R chat conformance "$into/service"
sed -n '/^```go$/,/^```$/p' README.md | sed '1d;$d' >"$into/service/readme/main.go"
cd "$into/service"
go mod init service.example/service 2>/dev/null
go get "$module" 2>/dev/null
go vet ./... "$module"
go build -o /dev/null ./readme
go build -o "$into/chat" ./chat
go build -o "$into/conformance" ./conformance
go test -c -race -o "$into/tests" "$module"

# The same with the shared library that is installed.
mkdir "$into/prefix"
cp -R "$AUDIT_LOGGER_PREFIX/include" "$AUDIT_LOGGER_PREFIX/lib" "$into/prefix"
PKG_CONFIG_PATH="$into/prefix/lib/pkgconfig" go test -c -tags audit_dynamic -o "$into/tests_dynamic" "$module"

cat >"$into/check" <<'END'
#!/bin/sh
set -eu
here=$(dirname "$0")
export AUDIT_TEST_SERVER="$1"
mkdir "$2/static" "$2/dynamic"
AUDIT_TEST_DIRECTORY="$2/static" "$here/tests"
# Only one of them wants the shared library.
LD_LIBRARY_PATH="$here/prefix/lib" AUDIT_TEST_DIRECTORY="$2/dynamic" "$here/tests_dynamic"
! "$here/tests_dynamic" 2>/dev/null
END
chmod +x "$into/check"
