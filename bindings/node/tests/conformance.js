// The runner of the conformance table (conformance/README.md): conformance.js CASES SERVER DIRECTORY.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { AuditError, Client } from "audit-logger";

const [, , cases, server, directory] = process.argv;
const PATTERNS = {
  $text: /^.+$/s,
  $uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  $hash: /^[0-9a-f]{64}$/,
  $timestamp: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/,
};
const NAMES = {
  finish_reason: "finishReason", generation_id: "generationId", provider_error_type: "providerErrorType",
  http_status: "httpStatus", prompt_tokens: "promptTokens", completion_tokens: "completionTokens",
  retry_after_ms: "retryAfterMs",
};

class Skipped extends Error {}

function matches(wanted, came) {
  if (wanted === "$any") return true;
  if (wanted === "$absent") return came === undefined;
  if (wanted === "$number") return typeof came === "number" && came >= 0;
  if (typeof wanted === "string" && wanted in PATTERNS) return typeof came === "string" && PATTERNS[wanted].test(came);
  if (Array.isArray(wanted)) {
    return Array.isArray(came) && came.length === wanted.length && wanted.every((item, at) => matches(item, came[at]));
  }
  if (wanted !== null && typeof wanted === "object") {
    if (came === null || typeof came !== "object" || Array.isArray(came)) return false;
    return Object.entries(wanted).every(([name, value]) => matches(value, came[name]));
  }
  return wanted === came;
}

function filled(value, texts) {
  if (Array.isArray(value)) return value.map((item) => filled(item, texts));
  if (value !== null && typeof value === "object") {
    if (isDeepStrictEqual(Object.keys(value), ["$text"])) {
      const parts = value.$text;
      return parts.map((text, at) => (at % 2 === 0 ? text.repeat(parts[at + 1]) : "")).join("");
    }
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, filled(item, texts)]));
  }
  if (typeof value !== "string") return value;
  return Object.entries(texts).reduce((text, [name, by]) => text.replaceAll(name, by), value);
}

/** What a step came to: a reply, whether it was thrown or returned, and the pieces of a stream. */
async function outcome(act) {
  const came = { reply: { status: "AUDIT_OK", errorType: "", errorMessage: "", entry: null }, pieces: [] };
  try {
    const made = await act(came);
    if (made !== undefined) Object.assign(came, made);
  } catch (error) {
    if (!(error instanceof AuditError)) throw error;
    if (error.name !== error.errorType && error.cause === undefined) throw error;
    came.reply = error.reply;
  }
  return came;
}

function chat(client, request, { signal, stopAfter } = {}) {
  return outcome(async (came) => {
    const { stream, ...rest } = request;
    if (!stream) return { reply: await client.chat(rest, { signal }) };
    const made = stream === true ? client.stream(rest, { signal }) : client.chunks(rest, { signal });
    came.deltas = stream === true;
    for await (const piece of made) {
      came.pieces.push(piece);
      if (came.pieces.length === stopAfter) {
        return { reply: await made.cancel() };
      }
    }
    return { reply: await made.answer };
  });
}

function check(expect, came) {
  const { reply } = came;
  const checks = {
    status: (wanted) => reply.status === wanted,
    error_type: (wanted) => reply.errorType === wanted,
    message: (wanted) => reply.errorMessage.includes(wanted),
    text: (wanted) => (came.text ?? reply.content) === wanted,
    text_json: (wanted) => matches(wanted, JSON.parse(reply.content)),
    json: (wanted) => matches(wanted, came.json ?? JSON.parse(reply.json)),
    reply: (wanted) => Object.entries(wanted).every(([name, value]) => matches(value, reply[NAMES[name] ?? name])),
    entry: (wanted) => matches(wanted, reply.entry == null ? null : JSON.parse(reply.entry)),
    line: (wanted) => reply.entry.includes(wanted),
    // It gives one or the other.
    deltas: (wanted) => came.deltas === false || matches(wanted, came.pieces),
    chunks: (wanted) => matches(wanted, came.pieces),
  };
  for (const [name, wanted] of Object.entries(expect)) {
    if (!checks[name](wanted)) {
      throw new Error(`${name}: ${JSON.stringify(wanted)} was expected, and this came: ${JSON.stringify(came)}`);
    }
  }
}

async function run(one) {
  const log = join(directory, one.name.replace("/", "-"));
  const texts = { $SERVER: server, $LOG: log, $CASE: one.name };
  const config = { output_path: "$LOG", base_url: "$SERVER", api_key: "sk-test", max_retries: 0, ...one.config };
  let client;
  const opened = await outcome(() => {
    client = new Client(filled(config, texts));
    return { json: client.opened };
  });
  check(filled(one.open ?? { status: "AUDIT_OK" }, texts), opened);
  const [calls, pending, held] = [{}, {}, []];
  let closed = false;

  const steps = {
    chat: (step) => chat(client, filled(step.request, texts), { stopAfter: step.stop_after }),
    start(step) {
      const controller = new AbortController();
      calls[step.as] = { controller, came: chat(client, filled(step.request, texts), controller) };
    },
    cancel: (step) => calls[step.as].controller.abort(),
    await: (step) => calls[step.as].came,
    sleep: (step) => sleep(step.ms),
    log: (step) => outcome(() => ({ reply: client.log(filled(step.record, texts)) })),
    begin: (step) => outcome(() => void (pending[step.as] = client.begin(filled(step.record, texts)))),
    finish: (step) => outcome(() => ({ reply: pending[step.as].finish(filled(step.record, texts)) })),
    flush: (step) => outcome(() => client.flush(step.timeout_ms, { witnessed: step.witnessed })),
    stats: () => outcome(() => ({ json: client.stats() })),
    hash: (step) => outcome(() => ({ text: client.hash(filled(step.text, texts)) })),
    close(step) {
      closed = true;
      return outcome(() => client.close(step.timeout_ms));
    },
  };
  const checkStep = (step, came, more) => {
    if (came === undefined) return;
    if (came.reply.entry != null) held.push(came.reply.entry);
    check(filled(step.expect ?? {}, { ...texts, ...more }), came);
  };
  for (const step of one.steps ?? []) {
    if (step.request_text !== undefined) throw new Skipped("the package makes the JSON of a request itself");
    if (step.do === "together") {
      const numbers = Array.from({ length: step.count }, (_, number) => ({ $N: String(number) }));
      const all = numbers.map((number) => chat(client, filled(step.request, { ...texts, ...number })));
      for (const [at, came] of (await Promise.all(all)).entries()) checkStep(step, came, numbers[at]);
    } else {
      checkStep(step, await steps[step.do](step));
    }
  }
  if (client !== undefined && !closed) await client.close(30000);

  let lines = [];
  try {
    const files = readdirSync(log).filter((name) => /^audit_.*\.jsonl$/.test(name));
    lines = files.flatMap((name) => readFileSync(join(log, name), "utf8").split("\n").slice(0, -1));
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  if (lines.length !== one.entries) throw new Error(`entries: ${one.entries} were expected, and these came: ${lines}`);
  const missing = held.filter((entry) => !lines.includes(entry));
  if (missing.length > 0) throw new Error(`not in the log: ${missing}`);
}

for (const one of JSON.parse(readFileSync(cases, "utf8"))) {
  const line = { case: one.name, result: "pass", reason: "" };
  try {
    await run(one);
  } catch (error) {
    line.result = error instanceof Skipped ? "skip" : "fail";
    line.reason = error instanceof Skipped ? error.message : String(error.stack);
    if (line.result === "fail") process.exitCode = 1;
  }
  console.log(JSON.stringify(line));
}
