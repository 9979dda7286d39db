#!/usr/bin/env bash
# pako 3.0.3: Inflate drops all of a gzip stream after a member that ends exactly where a chunk ends.
#
# A gzip file may consist of several members, one after the other (RFC 1952 section 2.2): logs that are
# appended to, and servers that close a member at each flush, write such. pako's Inflate goes on to the next
# member when the chunk that it is given holds bytes of it. When the chunk ends with the member, it takes
# the stream for ended: what is pushed afterwards is ignored, err is 0, result is what came so far. Where
# chunks end is the network's choice, or the reader's: a 64 KiB read meets a member's end seldom, a server
# that flushes member by member nearly always, so the first member may be all that is ever seen of a live
# log. push() returns true for all of it. pako.ungzip() of the whole, Node's zlib, DecompressionStream and
# fflate's Gunzip read everything, however it is cut.
#
# What to do: DecompressionStream("gzip"); or one push() of everything.
#
# Seen, two members of 32 bytes each:
#   cut at                    pako          the others
#   each of the other places  both members  both members
#   32, the member's end      the first     both members
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init -y >npm.log
npm install --silent --no-fund --no-audit pako@3.0.3 fflate@0.8.3 >npm.log
cat >show.mjs <<'JAVASCRIPT'
import assert from "assert";
import { createRequire } from "module";
import zlib from "zlib";
import * as fflate from "fflate";
import * as pako from "pako";

const first = zlib.gzipSync("line one\n".repeat(3));
const stream = Buffer.concat([first, zlib.gzipSync("line two\n".repeat(3))]);
const whole = "line one\n".repeat(3) + "line two\n".repeat(3);

const readers = {
  async pako(chunks) {
    const inflate = new pako.Inflate();
    chunks.forEach((chunk, index) => assert(inflate.push(chunk, index === chunks.length - 1)));
    assert.strictEqual(inflate.err, 0);
    return Buffer.from(inflate.result).toString();
  },
  async fflate(chunks) {
    const parts = [];
    const gunzip = new fflate.Gunzip((part) => parts.push(Buffer.from(part)));
    chunks.forEach((chunk, index) => gunzip.push(chunk, index === chunks.length - 1));
    return Buffer.concat(parts).toString();
  },
  async zlib(chunks) {
    const gunzip = zlib.createGunzip();
    chunks.forEach((chunk) => gunzip.write(chunk));
    gunzip.end();
    const parts = [];
    for await (const part of gunzip) parts.push(part);
    return Buffer.concat(parts).toString();
  },
  async DecompressionStream(chunks) {
    return new Response(ReadableStream.from(chunks).pipeThrough(new DecompressionStream("gzip"))).text();
  },
};

const { version } = createRequire(import.meta.url)("pako/package.json");
console.log("pako", version, "- members end at", first.length, "and", stream.length);
assert.strictEqual(Buffer.from(pako.ungzip(stream)).toString(), whole);
for (const [name, read] of Object.entries(readers)) {
  const short = [];
  for (let cut = 1; cut < stream.length; cut++) {
    const got = await read([stream.subarray(0, cut), stream.subarray(cut)]);
    if (got !== whole) short.push({ cut, got });
  }
  console.log(name, "misses something if cut at:", short.length ? JSON.stringify(short) : "none");
  assert.deepStrictEqual(short, name === "pako" ? [{ cut: first.length, got: "line one\n".repeat(3) }] : []);
}
console.log("as described");
JAVASCRIPT
node show.mjs
