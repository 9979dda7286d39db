#!/usr/bin/env bash
# deltalake 1.6.6: a decimal below 0.00001 hides its file from filters; one of many digits survives a DELETE.
#
# A Delta log holds the smallest and largest value of each column of a file, and readers skip files by them:
# Delta's protocol has every value within those bounds. This writer takes them through doubles. There are
# two consequences, of exact columns that hold what they should:
# 1. A double below 0.00001, or from 1e16 on, is written with an exponent, and to_pyarrow_dataset() and
#    to_pyarrow_table(filters=...), which DuckDB and pandas are fed by, read such a bound as null. A filter
#    by null keeps nothing, so all rows of the file are gone, those too that are far from the bound: a price
#    for a token of 0.00000015 is enough. Without a filter everything is there.
# 2. Past 17 digits the bound is rounded to a side, and the value itself may lie outside. Every reader skips
#    the file then: to_pyarrow_dataset(), QueryBuilder, polars.scan_delta(). And DeltaTable.delete() of just
#    that value reports 0 rows deleted, and leaves it.
#
# What to do: amounts as integers of a small unit; or delta.dataSkippingStatsColumns without such columns.
#
# Seen (files of decimal(38, 18), one of 1.25 and 0.00000015, one of 0.5 and 1.234567890123456789):
#                              wanted     dataset    QueryBuilder   polars
#   v = 1.25                   1 row      0 rows     1 row          1 row
#   v < 2                      4 rows     2 rows     4 rows         4 rows
#   v = 1.234567890123456789   1 row      0 rows     0 rows         0 rows
#   DELETE of that             1 row      -          0 rows         -
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check \
    deltalake==1.6.6 pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
import json
from decimal import Decimal
from pathlib import Path

import deltalake
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, QueryBuilder, write_deltalake

TYPE = pa.decimal128(38, 18)
SMALL, LONG = "0.00000015", "1.234567890123456789"


def append(*values, **how):
    write_deltalake("log", pa.table({"v": pa.array(map(Decimal, values), TYPE)}), mode="append", **how)


append("1.25", SMALL)
append("0.5", LONG)
for part in sorted(Path("log/_delta_log").glob("*.json")):
    for line in part.read_text().splitlines():
        if "add" in (action := json.loads(line)):
            print("statistics:", action["add"]["stats"])

table = DeltaTable("log")
dataset = table.to_pyarrow_dataset()
print("deltalake", deltalake.__version__)


def rows(comparison, value):
    """Rows of all there are, and by each way of filtering."""
    number, scalar = Decimal(value), pa.scalar(Decimal(value), TYPE)
    column, other = pc.field("v"), pl.col("v")
    arrow, polars = {
        "=": (column == scalar, other == number),
        "<": (column < scalar, other < number),
    }[comparison]
    where = f"v {comparison} CAST('{value}' AS DECIMAL(38, 18))"
    query = QueryBuilder().register("log", table).execute(f"SELECT v FROM log WHERE {where}")
    return (
        table.to_pyarrow_table().filter(arrow).num_rows,
        dataset.to_table(filter=arrow).num_rows,
        table.to_pyarrow_table(filters=arrow).num_rows,
        duckdb.sql(f"SELECT count(*) FROM dataset WHERE {where}").fetchall()[0][0],
        pa.table(query.read_all()).num_rows,
        pl.scan_delta("log").filter(polars).collect().height,
    )


assert table.to_pyarrow_table().num_rows == dataset.to_table().num_rows == 4
print("rows: wanted, dataset, to_pyarrow_table, duckdb, QueryBuilder, polars")
for comparison, value, expected in (
    ("=", "1.25", (1, 0, 0, 0, 1, 1)),
    ("=", SMALL, (1, 0, 0, 0, 1, 1)),
    ("<", "2", (4, 2, 2, 2, 4, 4)),
    ("=", "0.5", (1, 1, 1, 1, 1, 1)),
    ("=", LONG, (1, 0, 0, 0, 0, 0)),
):
    got = rows(comparison, value)
    print(f"v {comparison} {value}:", *got)
    assert got == expected, got

deleted = table.delete(f"v = CAST('{LONG}' AS DECIMAL(38, 18))")["num_deleted_rows"]
left = DeltaTable("log").to_pyarrow_table()["v"].to_pylist()
print("deleted:", deleted, "left:", *left)
assert not deleted and Decimal(LONG) in left
print("as described")
PYTHON
