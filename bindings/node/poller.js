// The thread that takes a client's events: Node has no way to watch a descriptor, and libuv's pool is for files.

import { parentPort, workerData } from "node:worker_threads";
import { TIMEOUT, take } from "./library.js";

const { queue, running } = workerData;
// Node ends a thread between two lines of JavaScript alone: so long it may wait for that.
const PATIENCE_MS = 100;
const BATCH = 256;

for (let open = true; open; ) {
  // How many calls run. Where none does, it sleeps.
  Atomics.wait(running, 0, 0);
  const events = [];
  for (let wait = PATIENCE_MS; events.length < BATCH; wait = 0) {
    const event = take(queue, wait);
    if (typeof event === "number") {
      open = event === TIMEOUT;
      break;
    }
    if (event[1] === null) Atomics.sub(running, 0, 1);
    events.push(event);
  }
  if (events.length > 0) parentPort.postMessage(events);
}
