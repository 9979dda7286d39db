#!/usr/bin/env bash
# uuid6 2025.0.1 (Python): each UUIDv7 of a process gets a millisecond of its own, be it in the future.
#
# RFC 9562 section 5.7: the first 48 bits of a UUIDv7 are the time in milliseconds; ids of one millisecond
# are told apart, and kept in order, by what follows: 74 bits, a counter or random. uuid6.uuid7() keeps them
# in order by adding 1 to the time of the one before. A process that makes more than a thousand ids in a
# second is ahead of its clock, and stays ahead after the burst, until the clock has come up: 50,000 ids at
# once reach 50 seconds ahead. Till then what another process makes later, or this one after a restart,
# sorts before them, and ranges by time miss rows. (An issue of the project tells of it; it is closed, and
# the package as it was.) uuid_utils and npm's uuid count within the millisecond.
#
# What to do: uuid_utils, or Python 3.14's own uuid.uuid7().
#
# Seen, 50,000 ids made at once:
#                  last id's time, less the clock   one second later   another process then, sorts after them
#   uuid6          49 s in the future               48 s               no
#   uuid_utils     within 10 ms                     within 10 ms       yes
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check uuid6==2025.0.1 uuid_utils==1.2.0
"$work/env/bin/python" - <<'PYTHON'
import importlib
import importlib.metadata
import subprocess
import sys
import time

COUNT = 50_000


def ahead(id):
    """Seconds that an id's time is ahead of the clock."""
    return int(str(id).replace("-", "")[:12], 16) / 1000 - time.time()


def look(name):
    make = importlib.import_module(name).uuid7
    began = time.monotonic()
    ids = [make() for _ in range(COUNT)]
    last, took = ahead(ids[-1]), time.monotonic() - began
    time.sleep(1)
    later = ahead(make())
    other = subprocess.check_output([sys.executable, "-c", f"import {name}; print({name}.uuid7())"], text=True)
    assert all(map(str.__lt__, map(str, ids), map(str, ids[1:])))
    after = other.strip() > str(ids[-1])
    print(f"{name}: {COUNT} ids in {took:.1f} s; the last {last:.3f} s ahead, one made 1 s later {later:.3f} s;",
          "another process then:", "after them" if after else "before them")
    return last, took, later, after


for name in "uuid6", "uuid_utils":
    print(name, importlib.metadata.version(name))
last, took, later, after = look("uuid6")
assert COUNT / 1000 - took - 1 < last <= COUNT / 1000 and later > last - 5 and not after
last, took, later, after = look("uuid_utils")
assert last < 0.5 and later < 0.5 and after
print("as described")
PYTHON
