"""Compares every line of a log with the entries of its tree: python3 linecheck.py DIRECTORY

Says the first line that isn't what was sealed, and exits with 1; days may be compressed. Stock Python,
nothing else. It takes the entries as they are: fsck tells whether they are what was signed.
"""
import functools, gzip, hashlib, json, os, sys


@functools.lru_cache(8)
def opened(path):
    return open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz")


directory, segs = sys.argv[1], []
tiles = os.walk(os.path.join(directory, ".integrity/tile/entries"))
for path, _, names in sorted(tiles, key=lambda tile: (tile[0].count("/"), tile[0])):
    for name in sorted(name for name in names if not path.endswith(".p")):
        data, at = open(os.path.join(path, name), "rb").read(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 2], "big")
            entry, at = data[at + 2 : at + 2 + length], at + 2 + length
            if length == 32:
                segs[-1]["digests"].append(entry)
                continue
            record = json.loads(entry)
            if record["t"] == "seg":
                segs.append(record | {"digests": []})
            elif record["t"] in ("altered", "gap", "rollback"):
                sys.exit(f"the log itself has recorded: {entry.decode()}")
            elif record["t"] == "prune":
                segs = [seg for seg in segs if seg["file"] != record["file"]]
lines = 0
for seg in segs:
    where = f"{seg['file']}, bytes {seg['off']} to {seg['off'] + seg['len']}"
    try:
        file = opened(os.path.join(directory, seg["file"]))
        file.seek(seg["off"])
        found = [line for line in file.read(seg["len"]).split(b"\n") if line.strip(b" ")]
    except OSError as error:
        sys.exit(f"{where}: {error}")
    if len(found) != seg["n"] or len(seg["digests"]) != seg["n"]:
        sys.exit(f"{where}: {len(found)} lines, {seg['n']} were sealed")
    for number, (line, digest) in enumerate(zip(found, seg["digests"]), 1):
        if hashlib.sha256(line).digest() != digest:
            sys.exit(f"{where}: line {number} of them isn't what was sealed")
    lines += len(found)
print(f"{lines} lines are what was sealed")
