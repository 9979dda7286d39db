#!/usr/bin/env bash
# datafusion 55.0.0: a table over a directory sees a small file grow, a large one not, and no new file.
#
# register_json, register_csv and the like keep the list of a directory's files, with their sizes, from
# the first query on and without an end (list_files_cache_ttl is unset). Names are of that moment. Sizes
# are, too, but only a file that may be split is read to its size: from 1 MiB on (the optimizer's
# repartition_file_min_size). A smaller one is read to whatever end it has by now. So a service that keeps
# its session over a directory of logs counts today's new lines if its first query met a small file, misses
# them if it met a large one, and after midnight misses the whole next file; a restart "mends" all of it. A
# table of one file, by its path, isn't affected. The cache is named as one of lists of files; that it cuts
# off the ends of files, and of which, isn't said.
#
# What to do: SET datafusion.runtime.list_files_cache_limit = '0K', or register the table again.
#
# Seen (rows counted, of rows there):
#   10 KB file, 1,000 lines more           2,000 of 2,000
#   and a new file of 1,000 lines          2,000 of 3,000
#   2 MB file, 1,000 lines more            200,000 of 201,000
#   and repartition_file_min_size 1 GB     201,000 of 201,000
#   the same file registered by its path   202,000 of 202,000
#   the cache off                          all
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check datafusion==55.0.0 pyarrow==26.0.1
cd "$work"
"$work/env/bin/python" - <<'PYTHON'
from pathlib import Path

import datafusion
import pyarrow as pa

SCHEMA = pa.schema([("id", pa.int64())])


def append(path, lines):
    with open(path, "a") as file:
        file.writelines('{"id":%d}\n' % n for n in range(lines))


def session(path, split_from=1 << 20):
    config = datafusion.SessionConfig().set("datafusion.optimizer.repartition_file_min_size", str(split_from))
    context = datafusion.SessionContext(config)
    context.register_json("log", str(path), schema=SCHEMA, file_extension=".jsonl")
    return context


def rows(context):
    return context.sql("SELECT count(id) AS n FROM log").to_pylist()[0]["n"]


def show(what, got, expected):
    print(what, got)
    assert got == expected, got


print("datafusion", datafusion.__version__)
for name, lines, grown in (("small", 1_000, 2_000), ("large", 200_000, 200_000)):
    folder = Path(name)
    folder.mkdir()
    today, next_day = folder / "today.jsonl", folder / "tomorrow.jsonl"
    append(today, lines)
    context, unsplit, by_path = session(f"{name}/"), session(f"{name}/", split_from=10**9), session(today)
    for table in context, unsplit, by_path:
        show(f"{name}, {today.stat().st_size:,} bytes:", rows(table), lines)
    append(today, 1_000)
    show(f"{name}, 1,000 lines more:", rows(context), grown)
    show(f"{name}, 1,000 lines more, unsplit:", rows(unsplit), lines + 1_000)
    show(f"{name}, 1,000 lines more, by its path:", rows(by_path), lines + 1_000)
    append(next_day, 1_000)
    show(f"{name}, a new file:", rows(context), grown)
    show(f"{name}, a new file, unsplit:", rows(unsplit), lines + 1_000)
    append(today, 1_000)
    show(f"{name}, by its path:", rows(by_path), lines + 2_000)
    context.sql("SET datafusion.runtime.list_files_cache_limit = '0K'").collect()
    show(f"{name}, without the cache:", rows(context), lines + 3_000)
print("as described")
PYTHON
