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
cmake -S "$into/source" -B "$into/build" -DCMAKE_PREFIX_PATH="$into/prefix" >"$into/log" 2>&1 &&
    cmake --build "$into/build" --parallel 2 >>"$into/log" 2>&1 || { cat "$into/log" >&2; exit 1; }
# Each compiler that is there must take the header.
for compiler in g++ clang++; do
    command -v "$compiler" >/dev/null || continue
    for standard in c++17 c++20; do
        "$compiler" "-std=$standard" -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -fsyntax-only \
            -I"$into/prefix/include" "$into/source/check.cpp"
    done
done
for program in chat conformance check; do
    ln -s "build/$program" "$into/$program"
done
