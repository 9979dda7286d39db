// An audited chat call: make a client, ask, print the answer, show the entry in today's log; then the same as a
// stream, and one that is cancelled.
//
//   OPENROUTER_API_KEY=... node chat.js "Why is the sky blue?"
//
// Without a key, try it on the server of the project's examples; AUDIT_BASE_URL says where it listens.

import { AuditError, Client } from "audit-logger";

async function main() {
  // 1. Make a client: one for the whole process.
  const base_url = process.env.AUDIT_BASE_URL ?? "https://openrouter.ai/api/v1";
  const client = new Client({ output_path: "audit_logs", base_url });
  console.log("log:", client.path);

  // 2. Ask. Nothing is sent unless the log can take the entry.
  const request = {
    user_id: "user-42",
    prompt: process.argv[2] ?? "Say hello in one sentence.",
    metadata: { feature: "example", ticket: 7 },
    params: { max_tokens: 200 },
  };
  const answer = await client.chat(request);

  // 3. The answer, and the line that now stands in today's log.
  console.log("answer:", answer.content);
  console.log("tokens:", answer.promptTokens, "+", answer.completionTokens);
  console.log("entry:", answer.entry);

  // 4. The same in pieces, as they come.
  process.stdout.write("stream: ");
  for await (const piece of client.stream(request)) process.stdout.write(piece);
  console.log();

  // 5. Leaving a stream cancels its call.
  for await (const piece of client.stream(request)) {
    console.log("cancelled after:", piece);
    break;
  }

  // 6. Wait up to five seconds for other calls, and have the disk confirm the log.
  await client.close(5000);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof AuditError)) throw error;
  // A failed call has its entry too: error.reply.entry.
  console.error(`${error.status}: ${error.errorType}: ${error.message}`);
  process.exitCode = 1;
}
