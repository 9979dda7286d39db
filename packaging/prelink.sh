#!/bin/sh
# Makes of a static library of rustc's one that exports only audit_*: `prelink.sh FROM TO`. Two libraries
# of rustc's have the same symbols of Rust's own in them, and can't be linked into one program. LD,
# OBJCOPY, NM and AR name the tools, for another target.
set -eu
from=$1 to=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One object. Its section groups are dissolved, or linking it wants the local DW.ref.rust_eh_personality.
"${LD:-ld}" -r --force-group-allocation --whole-archive "$from" -o "$work/all.o"
# The bitcode goes because binutils stumble over it.
"${OBJCOPY:-objcopy}" --wildcard --keep-global-symbol='audit_*' --strip-unneeded \
    --remove-section=.llvmbc --remove-section=.llvmcmd "$work/all.o" "$work/audit_logger.o"
# Versions are for the shared library: a linker that makes another of this one would ask for its script.
"${NM:-nm}" -g --defined-only "$work/audit_logger.o" |
    sed -n 's/.* \(audit_.*\)\(@@.*\)/\1\2 \1/p' >"$work/versions"
"${OBJCOPY:-objcopy}" --redefine-syms="$work/versions" "$work/audit_logger.o"
rm -f "$to"
"${AR:-ar}" rcsD "$to" "$work/audit_logger.o"
