#!/usr/bin/env bash
# duckdb 2.0.1: a typed CSV column cast to text gives the file's bytes, until it is used once more.
#
# read_csv(..., columns = {n: 'INTEGER'}) makes n an INTEGER; n::VARCHAR of 007 should be '7'. When
# the cast to text is the only use of the column in the query, the cast moves into the reader, the
# column is never converted, and the answer is '007'. Any second use (another column of the SELECT,
# a WHERE, a GROUP BY, even typeof(n)) brings back '7'. So do n::BIGINT::VARCHAR and a materialized
# CTE. A view over the file doesn't. It holds for doubles ('1.10'), booleans ('TRUE') and times with
# an offset, which stay in their zone; and a value that is no integer at all passes, although the
# column's declaration refuses it in every other query. read_json isn't affected.
#
# What to do: CREATE TABLE ... AS from the file first, or cast twice.
#
# Seen:
#   SELECT n::VARCHAR                  -> '007', '+5'
#   SELECT n::VARCHAR, n               -> '7', '5'
#   SELECT n::VARCHAR WHERE n = 7      -> '7'
#   SELECT t::VARCHAR                  -> '2026-11-27T00:00:00+05:30'
#   SELECT t::VARCHAR, t               -> '2026-11-26 18:30:00+00'
#   n::VARCHAR of x in an INTEGER column -> 'x'; n -> ConversionException
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check duckdb==2.0.1 pytz==2026.2
cd "$work"
printf 'n,d,b,t\n007,1.10,TRUE,2026-11-27T00:00:00+05:30\n+5,1e2,f,2026-11-27T00:00:00Z\n' >typed.csv
printf 'n\nx\n' >bad.csv
"$work/env/bin/python" - <<'PYTHON'
import duckdb

connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
connection.execute("""CREATE VIEW typed AS FROM read_csv('typed.csv',
    columns = {n: 'INTEGER', d: 'DOUBLE', b: 'BOOLEAN', t: 'TIMESTAMPTZ'})""")
connection.execute("CREATE VIEW bad AS FROM read_csv('bad.csv', columns = {n: 'INTEGER'})")


def texts(query):
    got = [row[0] for row in connection.execute(query).fetchall()]
    print(f"{query} -> {got}")
    return got


print("duckdb", duckdb.__version__)
assert texts("SELECT n::VARCHAR FROM typed") == ["007", "+5"]
assert texts("SELECT n::VARCHAR, n FROM typed") == ["7", "5"]
assert texts("SELECT n::VARCHAR, typeof(n) FROM typed") == ["7", "5"]
assert texts("SELECT n::VARCHAR FROM typed WHERE n = 7") == ["7"]
assert texts("SELECT n::BIGINT::VARCHAR FROM typed") == ["7", "5"]
assert texts("WITH t AS MATERIALIZED (FROM typed) SELECT n::VARCHAR FROM t") == ["7", "5"]
assert texts("SELECT d::VARCHAR FROM typed") == ["1.10", "1e2"]
assert texts("SELECT b::VARCHAR FROM typed") == ["TRUE", "f"]
assert texts("SELECT t::VARCHAR FROM typed")[0] == "2026-11-27T00:00:00+05:30"
assert texts("SELECT t::VARCHAR, t FROM typed")[0] == "2026-11-26 18:30:00+00"
assert texts("SELECT n::VARCHAR FROM bad") == ["x"]
try:
    texts("SELECT n FROM bad")
    raise SystemExit("x was taken for an integer")
except duckdb.ConversionException as error:
    print("SELECT n FROM bad ->", str(error).splitlines()[0])
print("as described")
PYTHON
