#!/usr/bin/env bash
# duckdb 2.0.1, chdb 4.4.0 (ClickHouse 26.9): a decimal taken out of a JSON text was a double meanwhile.
#
# Both read {"amount": 12345678901234567.89} exactly when a column is declared as a decimal: DuckDB's
# read_json and from_json, ClickHouse's JSONEachRow. Taken from a text column by the JSON functions, into
# the same decimal type, it has 17 digits and the rest is made up: in DuckDB (j->>'amount')::DECIMAL,
# in ClickHouse JSONExtract(j, 'amount', 'Decimal(38, 18)'), whose result type suggests otherwise. So
# the same file gives two sums, by whether its members are columns or stay in a text. A number in
# quotes, {"amount": "12345678901234567.89"}, comes through all of them exactly. Whole numbers up to
# 64 bits do too, but not when they are written with a point: 9007199254740993.0 becomes ...992.
#
# What to do: write such amounts as strings; or from_json (DuckDB), simpleJSONExtractRaw and a cast
# (ClickHouse; of a text without spaces, or the cast meets one).
#
# Seen, for 12345678901234567.89:
#   DuckDB      read_json, from_json   12345678901234567.89      ->> and a cast   12345678901234568
#   ClickHouse  JSONEachRow            12345678901234567.89      JSONExtract      12345678901234568
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1 chdb==4.4.0 chdb-core==26.9.0
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
from decimal import Decimal

import chdb
import duckdb

connection = duckdb.connect()
TYPE = "DECIMAL(38, 18)"


def clickhouse(query):
    return Decimal(chdb.query(query, "TSVRaw").bytes().decode())


def taken(number):
    """What each makes of it: four that read exactly, and two that don't."""
    text = '{"amount":%s}' % number
    with open("lines.json", "w") as lines:
        lines.write(text + "\n")
    (column,) = connection.execute(
        f"SELECT amount FROM read_json('lines.json', columns = {{amount: '{TYPE}'}})"
    ).fetchone()
    (parsed, function) = connection.execute(
        f"SELECT from_json(j, '{{\"amount\": \"{TYPE}\"}}').amount, (j->>'amount')::{TYPE} FROM (SELECT ?::JSON AS j)",
        [text],
    ).fetchone()
    return (
        column,
        parsed,
        clickhouse(f"SELECT amount FROM format(JSONEachRow, 'amount {TYPE}', '{text}')"),
        clickhouse(f"SELECT simpleJSONExtractRaw('{text}', 'amount')::Decimal(38, 18)")
        if '"' not in number
        else Decimal(number.strip('"')),
    ), (function, clickhouse(f"SELECT JSONExtract('{text}', 'amount', '{TYPE}')"))


print("duckdb", duckdb.__version__, "chdb", chdb.__version__)
for number, by_functions in {
    "12345678901234567.89": "12345678901234568",
    "9007199254740993.0": "9007199254740992",
    "9007199254740993": "9007199254740993",
    '"12345678901234567.89"': "12345678901234567.89",
}.items():
    exact, rounded = taken(number)
    print(number, "columns:", *exact, "functions:", *rounded)
    assert set(exact) == {Decimal(number.strip('"'))}, exact
    assert set(rounded) == {Decimal(by_functions)}, rounded
print("as described")
PYTHON
