#!/usr/bin/env bash
# json-canonicalize 3.0.1: a member that is called toJSON stops the sorting of its object and all below it.
#
# RFC 8785 (JCS) section 3.2.3 sorts the members of every object, whatever their names. Where an object has
# a member toJSON that isn't null, this package hands the object to JSON.stringify, as for a Date: but in
# what JSON.parse gave, toJSON is data, {"toJSON": true}, and JSON.stringify writes all in the order in
# which it came, with everything nested in it. So two equal documents have two "canonical" texts, and their
# hashes and signatures differ from those of other implementations, whenever the order of members isn't
# the sorted one. The sample code of the RFC's Appendix A has the same condition, against the RFC's own
# text. The package canonicalize of one of the RFC's authors, and those for Python and Go, sort. Hit is
# who hashes or signs what describes JavaScript or an API: schemas of tools, documentation, source maps.
#
# What to do: canonicalize 4.0.0; or refuse such a name before.
#
# Seen, for {"toJSON":true,"b":{"d":1,"c":2},"a":0}:
#   json-canonicalize 3.0.1                     {"toJSON":true,"b":{"d":1,"c":2},"a":0}
#   canonicalize 4.0.0, rfc8785 0.1.4 (Python)  {"a":0,"b":{"c":2,"d":1},"toJSON":true}
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q --disable-pip-version-check rfc8785==0.1.4
cd "$work"
npm init -y >npm.log
npm install --silent --no-fund --no-audit json-canonicalize@3.0.1 canonicalize@4.0.0 >npm.log

cat >documents <<'LINES'
{"toJSON":true,"b":{"d":1,"c":2},"a":0}
{"a":0,"b":{"c":2,"d":1},"toJSON":true}
{"z":1,"tool":{"type":"object","properties":{"toJSON":{"type":"boolean","default":true},"path":{}}},"a":[{"y":1,"x":2}]}
{"toJson":true,"b":{"d":1,"c":2},"a":0}
{"toJSON":null,"b":{"d":1,"c":2},"a":0}
LINES
cat >node.mjs <<'JAVASCRIPT'
import fs from "fs";
import canonicalize from "canonicalize";
import * as other from "json-canonicalize";
const write = process.argv[2] === "canonicalize" ? canonicalize : other.canonicalize;
for (const line of fs.readFileSync("documents", "utf8").trim().split("\n")) console.log(write(JSON.parse(line)));
JAVASCRIPT
cat >python.py <<'PYTHON'
import json
import rfc8785

for line in open("documents"):
    print(rfc8785.dumps(json.loads(line)).decode())
PYTHON

node node.mjs canonicalize >sorted
env/bin/python python.py >sorted-python
node node.mjs json-canonicalize >unsorted
cmp sorted sorted-python
echo "canonicalize, rfc8785:"
cat sorted
echo "json-canonicalize:"
cat unsorted
diff - unsorted <<'LINES'
{"toJSON":true,"b":{"d":1,"c":2},"a":0}
{"a":0,"b":{"c":2,"d":1},"toJSON":true}
{"a":[{"x":2,"y":1}],"tool":{"properties":{"toJSON":{"type":"boolean","default":true},"path":{}},"type":"object"},"z":1}
{"a":0,"b":{"c":2,"d":1},"toJson":true}
{"a":0,"b":{"c":2,"d":1},"toJSON":null}
LINES
[ "$(sed -n 1p sorted)" = "$(sed -n 2p sorted)" ]
echo "as described"
