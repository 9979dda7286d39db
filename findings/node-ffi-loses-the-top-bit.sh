#!/usr/bin/env bash
# koffi 3.3.4, ffi-rs 1.3.7: what an unsigned 64-bit value or a double is depends on the JavaScript type.
#
# Both call C from Node.js and take a Number for a uint64_t. A Number from 2^63 on is one of those
# (doubles are dense there: 1e19, say), but it goes through a signed conversion that stops at 2^63 - 1: C
# gets 9223372036854775807 for all of them, without an error. koffi takes the same value rightly as a
# BigInt. For a double it is the other way round: koffi's documentation promises BigInt for integers only,
# but one is accepted here, and taken modulo 2^64 as a signed integer first. 2n ** 63n, which a double
# holds exactly, arrives with the opposite sign, 2n ** 64n as 0. ffi-rs refuses a BigInt there, but hands
# back what C returned as DataType.U64 with a sign: 18446744073709551615, a common "none", is -1.
#
# What to do: BigInt for 64-bit parameters, Number(x) for doubles, and with ffi-rs DataType.BigInt for
# results, then BigInt.asUintN(64, x): BigInt has a sign as well.
#
# Seen:
#   koffi, uint64_t   1e19 -> 9223372036854775807     10n ** 19n -> 10000000000000000000
#   koffi, double     1e19 -> 10000000000000000000    10n ** 19n -> -8446744073709551616
#   ffi-rs, U64       1e19 -> 9223372036854775807     C's 18446744073709551615 -> -1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >npm.log
npm install --silent --no-fund --no-audit koffi@3.3.4 ffi-rs@1.3.7 >npm.log
cat >show.js <<'JAVASCRIPT'
const assert = require("assert");
const koffi = require("koffi");
const { open, load, DataType } = require("ffi-rs");

// C's own text of a value says what arrived.
const snprintf = koffi.load("libc.so.6").func("int snprintf(_Out_ char *s, size_t n, str format, ...)");
function arrives(format, type, value) {
  const text = Buffer.alloc(64);
  const length = snprintf(text, text.length, format, type, value);
  return text.toString("latin1", 0, length);
}

open({ library: "c", path: "libc.so.6" });
const call = (funcName, retType, paramsType, paramsValue) =>
  load({ library: "c", funcName, retType, paramsType, paramsValue });
// llabs() gives back what it gets, if that isn't negative.
const takes = (value) => call("llabs", DataType.BigInt, [DataType.U64], [value]);
const gives = (text, type) =>
  call("strtoull", type, [DataType.String, DataType.U64, DataType.I32], [text, 0, 10]);

const show = (what, got, expected) => {
  console.log(what, got);
  assert.strictEqual(got, expected, what);
};
const TOP = "9223372036854775807";

for (const [number, integer] of [
  [2 ** 53, "9007199254740992"],
  [2 ** 63 - 1024, "9223372036854774784"],
]) {
  show(`koffi uint64_t ${number}`, arrives("%llu", "uint64_t", number), integer);
  show(`koffi double ${integer}n`, arrives("%.0f", "double", BigInt(integer)), integer);
  show(`ffi-rs U64 ${number}`, takes(number), BigInt(integer));
}
for (const [number, integer, signed] of [
  [2 ** 63, "9223372036854775808", "-9223372036854775808"],
  [1e19, "10000000000000000000", "-8446744073709551616"],
]) {
  show(`koffi uint64_t ${number}`, arrives("%llu", "uint64_t", number), TOP);
  show(`koffi uint64_t ${integer}n`, arrives("%llu", "uint64_t", BigInt(integer)), integer);
  show(`koffi double ${number}`, arrives("%.0f", "double", number), integer);
  show(`koffi double ${integer}n`, arrives("%.0f", "double", BigInt(integer)), signed);
  show(`ffi-rs U64 ${number}`, takes(number), BigInt(TOP));
}
show("koffi double 2n ** 64n", arrives("%.0f", "double", 2n ** 64n), "0");
show("ffi-rs returns U64", gives("18446744073709551615", DataType.U64), -1);
show("ffi-rs returns BigInt", gives("18446744073709551615", DataType.BigInt), -1n);
console.log("as described");
JAVASCRIPT
node show.js
