#!/bin/sh
# Builds what is published, into dist/: for each target an archive with the library, the header, the tool and
# the licences, and a list of what is in it (CycloneDX); and SHA256SUMS. docs/platforms.md says more.
#
#     sh scripts/dist.sh             for all targets
#     sh scripts/dist.sh TARGET...   for some of those below
#
# If AUDIT_DIST_KEY names an SSH key, SHA256SUMS is signed with it.
set -eu
cd "$(dirname "$0")/.."

# Zig links against the glibc that is named, whatever the machine has.
glibc=2.17
all="x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-musl"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
soname=libaudit_logger.so.${version%.*}
target=${CARGO_TARGET_DIR:-$PWD/target}/dist
dist=${AUDIT_DIST:-$PWD/dist}

refuse() {
    echo "dist.sh: $*" >&2
    exit 1
}

for triple in "$@"; do
    case " $all " in *" $triple "*) ;; *) refuse "$triple isn't one of: $all" ;; esac
done
[ $# -gt 0 ] || set -- $all

# Where std for a target can't be had, that is the reason, and not a missing crate in the middle of a build.
for triple in "$@"; do
    libraries=$(rustc --print target-libdir --target "$triple")
    if ! ls "$libraries"/libstd-*.rlib >/dev/null 2>&1; then
        rustup target add "$triple" ||
            refuse "no std for $triple: rustup can't add it. Without rustup, install the std of this" \
                "rustc's version ($(rustc --version)) for it"
    fi
done

tools=$target/tools
[ -x "$tools/bin/pip" ] || python3 -m venv "$tools" || refuse "a Python 3 with venv is needed (python3-venv)"
"$tools/bin/pip" install -q --disable-pip-version-check -r scripts/dist.txt
# The list of what is linked is put into the library by the first, and beside it by the second.
cargo install -q --locked --root "$tools" --target-dir "$target/made" cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9
PATH=$tools/bin:$PATH
# Zig's compiler makes no difference between directories either.
export ZIG_GLOBAL_CACHE_DIR="$target/zig" ZIG_LOCAL_CACHE_DIR="$target/zig"

# No path of this machine is left in what is built, so that another one builds the same bytes.
home=${CARGO_HOME:-$HOME/.cargo}
remap="--remap-path-prefix=$PWD=audit_logger --remap-path-prefix=$home=cargo"
remap="$remap --remap-path-prefix=$(rustc --print sysroot)=rust --remap-path-prefix=$target=target"
export CFLAGS="-ffile-prefix-map=$home=cargo -ffile-prefix-map=$target=target"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}"
export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0

mkdir -p "$dist"
for triple in "$@"; do
    zigbuild() {
        case $triple in
        *-gnu) RUSTFLAGS="$remap" ;;
        # The library is the host's, which has a libc; the tool stands alone.
        *-musl) RUSTFLAGS="$remap -C target-feature=$1crt-static" ;;
        esac
        shift
        case $triple in *-gnu) for_target=$triple.$glibc ;; *) for_target=$triple ;; esac
        RUSTFLAGS=$RUSTFLAGS cargo auditable zigbuild -q --release --locked \
            --target-dir "$target" --target "$for_target" "$@"
    }
    zigbuild - -p audit_logger_cdylib
    # What such a glibc lacks would be missed where the library is loaded, and not before.
    newer=$(readelf --dyn-syms --wide "$target/$triple/release/libaudit_logger.so" | awk -v floor=$glibc '
        $7 == "UND" && $5 == "GLOBAL" && $8 !~ /@/ { print $8 }
        match($8, /@GLIBC_2\.[0-9]+/) && substr($8, RSTART + 9, RLENGTH - 9) + 0 > substr(floor, 3) + 0 { print $8 }')
    case $triple in *-gnu) [ -z "$newer" ] || refuse "glibc $glibc has no" $newer ;; esac
    zigbuild + -p audit_logger --bin audit-logger --features cli

    name=audit_logger-$version-$triple
    into=$dist/$name
    rm -rf "$into"
    mkdir -p "$into/lib" "$into/include" "$into/bin"
    install -m 755 "$target/$triple/release/libaudit_logger.so" "$into/lib/libaudit_logger.so.$version"
    ln -s "libaudit_logger.so.$version" "$into/lib/$soname"
    ln -s "$soname" "$into/lib/libaudit_logger.so"
    install -m 644 include/audit_logger.h bindings/cpp/audit_logger.hpp "$into/include"
    install -m 755 "$target/$triple/release/audit-logger" "$into/bin"
    install -m 644 LICENSE-APACHE LICENSE-MIT THIRD_PARTY FORMAT.md "$into"

    cargo cyclonedx -q --manifest-path src/cdylib/Cargo.toml --format json --spec-version 1.5 \
        --target "$triple" --no-build-deps --override-filename sbom
    # Its identifiers are paths.
    sed "s|path+file://$PWD|path+file:///audit_logger|g" src/cdylib/sbom.json >"$dist/$name.cdx.json"
    # It makes one of each package.
    rm sbom.json src/cdylib/sbom.json examples/server/sbom.json
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=go-w \
        -C "$dist" -cf - "$name" | gzip -9n >"$dist/$name.tar.gz"
    rm -rf "$into"
    echo "dist.sh: $name"
done

cd "$dist"
sha256sum -- "audit_logger-$version"-*.tar.gz "audit_logger-$version"-*.cdx.json >SHA256SUMS
if [ -n "${AUDIT_DIST_KEY:-}" ]; then
    rm -f SHA256SUMS.sig
    ssh-keygen -q -Y sign -n audit_logger -f "$AUDIT_DIST_KEY" SHA256SUMS
fi
