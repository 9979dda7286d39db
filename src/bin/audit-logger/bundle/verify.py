#!/usr/bin/env python3
"""Verifies a bundle of an audit log. Python 3.8 or later, its standard library alone.

    python3 verify.py [BUNDLE.zip | DIRECTORY] [--vkey TEXT|FILE] [--policy FILE]

Without a bundle it's the one in whose directory this file is. --vkey is the log's public key and --policy a
policy of witnesses (C2SP tlog-policy), as you had them from elsewhere: those in the bundle are its maker's word.

Exit codes: 0 it holds, 1 it doesn't, 2 wrong usage, 3 it can't be read.
"""

import argparse
import base64
import binascii
import errno
import hashlib
import json
import os
import re
import struct
import sys
import zipfile
import zlib

FORMAT = "audit_logger bundle 1"
PROOF = b"audit_logger slice 1"
FILES = {"entries.jsonl", "proof.txt", "checkpoint", "vkey", "index.html", "verify.py"}
STAMP = r"timestamps/[0-9]+-[0-9a-f]{16}"
SUM = "manifest.sha256"
PIECE = 1 << 20
# No other file of a bundle is longer.
MOST = 4 << 20
# A line of a proof has a hash, or a record of at most 64 KiB.
LONGEST = 1 << 17
# A policy, and time stamps of two sizes, at most 16 of each.
MOST_FILES = len(FILES) + 1 + 2 * 16
DASH = "\u2014 "


class Refused(Exception):
    """What is wrong with the bundle."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text, what):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = None
    # There is one way to write it.
    if raw is None or base64.b64encode(raw).decode() != text:
        raise Refused(what + " isn't base64")
    return raw


def number(text, what):
    if not re.fullmatch("0|[1-9][0-9]{0,19}", text):
        raise Refused("%s: %r isn't a number" % (what, text[:40]))
    return int(text)


# Ed25519 (RFC 8032, section 5.1), in plain integers. A few signatures are checked, so it may be slow.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
NEUTRAL = (0, 1, 1, 0)


def point_add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_times(scalar, p):
    result = NEUTRAL
    while scalar:
        if scalar & 1:
            result = point_add(result, p)
        p = point_add(p, p)
        scalar >>= 1
    return result


def point_of(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def point_bytes(p):
    z = pow(p[2], P - 2, P)
    x, y = p[0] * z % P, p[1] * z % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed(key, message, signature):
    """Whether an Ed25519 key has signed a message."""
    a = point_of(key)
    if a is None or len(signature) != 64 or point_bytes(point_times(8, a)) == point_bytes(NEUTRAL):
        return False
    s = int.from_bytes(signature[32:], "little")
    if s >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], a[2], P - a[3])
    return point_bytes(point_add(point_times(s, BASE), point_times(h, minus_a))) == signature[:32]


class Key:
    """A public key with a name: of a log (type 1) or of a witness (type 4)."""

    def __init__(self, text, kind, what):
        parts = text.split("+", 2)
        if len(parts) != 3 or not parts[0] or re.search(r"\s", parts[0]):
            raise Refused(what + " isn't <name>+<8 hex digits>+<base64>")
        self.text, self.name = text, parts[0]
        raw = unbase64(parts[2], what)
        if len(raw) != 33 or raw[0] != kind:
            raise Refused("%s isn't an Ed25519 key of type %d" % (what, kind))
        self.raw = raw[1:]
        self.id = sha256(self.name.encode(), b"\n", raw)[:4]
        if self.id.hex() != parts[1]:
            raise Refused(what + " has an id that isn't that of its name and key")


class Note:
    """A signed note (C2SP signed-note): a text and its signatures."""

    def __init__(self, text):
        at = text.rfind("\n\n")
        if at < 0 or not text.endswith("\n"):
            raise Refused("checkpoint: isn't a signed note")
        self.text = text[: at + 1]
        self.signatures = []
        for line in text[at + 2 : -1].split("\n"):
            words = line[len(DASH) :].split(" ")
            if not line.startswith(DASH) or len(words) != 2:
                raise Refused("checkpoint: has a line that isn't a signature")
            raw = unbase64(words[1], "checkpoint: a signature")
            self.signatures.append((words[0], raw[:4], raw[4:]))

    def by(self, key):
        """The signature of a key; of several the first."""
        for name, identity, signature in self.signatures:
            if name == key.name and identity == key.id:
                return signature
        return None

    def cosigned(self, key):
        """When a witness says that it saw this; None if it says nothing."""
        found = self.by(key)
        if found is None:
            return None
        time = int.from_bytes(found[:8], "big")
        message = "cosignature/v1\ntime %d\n%s" % (time, self.text)
        if len(found) != 72 or not 0 < time < 2**63 or not signed(key.raw, message.encode(), found[8:]):
            raise Refused("checkpoint: the cosignature of %s isn't by its key" % key.name)
        return time


class Policy:
    """A policy (C2SP tlog-policy): the logs, the witnesses, and how many of them must have signed."""

    def __init__(self, text):
        self.logs, self.witnesses, self.groups, self.quorum = [], {}, {}, None
        for at, line in enumerate(text.split("\n"), 1):
            words = line.replace("\t", " ").split(" ")
            words = [word for word in words if word]
            if words and not words[0].startswith("#"):
                if not self.take(words[0], words[1:], "policy: line %d" % at):
                    raise Refused("policy: line %d can't be read" % at)
        if self.quorum is None:
            raise Refused("policy: has no quorum")

    def take(self, keyword, words, where):
        if keyword == "log" and len(words) in (1, 2):
            self.logs.append(Key(words[0], 1, where))
            return True
        if keyword == "witness" and len(words) in (2, 3) and self.is_new(words[0]):
            self.witnesses[words[0]] = Key(words[1], 4, where)
            return True
        if keyword == "group" and len(words) > 2 and self.is_new(words[0]):
            members = words[2:]
            least = {"any": 1, "all": len(members)}.get(words[1])
            least = number(words[1], where) if least is None else least
            known = all(member in self.witnesses or member in self.groups for member in members)
            self.groups[words[0]] = (least, members)
            return known and len(set(members)) == len(members) and 0 < least <= len(members)
        if keyword == "quorum" and len(words) == 1 and self.quorum is None:
            self.quorum = words[0]
            return words[0] == "none" or not self.is_new(words[0])
        return False

    def is_new(self, name):
        return name != "none" and name not in self.witnesses and name not in self.groups

    def complete_at(self, note):
        """When its quorum was complete, and who has signed."""
        times = {name: note.cosigned(key) for name, key in self.witnesses.items()}
        names = [key.name for name, key in self.witnesses.items() if times[name] is not None]
        for name, (least, members) in self.groups.items():
            found = sorted(times[member] for member in members if times[member] is not None)
            times[name] = found[least - 1] if len(found) >= least else None
        return times[self.quorum], names


class Tree:
    """A Merkle tree (RFC 6962) that grows to the right: of what there is, the roots of the largest whole parts."""

    def __init__(self):
        self.size = 0
        self.nodes = []

    def add(self, height, node):
        if self.size & ((1 << height) - 1):
            raise Refused("proof.txt: a node of height %d can't stand behind entry %d" % (height, self.size))
        at = self.size >> height
        while at & 1:
            node = sha256(b"\1", self.nodes.pop(), node)
            at >>= 1
        self.nodes.append(node)
        self.size += 1 << height

    def add_leaves(self, level):
        """Many at once: as large whole parts as fit, each folded level by level."""
        new = hashlib.sha256
        start = 0
        while start < len(level):
            room = len(level) - start
            height = room.bit_length() - 1
            if self.size:
                height = min(height, (self.size & -self.size).bit_length() - 1)
            part = level[start : start + (1 << height)]
            start += 1 << height
            while len(part) > 1:
                pairs = iter(part)
                part = [new(b"\1" + left + right).digest() for left, right in zip(pairs, pairs)]
            self.add(height, part[0])

    def root(self):
        if not self.nodes:
            return sha256()
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = sha256(b"\1", node, root)
        return root


class Bundle:
    """The files, of a zip or a directory."""

    def __init__(self, path):
        self.path = path
        self.zip = None if os.path.isdir(path) else zipfile.ZipFile(path)
        if self.zip:
            names = self.zip.namelist()
            if len(set(names)) != len(names):
                raise Refused("the zip has a name twice")
            # Others take memory as their maker likes.
            if any(file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for file in self.zip.infolist()):
                raise Refused("the zip has a file that is compressed otherwise than by Deflate")

    def open(self, name):
        try:
            if self.zip:
                return self.zip.open(name)
            return open(os.path.join(self.path, name), "rb")
        except (KeyError, FileNotFoundError):
            raise Refused(name + ": is missing") from None

    def read(self, name):
        with self.open(name) as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise Refused(name + ": is longer than it can be")
        return data

    def has_only(self, names):
        for name in self.zip.namelist() if self.zip else []:
            if name not in names:
                raise Refused("%s: is in the zip, and not in the manifest" % name)


class Lines:
    """The lines of a file, many at once, and its digest."""

    def __init__(self, bundle, name, most):
        self.name, self.most = name, most
        self.file = bundle.open(name)
        self.digest = hashlib.sha256()
        self.bytes = 0
        self.waiting = []
        self.at = 0
        self.rest = b""

    def more(self):
        piece = self.file.read(PIECE)
        if not piece:
            if self.rest:
                raise Refused(self.name + ": doesn't end with a line feed")
            return False
        self.digest.update(piece)
        self.bytes += len(piece)
        lines = (self.rest + piece).split(b"\n")
        self.rest = lines.pop()
        if len(self.rest) > self.most:
            raise Refused(self.name + ": has a line that is longer than any can be")
        self.waiting, self.at = lines, 0
        return True

    def take(self, most):
        """The next lines, at most so many; none at the end."""
        while self.at == len(self.waiting):
            if not self.more():
                return []
        lines = self.waiting[self.at : self.at + most]
        self.at += len(lines)
        return lines


class Seals:
    """What the tree's records say of some days: each line that is sealed of them must be there."""

    def __init__(self, first, last):
        self.first, self.last = first, last
        self.begun = False
        # The last record shown is a seal of another day.
        self.other = False
        # Something behind that is hidden.
        self.closed = False
        # How many digests of the last seal are to come, and whether it's of these days.
        self.left, self.ours = 0, False
        # How many lines of these days are hidden, and up to where each file is sealed.
        self.hidden, self.ends = 0, {}

    def record(self, at, raw):
        record = json.loads(raw)
        if self.left or self.closed:
            raise Refused("proof.txt: hides entries between the seals")
        kind, name = record["t"], record.get("file", "")
        ours = self.first <= name[len("audit_") :][:10] <= self.last
        self.ours, self.other = ours and kind == "seg", not ours and kind == "seg"
        if kind == "seg":
            self.left = record["n"]
        if ours and kind == "gap":
            self.ends[name] = record["off"]
        if self.ours:
            end = self.ends.get(name, 0)
            if record["off"] != end:
                raise Refused("%s: the seal of what is at byte %d isn't shown" % (name, end))
            self.ends[name] = end + record["len"]
        if not self.begun and at and not self.other:
            raise Refused("proof.txt: begins behind the last seal of another day before these")
        self.begun = True

    def lines(self, count):
        if count > self.left or not self.ours:
            raise Refused("proof.txt: has lines where no seal of these days has any")
        self.left -= count

    def hide(self, count):
        if self.begun:
            sealed = min(count, self.left)
            self.left -= sealed
            self.hidden += sealed if self.ours else 0
            self.closed = self.closed or count > sealed

    def end(self):
        if not self.begun or self.closed and not self.other:
            raise Refused("proof.txt: ends before the first seal of another day after these")


def prove(bundle, seals, sizes=()):
    """Folds lines and proof together. What it leads to, at some sizes before as well, and how many lines there are."""
    tree, count, roots = Tree(), 0, {}
    entries = Lines(bundle, "entries.jsonl", 2 << 20)
    proof = Lines(bundle, "proof.txt", LONGEST)
    new = hashlib.sha256
    if proof.take(1) != [PROOF]:
        raise Refused("proof.txt: isn't one of a slice, version 1")
    while True:
        items = proof.take(4096)
        if not items:
            break
        for item in items:
            word, _, rest = item.partition(b" ")
            if word == b"hidden":
                height, _, node = rest.decode().partition(" ")
                height, node = number(height, "proof.txt"), unbase64(node, "proof.txt: a node")
                if height > 63 or len(node) != 32:
                    raise Refused("proof.txt: has a node that isn't one")
                if seals:
                    seals.hide(1 << height)
                tree.add(height, node)
            elif word == b"lines":
                left = number(rest.decode(), "proof.txt")
                if seals:
                    seals.lines(left)
                count += left
                while left:
                    lines = entries.take(left)
                    if not lines:
                        raise Refused("entries.jsonl: lines are missing: the proof is of more")
                    left -= len(lines)
                    tree.add_leaves([new(b"\0" + new(line).digest()).digest() for line in lines])
            elif word == b"record" and seals and len(rest) != 32:
                seals.record(tree.size, rest)
                tree.add(0, sha256(b"\0", rest))
            else:
                raise Refused("proof.txt: has a line that can't be there: %r" % item[:40])
            if tree.size in sizes:
                roots[tree.size] = tree.root()
    if entries.take(1):
        raise Refused("entries.jsonl: has more lines than the proof is of")
    if seals:
        seals.end()
    return tree, roots, count, {lines.name: (lines.bytes, lines.digest.hexdigest()) for lines in (entries, proof)}


def opened(note, key, what):
    """The size and the root of a checkpoint that a log has signed."""
    signature = note.by(key)
    if signature is None or not signed(key.raw, note.text.encode(), signature):
        raise Refused(what + ": isn't signed by the public key")
    lines = note.text.split("\n")
    if len(lines) < 4 or lines[0] != key.name:
        raise Refused(what + ": is of another log than the key")
    return number(lines[1], what), unbase64(lines[2], what + ": the root")


def parts(der):
    """What stands in a piece of DER, one after the other: tags, and what they hold."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            end = at + (length & 0x7F)
            length, at = int.from_bytes(der[at:end], "big"), end
        if at + length > len(der):
            raise ValueError("a piece of DER is longer than what it's in")
        found.append((tag, der[at : at + length]))
        at += length
    return found


def said(token):
    """When a token (RFC 3161) says that it was made, and how far off that may be."""
    # ContentInfo, SignedData, EncapsulatedContentInfo, TSTInfo.
    signed_data = parts(parts(parts(parts(token)[0][1])[1][1])[0][1])
    info = parts(parts(parts(parts(signed_data[2][1])[1][1])[0][1])[0][1])
    tag, time = info[4]
    time = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d(?:\.\d+)?)Z", time.decode())
    if tag != 0x18 or not time:
        raise ValueError("a time isn't one")
    shown = "%s-%s-%sT%s:%s:%sZ" % time.groups()
    # The accuracy is the one sequence behind the time.
    for tag, accuracy in info[5:]:
        if tag == 0x30:
            units = {0x02: 1000000, 0x80: 1000, 0x81: 1}
            micros = sum(units[unit] * int.from_bytes(value, "big") for unit, value in parts(accuracy))
            shown += " \u00b1 %s s" % ("%d.%06d" % divmod(micros, 1000000)).rstrip("0").rstrip(".")
    return shown


def stamped(name, text, key):
    """The size and the root of what a time stamp is over, and when it says it was made. That it's by an authority
    isn't checked."""
    begin, end = "\n-----BEGIN CMS-----\n", "\n-----END CMS-----\n"
    at = text.find(begin)
    if at < 0 or not text.endswith(end):
        raise Refused(name + ": isn't a checkpoint and a token")
    note, token = text[:at], text[at + len(begin) : -len(end)].replace("\n", "")
    token = unbase64(token, name + ": the token")
    digests = [hashlib.new(kind, note.encode()).digest() for kind in ("sha256", "sha384", "sha512")]
    if not any(digest in token for digest in digests):
        raise Refused(name + ": the token is of something else")
    return (name, *opened(Note(note), key, name), said(token))


def given(text):
    """A key's text, or that in a file."""
    if text.count("+") < 2:
        with open(text, encoding="utf-8") as file:
            text = file.read()
    return text.rstrip("\n")


def verify(bundle, vkey, policy_text):
    """What holds, as sentences. Refused if something doesn't."""
    raw = bundle.read("manifest.json")
    if bundle.read(SUM) != ("%s  manifest.json\n" % hashlib.sha256(raw).hexdigest()).encode():
        raise Refused("manifest.json: isn't what %s says" % SUM)
    manifest = json.loads(raw)
    if manifest["format"] != FORMAT:
        raise Refused("manifest.json: isn't of a bundle, version 1")
    files = {file["name"]: (file["bytes"], file["sha256"]) for file in manifest["files"]}
    others = [name for name in set(files) - FILES if name != "policy" and not re.fullmatch(STAMP, name)]
    if len(files) != len(manifest["files"]) or FILES - set(files) or others or len(files) > MOST_FILES:
        raise Refused("manifest.json: doesn't list the files that a bundle has")
    bundle.has_only(set(files) | {"manifest.json", SUM})
    read = {}
    for name in sorted(set(files) - {"entries.jsonl", "proof.txt"}):
        read[name] = bundle.read(name)
        if files[name] != (len(read[name]), hashlib.sha256(read[name]).hexdigest()):
            raise Refused("%s: isn't what the manifest says: it was changed" % name)

    own = read["vkey"].decode().rstrip("\n")
    key = Key(vkey or own, 1, "the public key")
    if key.text != own:
        raise Refused("vkey: the bundle is of another log than that of the public key that was given")
    note = Note(read["checkpoint"].decode())
    size, root = opened(note, key, "checkpoint")
    named = {"size": size, "root": base64.b64encode(root).decode()}
    if manifest["log"] != key.name or manifest["checkpoint"] != named:
        raise Refused("manifest.json: names another log, or another checkpoint")

    users = manifest["users"]
    seals = None if users else Seals(manifest["from"], manifest["to"])
    stamps = [stamped(name, read[name].decode(), key) for name in sorted(read) if re.fullmatch(STAMP, name)]
    tree, roots, count, digests = prove(bundle, seals, {at for _, at, _, _ in stamps})
    if tree.size != size or tree.root() != root:
        raise Refused(
            "entries.jsonl: the lines aren't what was sealed, or aren't all, or not in their order: with proof.txt "
            "they lead to another root than the one that was signed"
        )
    for name, at, stamped_root, _ in stamps:
        if roots.get(at) != stamped_root:
            raise Refused("%s: is of another tree" % name)
    for name, found in digests.items():
        if files[name] != found:
            raise Refused("%s: isn't what the manifest says: it was changed" % name)
    left_out = manifest["left_out"]
    hidden = left_out["removed_lines"] + left_out["too_long_lines"]
    if count != manifest["lines"] or (seals and seals.hidden != hidden):
        raise Refused("manifest.json: counts other lines than there are")

    facts = ["%d lines, each as it was sealed, in the tree of %d entries of %s" % (count, size, key.name)]
    days = "%s to %s" % (manifest["from"], manifest["to"])
    if seals:
        but = ", but for %d lines" % hidden if hidden else ""
        facts.append("of %s all that the log had sealed, in %d files%s" % (days, len(seals.ends), but))
    else:
        facts.append("of %s, users %s, says its maker: others of theirs may be missing" % (days, json.dumps(users)))
    for kind, why in (("removed_lines", "retention had removed their files"), ("too_long_lines", "they are too long")):
        if left_out[kind]:
            whose = "" if seals else ", of whichever users,"
            facts.append("%d lines%s are left out, says its maker, because %s" % (left_out[kind], whose, why))
    if left_out["unsealed_bytes"]:
        facts.append("%d bytes weren't sealed yet, says its maker" % left_out["unsealed_bytes"])
    for name, at, _, when in stamps:
        facts.append("%s covers them, with the first %d entries, and says %s: check it by openssl ts" % (name, at, when))
    if not vkey:
        facts.append("the public key is the bundle's own: compare it with what you know, or give it by --vkey")
        facts.append("  " + key.text)
    outside = policy_text is not None
    if not outside and "policy" in read:
        policy_text = read["policy"].decode()
    if policy_text is None:
        others = len(note.signatures) - 1
        if others:
            facts.append("%d cosignatures weren't checked: give a policy by --policy" % others)
        return facts
    policy = Policy(policy_text)
    if policy.logs and own not in [log.text for log in policy.logs]:
        raise Refused("policy: is for other logs")
    if policy.quorum == "none":
        return facts
    when, names = policy.complete_at(note)
    if when is None:
        raise Refused("checkpoint: isn't signed by the quorum of the policy")
    whose = "" if outside else ", by the policy in the bundle"
    facts.append("witnessed by %s, complete at %d (seconds since 1970)%s" % (", ".join(names), when, whose))
    return facts


def shown(text):
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\\u%04x" % ord(c) for c in text)


# What reading something that isn't what it should be comes to.
DAMAGE = (ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, RuntimeError, TypeError,
          ValueError, struct.error, zipfile.BadZipFile, zlib.error)


def outcome(bundle, vkey, policy):
    """What holds, or why it's refused. The bundle is one, or the path of one."""
    try:
        return verify(Bundle(bundle) if isinstance(bundle, str) else bundle, vkey, policy), None
    except Refused as refused:
        return None, str(refused)
    except DAMAGE + (OSError,) as error:
        # A zip that names a place before its beginning.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        return None, "the bundle is damaged: %s: %s" % (type(error).__name__, error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("bundle", nargs="?", default=here)
    parser.add_argument("--vkey")
    parser.add_argument("--policy")
    arguments = parser.parse_args()
    try:
        vkey = given(arguments.vkey) if arguments.vkey else None
        policy = None
        if arguments.policy:
            with open(arguments.policy, encoding="utf-8") as file:
                policy = file.read()
        facts, refused = outcome(arguments.bundle, vkey, policy)
    except (OSError, UnicodeDecodeError) as error:
        print("verify.py: " + shown(str(error)), file=sys.stderr)
        return 3
    if refused:
        print("REFUSED: " + shown(refused), file=sys.stderr)
        return 1
    print("holds")
    for fact in facts:
        print("  " + shown(fact))
    return 0


if __name__ == "__main__":
    sys.exit(main())
