// LLM calls that each leave exactly one entry in an append-only audit log. index.d.ts has the manual.

import { Worker } from "node:worker_threads";
import { call, callLater, failure, functions as library } from "./library.js";

/** As many calls of one client run at once; the others wait in order. */
const RUNNING = 1000;

export class Reply {
  constructor(fields) {
    Object.assign(this, fields);
  }

  get response() {
    return this.json === null ? null : JSON.parse(this.json);
  }
}

export class AuditError extends Error {
  constructor(reply, reason) {
    super(reply.errorMessage, reason === undefined ? undefined : { cause: reason });
    this.name = reason?.name ?? reply.errorType;
    this.status = reply.status;
    this.errorType = reply.errorType;
    this.reply = reply;
  }
}

/** A success whose entry has to wait is one: asking again would pay twice. */
function checked(fields, reason) {
  const reply = new Reply(fields);
  const { status, errorType } = reply;
  if (status === "AUDIT_OK" || (status === "AUDIT_E_LOG_PENDING" && errorType === status)) return reply;
  throw new AuditError(reply, reason);
}

const bytes = (value) => {
  const text = Buffer.from(JSON.stringify(value) ?? "");
  return [text, text.length];
};

class Call {
  events = [];
  over = false;
  wake = () => {};

  constructor(tag, signal) {
    this.tag = tag;
    this.signal = signal;
    this.done = new Promise((resolve) => (this.end = resolve));
  }
}

/** One listener for each signal, however many calls it ends. */
const aborts = new WeakMap();

function onAbort(signal, act) {
  let acts = aborts.get(signal);
  if (acts === undefined) {
    aborts.set(signal, (acts = new Set()));
    signal.addEventListener("abort", () => acts.forEach((act) => act()), { once: true });
  }
  acts.add(act);
  return () => acts.delete(act);
}

/** What a client's calls are made with; it knows nothing of the client, which may be dropped. */
class Queue {
  #handle;
  #running = new Int32Array(new SharedArrayBuffer(4));
  #calls = new Map();
  #last = 0;
  #worker;

  constructor(logger) {
    const handle = [null];
    checked(call(library.queueNew, logger, JSON.stringify({ running: RUNNING }), handle));
    this.#handle = handle[0];
  }

  #start() {
    this.#worker = new Worker(new URL("./poller.js", import.meta.url), {
      workerData: { queue: this.#handle, running: this.#running },
      execArgv: [],
    });
    this.#worker.on("message", (events) => {
      for (const [tag, text, fields] of events) {
        const of = this.#calls.get(tag);
        if (text === null) this.#end(of, fields);
        else of.events.push(text);
        of.wake();
      }
    });
  }

  #end(of, fields) {
    of.over = true;
    of.forget?.();
    this.#calls.delete(of.tag);
    // The process isn't kept for calls that nobody makes.
    if (this.#calls.size === 0) this.#worker.unref();
    of.end(fields);
  }

  submit(request, signal) {
    const of = new Call(++this.#last, signal);
    if (signal?.aborted) {
      throw new AuditError(
        new Reply({ status: "AUDIT_E_CANCELLED", errorType: "AUDIT_E_CANCELLED", errorMessage: "aborted before it began", entry: null }),
        signal.reason,
      );
    }
    const failed = failure(library.submit, this.#handle, ...bytes(request), of.tag);
    if (failed !== null) throw new AuditError(new Reply(failed));
    this.#calls.set(of.tag, of);
    if (signal !== undefined) of.forget = onAbort(signal, () => this.cancel(of));
    if (this.#worker === undefined) this.#start();
    this.#worker.ref();
    Atomics.add(this.#running, 0, 1);
    Atomics.notify(this.#running, 0);
    return of;
  }

  cancel(of) {
    if (!of.over) call(library.cancel, this.#handle, of.tag);
  }

  /** Ends its calls, each with its entry, and its thread. */
  free() {
    library.queueFree(this.#handle);
    Atomics.store(this.#running, 0, -1);
    Atomics.notify(this.#running, 0);
  }
}

export class ChatStream {
  #queue;
  #call;
  #read;

  constructor(queue, of, read) {
    this.#queue = queue;
    this.#call = of;
    this.#read = read;
  }

  get answer() {
    return this.#call.done.then((fields) => checked(fields, this.#call.signal?.reason));
  }

  async cancel() {
    this.#queue.cancel(this.#call);
    return new Reply(await this.#call.done);
  }

  async *[Symbol.asyncIterator]() {
    const of = this.#call;
    try {
      for (;;) {
        while (of.events.length > 0) yield this.#read(of.events.shift());
        if (of.over) break;
        await new Promise((resolve) => (of.wake = resolve));
      }
      await this.answer;
    } finally {
      await this.cancel();
    }
  }
}

export class Pending {
  #handle;

  constructor(handle) {
    this.#handle = handle;
  }

  finish(record) {
    return checked(call(library.finish, this.#handle, ...bytes(record)));
  }
}

const queues = new Set();
// Node would wait for a poller's thread, and so for the calls.
process.on("exit", () => queues.forEach((queue) => queue.free()));

function free({ handle, queue }) {
  queues.delete(queue);
  queue.free();
  library.free(handle);
}
const dropped = new FinalizationRegistry(free);

export class Client {
  #handle;
  #queue;

  constructor(config = {}) {
    const handle = [null];
    this.opened = checked(call(library.open, JSON.stringify(config), handle)).response;
    this.#handle = handle[0];
    this.#queue = new Queue(this.#handle);
    queues.add(this.#queue);
    dropped.register(this, { handle: this.#handle, queue: this.#queue });
  }

  get path() {
    return this.opened.path;
  }

  async chat(request, { signal } = {}) {
    const of = this.#queue.submit({ ...request, stream: false }, signal);
    return checked(await of.done, signal?.reason);
  }

  stream(request, { signal } = {}) {
    return new ChatStream(this.#queue, this.#queue.submit({ ...request, stream: true }, signal), (text) => text);
  }

  chunks(request, { signal } = {}) {
    return new ChatStream(this.#queue, this.#queue.submit({ ...request, stream: "chunks" }, signal), JSON.parse);
  }

  begin(record) {
    const handle = [null];
    checked(call(library.begin, this.#handle, ...bytes(record), handle));
    return new Pending(handle[0]);
  }

  log(record) {
    return checked(call(library.log, this.#handle, ...bytes(record)));
  }

  hash(text) {
    const data = Buffer.from(text);
    return checked(call(library.hash, this.#handle, data, data.length)).content;
  }

  stats() {
    return checked(call(library.stats, this.#handle)).response;
  }

  async flush(timeoutMs = -1, { witnessed = false } = {}) {
    checked(await callLater(library.flush, this.#handle, timeoutMs, JSON.stringify({ witnessed })));
  }

  async close(timeoutMs = -1) {
    checked(await callLater(library.close, this.#handle, timeoutMs));
  }
}
