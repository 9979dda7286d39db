#!/usr/bin/env bash
# polars 2.1.0: a text past the year 2262, read as nanoseconds, becomes a time in the past.
#
# Datetime("ns") is 64 bits of nanoseconds: from 1677 to 2262. 9999-12-31T23:59:59Z, which many systems
# write for "never", doesn't fit. A cast from microseconds refuses it, and so does building a column of
# datetime objects, as a strict conversion is documented to. Read from a text it is wrapped by 2^64
# instead: strict str.to_datetime(time_unit="ns"), scan_ndjson and read_csv with such a schema all give
# 30 March 1816, without an error or a null; so what never expires has expired long ago. read_json and
# str.json_decode, given the same schema, make it null. Times before 1677 wrap as well, into the future.
# For the same text and type PyArrow's JSON reader raises ArrowInvalid.
#
# What to do: read microseconds (the default unit), and go on to nanoseconds by cast(), which checks.
#
# Seen, for 9999-12-31T23:59:59Z as Datetime("ns", "UTC"):
#   str.to_datetime, scan_ndjson, read_csv   1816-03-30 05:56:07.066277+00:00
#   read_json, str.json_decode               null
#   cast() of microseconds, datetime object  InvalidOperationError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check polars==2.1.0 pyarrow==26.0.1
"$work/env/bin/python" - <<'PYTHON'
import io
from datetime import datetime, timezone

import polars as pl
import pyarrow as pa
from pyarrow import json

NANO = pl.Datetime("ns", "UTC")
TYPE = {"t": NANO}
WRAPPED, NULL, REFUSED = "wrapped", "null", "refused"


def arrow(text):
    schema = pa.schema([("t", pa.timestamp("ns", "UTC"))])
    lines = io.BytesIO(b'{"t": "%s"}\n' % text.encode())
    return json.read_json(lines, parse_options=json.ParseOptions(explicit_schema=schema))["t"].to_pylist()


WAYS = {
    "str.to_datetime": (WRAPPED, lambda t: pl.Series([t]).str.to_datetime(time_unit="ns", time_zone="UTC")),
    "scan_ndjson": (WRAPPED, lambda t: pl.scan_ndjson(b'{"t": "%s"}\n' % t.encode(), schema=TYPE).collect()["t"]),
    "read_csv": (WRAPPED, lambda t: pl.read_csv(b"t\n%s\n" % t.encode(), schema=TYPE)["t"]),
    "read_json": (NULL, lambda t: pl.read_json(b'[{"t": "%s"}]' % t.encode(), schema=TYPE)["t"]),
    "str.json_decode": (NULL, lambda t: pl.Series(['{"t": "%s"}' % t]).str.json_decode(pl.Struct(TYPE)).struct["t"]),
    "cast()": (REFUSED, lambda t: pl.Series([t]).str.to_datetime(time_zone="UTC").cast(NANO)),
    "datetime object": (REFUSED, lambda t: pl.Series([datetime.fromisoformat(t)], dtype=NANO)),
    "pyarrow": (REFUSED, arrow),
}


def outcome(way, text, true):
    try:
        got = way(text)[0]
    except (pl.exceptions.InvalidOperationError, pa.ArrowInvalid) as error:
        return REFUSED, type(error).__name__
    if got is None:
        return NULL, "null"
    got = got.replace(tzinfo=timezone.utc)
    return "right" if got == true else WRAPPED if abs((got - true).total_seconds()) > 5e9 else "else", got


print("polars", pl.__version__, "pyarrow", pa.__version__)
for text in ("2262-04-11T23:47:16Z", "2262-04-11T23:47:17Z", "9999-12-31T23:59:59Z", "1600-01-01T00:00:00Z"):
    true = datetime.fromisoformat(text.replace("Z", "+00:00"))
    fits = text == "2262-04-11T23:47:16Z"
    for name, (expected, way) in WAYS.items():
        what, got = outcome(way, text.replace("Z", "+00:00") if name == "datetime object" else text, true)
        print(text, name, got)
        assert what == ("right" if fits else expected), what
print("as described")
PYTHON
