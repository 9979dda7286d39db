// 1,000 streams of 5 s and 1,000 calls of 3 s at once, with files read beside them: bench.js SERVER DIRECTORY.
//
// The server is `cargo run --release -p example-server`; both want `ulimit -n 8192`. Prints how long they took
// together, how long reading a file ever took meanwhile, and the processor's time.

import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "audit-logger";

const [, self, server, directory] = process.argv;
const CALLS = 1000;
// A word every 100 ms; the server's echo has two of its own.
const prompt = Array(48).fill("word").join(" ");

async function measured(what, call) {
  const client = new Client({ output_path: directory, base_url: server, api_key: "sk-test" });
  const [began, used] = [performance.now(), process.cpuUsage()];
  let [open, worst, reads, total] = [true, 0, 0, 0];
  const reading = (async () => {
    while (open) {
      const before = performance.now();
      await readFile(self);
      const took = performance.now() - before;
      [worst, reads, total] = [Math.max(worst, took), reads + 1, total + took];
      await sleep(10);
    }
  })();
  await Promise.all(Array.from({ length: CALLS }, () => call(client)));
  const took = performance.now() - began;
  open = false;
  await reading;
  const { user, system } = process.cpuUsage(used);
  console.log(
    `${CALLS} ${what}: ${(took / 1000).toFixed(2)} s, ${((user + system) / 1e6).toFixed(2)} s of the processor's, ` +
      `reading a file ${(total / reads).toFixed(1)} ms on average, ${worst.toFixed(1)} ms at most`,
  );
  await client.close();
}

await measured("streams of 5 s", async (client) => {
  for await (const piece of client.stream({ user_id: "bench", prompt }));
});
await measured("calls of 3 s", (client) => client.chat({ user_id: "bench", prompt: "p", model: "test/slow" }));
