#!/usr/bin/env bash
# duckdb 2.0.1: time_bucket of hours in a zone begins at 01:00, 07:00, ... for the half of the year with summer time.
#
# time_bucket(width, t, 'Europe/Berlin') is documented to calculate where buckets start and end in that
# zone. Widths of days and more do, all the year. Widths of hours and minutes are counted as elapsed time
# from 2000-01-03 00:00 in the zone, which is winter there: in summer 6-hour buckets start at 01:00, 07:00,
# 13:00 and 19:00, and '24 hours' at 01:00, while '1 day' starts at midnight. One bucket of each night
# belongs to two dates, so the buckets of a date don't add up to its day; in winter everything fits, so
# a report that was tested in January is wrong from March on. '1 hour' can't show it. Where January is
# summer (Australia/Sydney) it is the winter that is off. date_trunc has no such widths; Polars' truncate
# and PyArrow's floor_temporal, of the same width and zone, start at 00:00, 06:00, 12:00 and 18:00.
#
# What to do: time_bucket(width, t AT TIME ZONE 'Europe/Berlin'), of local times; or give an origin of
# each day: time_bucket(width, t, date_trunc('day', t)).
#
# Seen, the starts of a day's 6-hour buckets in Europe/Berlin:
#               2026-01-15                  2026-07-15
#   duckdb      00:00 06:00 12:00 18:00     19:00 (of the 14th) 01:00 07:00 13:00 19:00
#   polars      00:00 06:00 12:00 18:00     00:00 06:00 12:00 18:00
#   pyarrow     00:00 06:00 12:00 18:00     00:00 06:00 12:00 18:00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check \
    duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1 tzdata==2026.6 pytz==2026.2
"$work/env/bin/python" - <<'PYTHON'
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

SIX = ["00:00", "06:00", "12:00", "18:00"]
LATE = ["19:00", "01:00", "07:00", "13:00", "19:00"]
EARLY = ["23:00", "05:00", "11:00", "17:00", "23:00"]


def starts(rows):
    return [row.strftime("%H:%M") for row in sorted(set(rows))]


def show(what, got, expected):
    print(what, *got)
    assert got == expected, got


print("duckdb", duckdb.__version__, "polars", pl.__version__, "pyarrow", pa.__version__)
for zone, day, of_duckdb, of_24_hours in (
    ("Europe/Berlin", "2026-01-15", SIX, ["00:00"]),
    ("Europe/Berlin", "2026-07-15", LATE, ["01:00", "01:00"]),
    ("Australia/Sydney", "2026-01-15", SIX, ["00:00"]),
    ("Australia/Sydney", "2026-07-15", EARLY, ["23:00", "23:00"]),
):
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    times = [midnight + timedelta(minutes=30 * step) for step in range(48)]
    arrow = pa.array(times, pa.timestamp("us", zone))
    table = pa.table({"t": arrow})
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{zone}'")
    connection.register("log", table)

    def bucket(expression):
        return starts(row[0] for row in connection.execute(f"SELECT {expression} FROM log").fetchall())

    where = f"{zone} {day}"
    show(f"{where} duckdb, 1 day:", bucket(f"time_bucket(INTERVAL '1 day', t, '{zone}')"), ["00:00"])
    show(f"{where} duckdb, 24 hours:", bucket(f"time_bucket(INTERVAL '24 hours', t, '{zone}')"), of_24_hours)
    hours = "INTERVAL '6 hours'"
    show(f"{where} duckdb, 6 hours:", bucket(f"time_bucket({hours}, t, '{zone}')"), of_duckdb)
    show(f"{where} duckdb, of local times:", bucket(f"time_bucket({hours}, t AT TIME ZONE '{zone}')"), SIX)
    show(f"{where} duckdb, from midnight:", bucket(f"time_bucket({hours}, t, date_trunc('day', t))"), SIX)
    show(f"{where} polars, 6 hours:", starts(pl.Series(arrow).dt.truncate("6h")), SIX)
    show(f"{where} pyarrow, 6 hours:", starts(pc.floor_temporal(arrow, 6, "hour").to_pylist()), SIX)
print("as described")
PYTHON
