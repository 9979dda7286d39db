// The shared library by koffi: handles, bytes, numbers and texts, no structure and no callback.

import { fileURLToPath } from "node:url";
import koffi from "koffi";

// From audit_logger.h.
export const OK = 0;
export const TIMEOUT = -8;
const DONE = 3;
const [CONTENT, JSON_TEXT] = [1, 2];
const TEXTS = {
  entry: 3, entryId: 4, errorType: 5, errorMessage: 6, finishReason: 7, model: 8, provider: 9,
  generationId: 10, providerErrorType: 11,
};
const NUMBERS = {
  httpStatus: 101, outcome: 102, promptTokens: 103, completionTokens: 104, retryAfterMs: 105, attempts: 106,
};
const [STATUS, EVENT, TAG] = [107, 108, 109];
const OUTCOMES = ["AUDIT_OUTCOME_NOT_SENT", "AUDIT_OUTCOME_ANSWERED", "AUDIT_OUTCOME_UNKNOWN"];

function path() {
  const libc = process.report.getReport().header.glibcVersionRuntime === undefined ? "musl" : "gnu";
  return fileURLToPath(new URL(`lib/linux-${process.arch}-${libc}.so`, import.meta.url));
}

const library = koffi.load(process.env.AUDIT_LOGGER_LIBRARY ?? path());
const status = (name, ...parameters) =>
  library.func(name, "int32_t", [...parameters, koffi.out("void **")]);
const made = koffi.out("void **");

export const functions = {
  open: status("audit_logger_new", "str", made),
  flush: status("audit_logger_flush_with", "void *", "int64_t", "str"),
  close: status("audit_logger_close", "void *", "int64_t"),
  stats: status("audit_logger_stats", "void *"),
  hash: status("audit_logger_hash", "void *", "void *", "size_t"),
  free: library.func("audit_logger_free", "void", ["void *"]),
  log: status("audit_record_json", "void *", "void *", "size_t"),
  begin: status("audit_record_begin_json", "void *", "void *", "size_t", made),
  finish: status("audit_record_finish_json", "void *", "void *", "size_t"),
  queueNew: status("audit_queue_new", "void *", "str", made),
  submit: status("audit_queue_submit", "void *", "void *", "size_t", "uint64_t"),
  next: status("audit_queue_next", "void *", "int64_t"),
  cancel: status("audit_queue_cancel", "void *", "uint64_t"),
  queueFree: library.func("audit_queue_free", "void", ["void *"]),
};
const statusName = library.func("audit_status_name", "str", ["int32_t"]);
const replyText = library.func("audit_reply_text", "void *", ["void *", "int32_t", koffi.out("size_t *")]);
const replyInt = library.func("audit_reply_int", "int64_t", ["void *", "int32_t"]);
const replyFree = library.func("audit_reply_free", "void", ["void *"]);

function text(reply, field) {
  const length = [0];
  const at = replyText(reply, field, length);
  if (at === null) return null;
  return length[0] === 0 ? "" : Buffer.from(koffi.view(at, length[0])).toString();
}

function number(reply, field) {
  const value = replyInt(reply, field);
  return value < 0 ? null : value;
}

/** The fields of a reply, copied; a plain object, which can be posted to another thread. */
function read(code, reply) {
  const fields = { status: statusName(code), content: text(reply, CONTENT), json: text(reply, JSON_TEXT) };
  for (const [name, field] of Object.entries(TEXTS)) fields[name] = text(reply, field);
  for (const [name, field] of Object.entries(NUMBERS)) fields[name] = number(reply, field);
  fields.outcome = OUTCOMES[fields.outcome] ?? null;
  return fields;
}

/** Calls a function that takes a reply last, and returns the reply's fields. */
export function call(f, ...args) {
  const reply = [null];
  try {
    return read(f(...args, reply), reply[0]);
  } finally {
    replyFree(reply[0]);
  }
}

/** The same of one whose success says nothing, and which is called often: null then. */
export function failure(f, ...args) {
  const reply = [null];
  const code = f(...args, reply);
  try {
    return code === OK ? null : read(code, reply[0]);
  } finally {
    replyFree(reply[0]);
  }
}

/** The same of one that blocks, on a thread of libuv's. */
export function callLater(f, ...args) {
  const reply = [null];
  return new Promise((resolve, reject) => {
    f.async(...args, reply, (error, code) => {
      if (error) return reject(error);
      const fields = read(code, reply[0]);
      replyFree(reply[0]);
      resolve(fields);
    });
  });
}

/** The next event of a queue, as [tag, what came] or [tag, null, fields of a call that is over]; or a status. */
export function take(queue, timeoutMs) {
  const reply = [null];
  try {
    const code = functions.next(queue, timeoutMs, reply);
    if (code !== OK) return code;
    const tag = replyInt(reply[0], TAG);
    if (replyInt(reply[0], EVENT) !== DONE) return [tag, text(reply[0], CONTENT)];
    return [tag, null, read(replyInt(reply[0], STATUS), reply[0])];
  } finally {
    replyFree(reply[0]);
  }
}
