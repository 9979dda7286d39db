// What the types promise, compiled and not run.

import { AuditError, Client, type ChatStream, type Reply } from "audit-logger";

export async function ask(): Promise<string | null> {
  const client = new Client({ output_path: "audit_logs", durability: "disk" });
  const stream: ChatStream<string> = client.stream({ user_id: "u", prompt: "p" }, { signal: AbortSignal.timeout(1) });
  for await (const piece of stream) piece.toUpperCase();
  const reply: Reply = await client.chat({ user_id: "u", params: { messages: [{ role: "user", content: "p" }] } });
  // @ts-expect-error: a user is required.
  await client.chat({ prompt: "p" });
  // @ts-expect-error: a status is one of two.
  client.begin({ user_id: "u", model: "m", prompt: "p" }).finish({ status: "fine" });
  try {
    client.log({ user_id: "u", model: "m", prompt: "p", status: "success" });
  } catch (error) {
    if (error instanceof AuditError) return error.reply.entry;
  }
  return reply.content;
}
