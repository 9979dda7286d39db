//! A chat call from end to end: what is sent, what is answered, what is logged.

mod support;

use serde_json::json;

use audit_logger::ffi::*;
use support::calls::{Logger, chat_request, text};
use support::server::{Server, completion, response};
use support::{Scratch, entries};

fn logger(server: &Server, scratch: &Scratch) -> Logger {
    Logger::new(&json!({
        "output_path": scratch.join("log"),
        "base_url": server.base_url(),
        "api_key": "sk-test-key",
    }))
}

#[test]
fn a_call_is_answered_and_leaves_its_entry() {
    let server = Server::always(response(
        200,
        &[("x-generation-id", "gen-2")],
        completion("hi").as_bytes(),
    ));
    let scratch = Scratch::new();
    let logger = logger(&server, &scratch);

    let answer = logger
        .chat(&AuditChatRequest {
            user_id: text("user-1"),
            prompt: text("hello"),
            metadata: text(r#"{"team": "core"}"#),
            params: text(r#"{"temperature": 0.2}"#),
            ..chat_request()
        })
        .expect(AUDIT_OK);
    assert_eq!(answer.text(AUDIT_REPLY_CONTENT), Some("hi"));
    assert_eq!(answer.text(AUDIT_REPLY_FINISH_REASON), Some("stop"));
    assert_eq!(answer.text(AUDIT_REPLY_MODEL), Some("openai/gpt-4-turbo"));
    assert_eq!(answer.text(AUDIT_REPLY_PROVIDER), Some("Loopback"));
    assert_eq!(answer.int(AUDIT_REPLY_PROMPT_TOKENS), 5);
    assert_eq!(answer.int(AUDIT_REPLY_COMPLETION_TOKENS), 7);
    assert_eq!(answer.int(AUDIT_REPLY_HTTP_STATUS), 200);
    assert_eq!(
        answer.int(AUDIT_REPLY_OUTCOME),
        i64::from(AUDIT_OUTCOME_ANSWERED)
    );
    assert_eq!(answer.int(AUDIT_REPLY_ATTEMPTS), 1);
    assert_eq!(answer.int(AUDIT_REPLY_RETRY_AFTER_MS), -1);
    assert_eq!((answer.error_type(), answer.message()), ("", ""));

    let request = &server.requests()[0];
    assert_eq!(request.path, "/api/v1/chat/completions");
    assert_eq!(request.header("authorization"), Some("Bearer sk-test-key"));
    assert_eq!(
        request.json(),
        json!({
            "model": "openai/gpt-4-turbo",
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0.2
        })
    );

    let logged = entries(&scratch.join("log"));
    assert_eq!(logged, [answer.entry()]);
    let entry = &logged[0];
    assert_eq!(entry["id"], answer.text(AUDIT_REPLY_ENTRY_ID).unwrap());
    assert_eq!(entry["metadata"], json!({"team": "core"}));
    assert_eq!(entry["details"]["generation_id"], "gen-2");
    assert_eq!(entry["details"]["cost"], 0.00014);
    assert_eq!(entry["details"]["attempts"], json!([{"http_status": 200}]));
    assert_eq!(
        entry["prompt_hash"],
        logger.hash(b"hello").text(AUDIT_REPLY_CONTENT).unwrap()
    );
}
