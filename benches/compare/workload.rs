//! What every contender logs or sends, in files that each of them reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

pub struct Workload {
    pub directory: PathBuf,
    pub prompt_bytes: usize,
    pub answer_bytes: usize,
    pub request_bytes: usize,
    /// The body of every response.
    pub response: String,
    /// The same in chunks.
    pub stream: String,
}

/// How many chunks a streamed answer has.
pub const CHUNKS: usize = 2000;

/// As OpenRouter streams: about 310 bytes a chunk.
fn stream(model: &str) -> String {
    let event = |choices: serde_json::Value, usage: serde_json::Value| {
        let chunk = json!({
            "id": "gen-1700000000-0123456789abcdefghij", "provider": "OpenAI", "model": model,
            "object": "chat.completion.chunk", "created": 1_700_000_000, "choices": choices,
            "system_fingerprint": "fp_0123456789", "usage": usage
        });
        format!("data: {chunk}\n\n")
    };
    let choice = |text: &str, finish: Option<&str>| {
        json!([{"index": 0, "delta": {"role": "assistant", "content": text},
            "finish_reason": finish, "native_finish_reason": finish, "logprobs": null}])
    };
    let mut body = event(choice(" word", None), json!(null)).repeat(CHUNKS);
    body += &event(choice("", Some("stop")), json!(null));
    let usage = json!({"prompt_tokens": 512, "completion_tokens": CHUNKS, "total_tokens": 2512});
    body + &event(json!([]), usage) + "data: [DONE]\n\n"
}

/// Prose as it is sent to a model: line ends and quotes among it, ASCII throughout.
const PASSAGE: &str = "Summarise the ticket below for the engineer on call:\n\
    - quote error messages as \"they stand\";\n\
    - name the first cause, then what to try.\n";
const PROMPT_BYTES: usize = 2048;
const ANSWER_BYTES: usize = 1024;

impl Workload {
    pub fn write(directory: &Path) -> io::Result<Workload> {
        let text: String = PASSAGE.chars().cycle().take(PROMPT_BYTES).collect();
        let (prompt, answer) = (text.as_str(), &text[..ANSWER_BYTES]);
        let model = "openai/gpt-4-turbo";
        let request = json!({
            "model": model,
            "messages": [{"role": "user", "content": prompt}]
        });
        // As OpenRouter answers.
        let response = json!({
            "id": "gen-1700000000-0123456789abcdefghij",
            "provider": "OpenAI",
            "model": model,
            "object": "chat.completion",
            "created": 1_700_000_000,
            "choices": [{
                "index": 0,
                "logprobs": null,
                "finish_reason": "stop",
                "native_finish_reason": "stop",
                "message": {
                    "role": "assistant", "content": answer, "refusal": null, "reasoning": null
                }
            }],
            "usage": {
                "prompt_tokens": 512,
                "completion_tokens": 256,
                "total_tokens": 768,
                "cost": 0.01234,
                "is_byok": false,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0}
            }
        });
        let request = request.to_string();
        let metadata = json!({"feature": "summaries", "ticket": 4711}).to_string();

        fs::create_dir_all(directory)?;
        for (name, text) in [
            ("prompt.txt", prompt),
            ("answer.txt", answer),
            ("metadata.json", &metadata),
            ("request.json", &request),
        ] {
            fs::write(directory.join(name), text)?;
        }
        Ok(Workload {
            directory: directory.to_owned(),
            prompt_bytes: prompt.len(),
            answer_bytes: answer.len(),
            request_bytes: request.len(),
            response: response.to_string(),
            stream: stream(model),
        })
    }
}
