"""Changes a bundle in every way, and sees each refused: changes.py VERIFIER BUNDLE.zip"""

import functools
import hashlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import zipfile

spec = importlib.util.spec_from_file_location("verify", sys.argv[1])
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)
# The same signatures are checked thousands of times.
verify.signed = functools.lru_cache(None)(verify.signed)

with zipfile.ZipFile(sys.argv[2]) as archive:
    whole = {name: archive.read(name) for name in archive.namelist()}


class InMemory(verify.Bundle):
    def __init__(self, files):
        self.files, self.zip = files, None

    def open(self, name):
        if name not in self.files:
            raise verify.Refused(name + ": is missing")
        return io.BytesIO(self.files[name])


def says(files):
    """Why it's refused."""
    return verify.outcome(InMemory(files), None, None)[1]


def digested(files, **members):
    """With a manifest that fits: what somebody makes who knows how bundles are made."""
    manifest = dict(json.loads(whole["manifest.json"]), **members)
    for file in manifest["files"]:
        data = files[file["name"]]
        file["bytes"], file["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    raw = json.dumps(manifest).encode()
    sum_ = ("%s  manifest.json\n" % hashlib.sha256(raw).hexdigest()).encode()
    return dict(files, **{"manifest.json": raw, "manifest.sha256": sum_})


def refused(files, what, why=""):
    said = says(files)
    assert said and why in said, "%s: %r" % (what, said)


assert says(whole) is None and says(digested(whole)) is None, says(whole)
flips = 0
for name, data in whole.items():
    refused({other: whole[other] for other in whole if other != name}, name + " is gone", name)
    refused(dict(whole, **{name: data[:-1]}), name + " is cut")
    refused(dict(whole, **{name: data + b"\n"}), name + " is longer")
    # Of the long ones that are only digested not every byte.
    step = 17 if name in ("index.html", "verify.py") else 1
    for at in range(0, len(data), step):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        refused(dict(whole, **{name: bytes(flipped)}), "%s: bit %d of byte %d" % (name, at % 8, at))
        flips += 1

changes = 0
lines = whole["entries.jsonl"].splitlines(True)
items = whole["proof.txt"].splitlines(True)


def with_lines(changed, what):
    global changes
    files = dict(whole, **{"entries.jsonl": b"".join(changed)})
    refused(digested(files, lines=len(changed)), what)
    changes += 1


def with_items(changed, what):
    global changes
    refused(digested(dict(whole, **{"proof.txt": b"".join(changed)})), what)
    changes += 1


for at, line in enumerate(lines):
    with_lines(lines[:at] + lines[at + 1 :], "line %d is gone" % at)
    with_lines(lines[:at] + [line] + lines[at:], "line %d is there twice" % at)
    with_lines(lines[:at] + [line[:-1] + b" \n"] + lines[at + 1 :], "line %d is changed" % at)
    if at:
        with_lines(lines[: at - 1] + [line, lines[at - 1]] + lines[at + 1 :], "lines before %d are swapped" % at)
for at, item in enumerate(items):
    with_items(items[:at] + items[at + 1 :], "item %d of the proof is gone" % at)
    with_items(items[:at] + [item] + items[at:], "item %d of the proof is there twice" % at)
    if at:
        with_items(items[: at - 1] + [item, items[at - 1]] + items[at + 1 :], "items before %d are swapped" % at)
    for byte in range(len(item)):
        for to in b"0A\n":
            changed = item[:byte] + bytes([to]) + item[byte + 1 :]
            if changed != item:
                with_items(items[:at] + [changed] + items[at + 1 :], "item %d, byte %d" % (at, byte))
# Another checkpoint: of another size or root, unsigned, of another log.
text = whole["checkpoint"].decode()
origin, size, root, rest = text.split("\n", 3)
for changed in [
    "\n".join([origin, str(int(size) + 1), root, rest]),
    "\n".join([origin, size, root[1:3] + root[2:], rest]),
    "\n".join([origin + "x", size, root, rest]),
    text[: text.index("\u2014")],
]:
    refused(digested(dict(whole, checkpoint=changed.encode())), "another checkpoint", "checkpoint")
    changes += 1
for name in whole:
    if name.startswith("timestamps/"):
        for old, new in [(b"\n", b"\n1"), (b"CMS", b"PEM"), (b"\n\n", b"\n\n\n")]:
            refused(digested(dict(whole, **{name: whole[name].replace(old, new, 1)})), "another stamp", name)
            changes += 1
for members in [{"lines": len(lines) + 1}, {"log": "another"}, {"format": "another"}, {"checkpoint": {}}]:
    refused(digested(whole, **members), "a manifest of something else", "manifest")
    changes += 1


# The zip around them: whatever is wrong with it is said, and nothing else than was in it holds.
def zipped(compression):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in whole.items():
            archive.writestr(name, data)
    return file.getvalue()


def outcome(data):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bundle.zip")
        with open(path, "wb") as file:
            file.write(data)
        return verify.outcome(path, None, None)


with open(sys.argv[2], "rb") as file:
    archive = file.read()
facts = outcome(archive)[0]
assert facts and outcome(zipped(zipfile.ZIP_STORED))[0] == facts
for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
    said = outcome(zipped(compression))[1]
    assert said and "Deflate" in said, said
around = archive.index(b"PK\1\2")
for at in list(range(0, around, 97)) + list(range(around, len(archive))):
    for change in (0x01, 0xFF):
        changed = bytearray(archive)
        changed[at] ^= change
        holds, said = outcome(bytes(changed))
        assert said or holds == facts, at
        flips += 1
print("%d bits, %d changes" % (flips, changes))
