#!/usr/bin/env bash
# pandas 3.1.1: to_datetime takes a small z for a mere letter, and the zone is lost.
#
# RFC 3339 section 5.6 lets Z be written small. pd.Timestamp("2026-11-27T05:00:00z") is 05:00 in UTC;
# so is to_datetime(..., format="mixed"). Plain pd.to_datetime of it, alone or in a list, is a naive
# 05:00 without a warning: it guesses a format from the first text, in which z stands for itself. Where
# a first text ends in Z, a later one in z is refused; where all end in z, all lose their zone, and
# tz_localize to another zone later shifts them for good.
#
# What to do: utc=True, always, for times that have a zone.
#
# Seen:
#   Timestamp("2026-11-27T05:00:00z")                    2026-11-27 05:00:00+00:00
#   to_datetime("2026-11-27T05:00:00z")                  2026-11-27 05:00:00
#   to_datetime("2026-11-27T05:00:00z", format="mixed")  2026-11-27 05:00:00+00:00
#   to_datetime("2026-11-27T05:00:00z", utc=True)        2026-11-27 05:00:00+00:00
#   to_datetime("2026-11-27T05:00:00Z")                  2026-11-27 05:00:00+00:00
#   to_datetime([...Z, ...z])                            ValueError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check pandas==3.1.1
"$work/env/bin/python" -W error - <<'PYTHON'
import pandas as pd

small, capital = "2026-11-27T05:00:00z", "2026-11-27T05:00:00Z"
aware, naive = "2026-11-27 05:00:00+00:00", "2026-11-27 05:00:00"
print("pandas", pd.__version__)
for what, got, expected in (
    ("Timestamp, z", pd.Timestamp(small), aware),
    ("to_datetime, z", pd.to_datetime(small), naive),
    ("to_datetime of a list, z", pd.to_datetime([small, small])[1], naive),
    ("to_datetime, mixed, z", pd.to_datetime([small], format="mixed")[0], aware),
    ("to_datetime, utc=True, z", pd.to_datetime(small, utc=True), aware),
    ("to_datetime, Z", pd.to_datetime(capital), aware),
):
    print(f"{what}: {got}")
    assert str(got) == expected, got
try:
    pd.to_datetime([capital, small])
    raise SystemExit("Z and z were read together")
except ValueError as error:
    print("to_datetime of Z and z: ValueError:", str(error).split(",")[0][:70])
print("as described")
PYTHON
