#!/usr/bin/env bash
# datafusion 55.0.0: a Parquet column of one number and NaN is read without the NaN, as that number alone.
#
# Parquet leaves NaN out of a column's smallest and largest value (parquet.thrift, ColumnOrder). So a column
# of 5.0 and NaN has 5.0 for both, and no nulls; that is what it has too if every value is 5.0. DataFusion
# takes it for the second: it doesn't read the column, and puts 5.0 in each row. That skipping row groups
# by such bounds misses NaN is known of several engines. Here no filter is needed: SELECT v gives 5.0 for
# NaN, isnan() finds none, avg() and sum() are numbers, and what is copied to another file has lost its NaN
# for good. One second number in the file, a null, or the number 0 (whose bounds are written as -0.0 and
# 0.0) keeps the NaN: so it goes for scores and rates that are constant in some files, and not in others.
# It is of each file by itself. Polars and PyArrow read such files rightly; so does DuckDB without a filter.
#
# What to do: datafusion.execution.collect_statistics = false in the session's configuration; or nulls instead
# of NaN.
#
# Seen, SELECT v of a file that holds:
#   5.0 NaN 5.0        5.0 5.0 5.0     with collect_statistics = false: 5.0 NaN 5.0
#   NaN 5.0            5.0 5.0
#   5.0 NaN 6.0        5.0 NaN 6.0
#   5.0 NaN null       5.0 NaN null
#   0.0 NaN            0.0 NaN
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check \
    datafusion==55.0.0 pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
import datafusion
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

NAN = float("nan")


def session(statistics=True):
    config = datafusion.SessionConfig().set("datafusion.execution.collect_statistics", str(statistics).lower())
    context = datafusion.SessionContext(config)
    context.register_parquet("log", "log.parquet")
    return context


def ask(query, **how):
    return [row["v"] for row in session(**how).sql(query).to_pylist()]


def show(what, got, expected):
    print(what, *got)
    assert str(got) == str(expected), got


print("datafusion", datafusion.__version__)
for values, read in (
    ([5.0, NAN, 5.0], [5.0, 5.0, 5.0]),
    ([NAN, 5.0], [5.0, 5.0]),
    ([5.0, NAN, 6.0], [5.0, NAN, 6.0]),
    ([5.0, NAN, None], [5.0, NAN, None]),
    ([0.0, NAN], [0.0, NAN]),
):
    what = " ".join(map(str, values)) + ":"
    pq.write_table(pa.table({"v": values}), "log.parquet")
    bounds = pq.ParquetFile("log.parquet").metadata.row_group(0).column(0).statistics
    print(what, "bounds", bounds.min, bounds.max, "nulls", bounds.null_count)
    show(f"{what} datafusion", ask("SELECT v FROM log"), read)
    show(f"{what} without statistics", ask("SELECT v FROM log", statistics=False), values)
    show(f"{what} pyarrow", pq.read_table("log.parquet")["v"].to_pylist(), values)
    show(f"{what} polars", pl.read_parquet("log.parquet")["v"].to_list(), values)
    show(f"{what} duckdb", [row[0] for row in duckdb.sql("SELECT v FROM 'log.parquet'").fetchall()], values)

for writer, write in (
    ("pyarrow", lambda: pq.write_table(pa.table({"v": [5.0, NAN]}), "log.parquet")),
    ("polars", lambda: pl.DataFrame({"v": [5.0, NAN]}).write_parquet("log.parquet")),
):
    write()
    show(f"written by {writer}: isnan", ask("SELECT count(*) AS v FROM log WHERE isnan(v)"), [0])
    show(f"written by {writer}: avg", ask("SELECT avg(v) AS v FROM log"), [5.0])
    session().table("log").write_parquet(f"copy-{writer}")
    show(f"written by {writer}: a copy", pq.read_table(f"copy-{writer}")["v"].to_pylist(), [5.0, 5.0])
print("as described")
PYTHON
