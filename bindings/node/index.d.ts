/** One of JSON's values. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json | undefined };
export type JsonObject = { [name: string]: Json | undefined };

/** The keys of docs/configuration.md. */
export interface Config {
  output_path?: string;
  base_url?: string;
  /** Without it, the key is OPENROUTER_API_KEY of the environment. */
  api_key?: string | null;
  model?: string;
  timeout_ms?: number;
  max_retries?: number;
  [key: string]: unknown;
}

/** A chat call, as schema/request.json has it. */
export interface Request {
  /** On whose behalf. */
  user_id: string;
  /** The user's message; absent if params has messages. */
  prompt?: string;
  system?: string;
  model?: string;
  /** For the entry alone. */
  metadata?: JsonObject;
  /** For the provider: messages, temperature, tools, ... */
  params?: JsonObject;
  /** For this call alone: timeout_ms, max_retries, headers, api_key, ... */
  options?: JsonObject;
}

/** A call made elsewhere, as schema/record.json has it. */
export interface Beginning {
  event_type?: string;
  user_id: string;
  model: string;
  prompt: string;
  metadata?: JsonObject;
}

export interface Ending {
  response?: string;
  prompt_tokens?: number;
  completion_tokens?: number;
  /** Of finish: absent for the time since begin. */
  latency_ms?: number;
  status: "success" | "error";
  error_type?: string;
  metadata?: JsonObject;
}

export interface Options {
  /** Ends the call when it aborts, within 100 ms. The call has its entry; who waits gets an AuditError whose
   * name and cause are the reason's. */
  signal?: AbortSignal;
}

/** What the library said of a call. */
export class Reply {
  /** "AUDIT_OK", or "AUDIT_E_LOG_PENDING" of a success whose entry follows by itself: don't ask again. */
  readonly status: string;
  /** The answer, or the part of it that came. */
  readonly content: string | null;
  /** The response as it came, and read: of a stream, the chat.completion that its chunks add up to. */
  readonly json: string | null;
  readonly response: any;
  /** The entry, as its line stands in the log, and its id. */
  readonly entry: string | null;
  readonly entryId: string | null;
  /** "" of a success. */
  readonly errorType: string;
  readonly errorMessage: string;
  readonly finishReason: string | null;
  readonly model: string | null;
  readonly provider: string | null;
  readonly generationId: string | null;
  readonly providerErrorType: string | null;
  readonly httpStatus: number | null;
  /** How far the call came. */
  readonly outcome: "AUDIT_OUTCOME_NOT_SENT" | "AUDIT_OUTCOME_ANSWERED" | "AUDIT_OUTCOME_UNKNOWN" | null;
  readonly promptTokens: number | null;
  readonly completionTokens: number | null;
  readonly retryAfterMs: number | null;
  readonly attempts: number | null;
}

/** Whatever failed. name is errorType: of a call the class that the openai package has ("RateLimitError"), of
 * everything else the status ("AUDIT_E_LOG": nothing was sent, trying again is safe). */
export class AuditError extends Error {
  readonly status: string;
  readonly errorType: string;
  /** What came nevertheless: the entry, the part of an answer. */
  readonly reply: Reply;
}

/** The answer as it comes. Leaving the loop cancels the call, and waits for its entry. What wasn't read yet is
 * kept, at most max_response_bytes of it. */
export class ChatStream<Piece> implements AsyncIterable<Piece> {
  [Symbol.asyncIterator](): AsyncGenerator<Piece, void, void>;
  /** The whole, once the call is over; rejects if it failed. */
  readonly answer: Promise<Reply>;
  /** Ends the call, unless it's over; what it came to. */
  cancel(): Promise<Reply>;
}

/** A call that the program makes itself. If the process dies before finish, it has an entry all the same. */
export class Pending {
  finish(record: Ending): Reply;
}

/** Makes calls, each with its entry. One for the whole process is enough; a worker thread makes its own. */
export class Client {
  constructor(config?: Config);
  /** The log's directory, and what opening it reported. */
  readonly path: string;
  readonly opened: { path: string; recovered: number; torn: number; warnings: string[] };
  chat(request: Request, options?: Options): Promise<Reply>;
  /** The text in pieces. Throws at once if nothing was submitted. */
  stream(request: Request, options?: Options): ChatStream<string>;
  /** The server's chunks, read: tool calls, reasoning, usage. */
  chunks(request: Request, options?: Options): ChatStream<any>;
  /** Writes down that a call is about to be made. If it throws, don't make it. */
  begin(record: Beginning): Pending;
  /** Logs a call that is over. */
  log(record: Beginning & Ending): Reply;
  /** What the log shows for a text. */
  hash(text: string): string;
  /** The log's health, as audit_logger_stats reports it. */
  stats(): any;
  /** Has the disk confirm the log. With `witnessed` it waits until the log's witnesses have signed it too; the
   * AuditError's status is "AUDIT_E_WITNESS" if they haven't in time. */
  flush(timeoutMs?: number, options?: { witnessed?: boolean }): Promise<void>;
  /** Waits so long for running calls, cancels those that are left, and has the disk confirm the log. */
  close(timeoutMs?: number): Promise<void>;
}
