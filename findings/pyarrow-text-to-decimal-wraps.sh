#!/usr/bin/env bash
# pyarrow 26.0.1: text that is too large for a decimal128 becomes another number, without an error.
#
# A decimal128(38, 18) holds 20 digits before the point. A text of 21 to 38 digits is parsed as an
# integer of 128 bits, multiplied by 10^18, and what doesn't fit is cut off: the result is the true one
# modulo 2^128, which may be a plausible positive number. The JSON reader, the CSV reader and
# cast() of a string column all do it; the same value as a decimal.Decimal is refused, and so is a
# text of 39 digits. The two readers also let a value pass that has more digits than the precision:
# 1234567890 in a decimal128(18, 9) column takes 19 digits. cast() refuses that one.
#
# What to do: choose the scale so that 38 digits hold what may come, or read doubles or text and
# convert through decimal.Decimal.
#
# Seen:
#   JSON   123456789012345678901234567890 -> 46509284486016680345.836250841945210880
#   CSV    123456789012345678901234567890 -> 46509284486016680345.836250841945210880
#   cast() 123456789012345678901234567890 -> 46509284486016680345.836250841945210880
#   Decimal object -> ArrowInvalid
#   1234567890 as decimal128(18, 9): JSON and CSV 1234567890.000000000, cast() ArrowInvalid
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check pyarrow==26.0.1
"$work/env/bin/python" - <<'PYTHON'
import io
from decimal import Decimal, getcontext

import pyarrow as pa
from pyarrow import csv, json


def from_json(text, kind):
    options = json.ParseOptions(explicit_schema=pa.schema([("n", kind)]))
    table = json.read_json(io.BytesIO(b'{"n": %s}\n' % text.encode()), parse_options=options)
    return table["n"][0].as_py()


def from_csv(text, kind):
    options = csv.ConvertOptions(column_types={"n": kind})
    return csv.read_csv(io.BytesIO(b"n\n%s\n" % text.encode()), convert_options=options)["n"][0].as_py()


def from_cast(text, kind):
    return pa.array([text]).cast(kind)[0].as_py()


def from_decimal(text, kind):
    return pa.array([Decimal(text)], kind)[0].as_py()


def outcome(convert, text, kind):
    try:
        return convert(text, kind)
    except pa.ArrowInvalid:
        return "ArrowInvalid"


getcontext().prec = 50
print("pyarrow", pa.__version__)
number, kind = "123456789012345678901234567890", pa.decimal128(38, 18)
wrapped = Decimal("46509284486016680345.836250841945210880")
assert int(wrapped * 10**18) == int(number) * 10**18 % 2**128
for convert in (from_json, from_csv, from_cast):
    got = outcome(convert, number, kind)
    print(f"{convert.__name__}: {number} -> {got}")
    assert got == wrapped, got
assert outcome(from_decimal, number, kind) == "ArrowInvalid"
assert outcome(from_json, "1" * 39, kind) == "ArrowInvalid"

ten, narrow = "1234567890", pa.decimal128(18, 9)
assert outcome(from_json, ten, narrow) == outcome(from_csv, ten, narrow) == Decimal(ten)
assert outcome(from_cast, ten, narrow) == outcome(from_decimal, ten, narrow) == "ArrowInvalid"
print("as described")
PYTHON
