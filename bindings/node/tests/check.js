// What the table can't say, of the installed package: check.js SERVER DIRECTORY.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { AuditError, Client } from "audit-logger";

const [, self, server, directory] = process.argv;
const hang = { user_id: "u", prompt: "p", model: "test/hang" };
const endless = { user_id: "u", prompt: "p", model: "test/endless" };
const open = (name) =>
  new Client({ output_path: join(directory, name), base_url: server, api_key: "sk-test", max_retries: 0 });

function entries(name) {
  const log = join(directory, name);
  const files = readdirSync(log).filter((file) => file.endsWith(".jsonl"));
  const lines = files.flatMap((file) => readFileSync(join(log, file), "utf8").split("\n").slice(0, -1));
  return lines.map((line) => JSON.parse(line));
}

/** A part of this file, as a process of its own. */
function child(part, name) {
  const done = spawnSync(process.execPath, [self, server, directory, part, name], { timeout: 60000 });
  assert.equal(done.stderr.toString(), "", part);
  return done;
}

const parts = {
  async exits(name) {
    const client = open(name);
    for await (const piece of client.stream(endless)) {
      client.chat(hang);
      process.exit(7);
    }
  },
  async throws(name) {
    const client = open(name);
    process.on("uncaughtException", () => process.exit(8));
    for await (const piece of client.stream(endless)) throw new Error("of the host's");
  },
  async workers(name) {
    const mine = open(name);
    const worker = new Worker(new URL(import.meta.url), { argv: [server, directory], workerData: name });
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    await worker.terminate();
    assert.equal((await mine.chat({ user_id: "u", prompt: "p" })).content, "You said: p");
    // The call of that worker ends with the process.
  },
  async ends(name) {
    assert.equal((await open(name).chat({ user_id: "u", prompt: "p" })).content, "You said: p");
  },
};

const tests = {
  async "a hundred calls leave libuv's threads alone"() {
    const client = open("pool");
    const [one, stop] = [new AbortController(), new AbortController()];
    const calls = Array.from({ length: 100 }, () => client.chat(hang, stop));
    const first = client.chat(hang, one);
    await sleep(200);
    // What waited for a thread would wait for 30 s.
    const text = await Promise.race([readFile(self), sleep(10000)]);
    assert.ok(text?.length > 0);
    one.abort(new Error("enough"));
    const error = await first.catch((error) => error);
    assert.ok(error instanceof AuditError);
    assert.equal(error.status, "AUDIT_E_CANCELLED");
    assert.equal(error.cause.message, "enough");
    stop.abort();
    const ended = await Promise.allSettled(calls);
    assert.ok(ended.every(({ reason }) => reason.name === "AbortError" && reason.reply.entryId));
    assert.equal(entries("pool").length, 101);
  },

  async "an exception in a loop over a stream comes out of it and cancels the call"() {
    const client = open("throw");
    const mine = new Error("mine");
    const loop = async () => {
      for await (const piece of client.stream(endless)) throw mine;
    };
    await assert.rejects(loop(), mine);
    assert.deepEqual(entries("throw").map((entry) => entry.error_type), ["Cancelled"]);
  },

  async "an aborted signal has nothing sent"() {
    const client = open("aborted");
    await assert.rejects(client.chat(hang, { signal: AbortSignal.abort() }), { name: "AbortError", status: "AUDIT_E_CANCELLED" });
    assert.throws(() => client.stream(hang, { signal: AbortSignal.abort() }), { name: "AbortError" });
    assert.equal(client.stats().written, 0);
  },

  async "a stream that fails and that nobody reads rejects nothing unseen"() {
    const client = open("unread");
    client.stream({ ...endless, model: "test/500" });
    const other = client.stream({ ...endless, model: "test/500" });
    await assert.rejects(other.answer, { name: "InternalServerError" });
    await client.close(5000);
    assert.equal(entries("unread").length, 2);
  },

  async "chunks of tool calls come read"() {
    const client = open("chunks");
    const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];
    const stream = client.chunks({ user_id: "u", prompt: "p", model: "test/tools", params: { tools } });
    const calls = [];
    for await (const chunk of stream) calls.push(...(chunk.choices[0]?.delta.tool_calls ?? []));
    assert.ok(calls.length > 0);
    assert.equal((await stream.answer).response.choices[0].message.tool_calls[0].function.name, "weather");
  },

  async "process.exit during calls is at once, and they have their entries"() {
    assert.equal(child("exits", "exit").status, 7);
    assert.deepEqual(entries("exit").map((entry) => entry.error_type), ["Cancelled", "Cancelled"]);
  },

  async "an exception that nobody catches ends the process and the call"() {
    assert.equal(child("throws", "uncaught").status, 8);
    assert.deepEqual(entries("uncaught").map((entry) => entry.error_type), ["Cancelled"]);
  },

  async "a process with nothing left to do ends by itself"() {
    assert.equal(child("ends", "idle").status, 0);
  },

  async "worker threads have clients of their own, and can be terminated"() {
    assert.equal(child("workers", "workers").status, 0);
    const kinds = entries("workers").map((entry) => entry.error_type);
    assert.deepEqual(kinds, [null, "Cancelled"]);
  },
};

if (!isMainThread) {
  for await (const piece of open(workerData).stream(endless)) parentPort.postMessage([piece]);
} else if (process.argv[4] !== undefined) {
  await parts[process.argv[4]](process.argv[5]);
} else {
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test();
    } catch (error) {
      console.error(`${name}: ${error.stack}`);
      process.exitCode = 1;
    }
  }
}
