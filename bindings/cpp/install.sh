#!/bin/sh
# Unpacks the package into a directory, and has CMake build the three programs there; bindings/README.md says
# how this is called.
set -eu
into=$1
cd "$(dirname "$0")"

absent() { echo "$1 isn't installed" >&2; exit 77; }
command -v cmake >/dev/null || absent cmake
command -v "${CXX:-c++}" >/dev/null || absent "a C++ compiler"
echo '#include <nlohmann/json.hpp>' | "${CXX:-c++}" -x c++ -fsyntax-only - 2>/dev/null || absent nlohmann-json3-dev

mkdir "$into/prefix" "$into/source"
tar -C "$into/prefix" -xzf dist/*.tar.gz
cp CMakeLists.txt chat.cpp check.cpp conformance.cpp "$into/source"
# Each other compiler that is there must take it as well.
for compiler in "${CXX:-c++}" g++ clang++; do
    command -v "$compiler" >/dev/null || continue
    cmake -S "$into/source" -B "$into/build/$compiler" -DCMAKE_PREFIX_PATH="$into/prefix" \
        -DCMAKE_CXX_COMPILER="$compiler" >"$into/log" 2>&1 || { cat "$into/log" >&2; exit 1; }
    cmake --build "$into/build/$compiler" --parallel 2 >"$into/log" 2>&1 || { cat "$into/log" >&2; exit 1; }
done
for program in chat conformance check; do
    ln -s "build/${CXX:-c++}/$program" "$into/$program"
done
