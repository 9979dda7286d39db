#!/usr/bin/env bash
# avro 1.12.2 (Python, Apache's own): Decimal("1.2") for a decimal of scale 2 is written as 0.12.
#
# Avro's specification: a decimal is the unscaled integer of the value at the scale of the schema, so 1.2 at
# scale 2 is 120. This writer takes the digits of the Decimal as they are, 12, and doesn't look at its
# exponent, except to refuse one that is finer than the scale. What has fewer places than the scale shrinks
# by a power of ten: 1.2 to 0.12, 1 and 100 (as 1E+2) to 0.01. No error or warning, and the precision, whose
# check goes by the digits as well, lets 123456789.0 through where 123456789.00 has too many. Every reader
# then reads the wrong amount. Decimals come with as many places as were typed, or as their source has
# (Decimal(5), a column of NUMERIC without a scale, normalize()), so it is the round amounts that go wrong.
# fastavro writes 120.
#
# What to do: value.quantize(Decimal("0.01")) before writing; or fastavro.
#
# Seen, as read back (by avro and by fastavro):
#   written      1.20   1.2    1      1E+2   -128    0.5
#   avro         1.20   0.12   0.01   0.01   -1.28   0.05
#   fastavro     1.20   1.20   1.00   100.00 -128.00 0.50
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check avro==1.12.2 fastavro==1.13.1
"$work/env/bin/python" -W error - <<'PYTHON'
import importlib.metadata
import io
import json
from decimal import Decimal

import avro.datafile
import avro.io
import avro.schema
import fastavro

KINDS = {"bytes": {"type": "bytes"}, "fixed": {"type": "fixed", "name": "f", "size": 8}}


def schema(kind):
    amount = {**KINDS[kind], "logicalType": "decimal", "precision": 10, "scale": 2}
    return {"type": "record", "name": "r", "fields": [{"name": "amount", "type": amount}]}


def of_avro(kind, value):
    file = io.BytesIO()
    writer = avro.datafile.DataFileWriter(file, avro.io.DatumWriter(), avro.schema.parse(json.dumps(schema(kind))))
    writer.append({"amount": value})
    writer.flush()
    return file


def of_fastavro(kind, value):
    file = io.BytesIO()
    fastavro.writer(file, schema(kind), [{"amount": value}])
    return file


def read(file):
    """What both readers make of a file: they agree."""
    file.seek(0)
    (by_avro,) = [row["amount"] for row in avro.datafile.DataFileReader(file, avro.io.DatumReader())]
    file.seek(0)
    (by_fastavro,) = [row["amount"] for row in fastavro.reader(file)]
    assert by_avro == by_fastavro
    return str(by_avro)


print("avro", importlib.metadata.version("avro"), "fastavro", fastavro.__version__)
for kind in KINDS:
    for text, wrong, right in (
        ("1.20", "1.20", "1.20"),
        ("1.2", "0.12", "1.20"),
        ("1", "0.01", "1.00"),
        ("1E+2", "0.01", "100.00"),
        ("-128", "-1.28", "-128.00"),
        ("0.5", "0.05", "0.50"),
    ):
        value = Decimal(text)
        got = read(of_avro(kind, value)), read(of_fastavro(kind, value))
        print(kind, text, "avro:", got[0], "fastavro:", got[1])
        assert got == (wrong, right), got
        assert read(of_avro(kind, value.quantize(Decimal("0.01")))) == right
assert read(of_avro("bytes", Decimal("123456789.0"))) == "12345678.90"
print("as described")
PYTHON
