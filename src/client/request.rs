//! What a call sends, made from what the host passed, and checked before anything happens.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::config::{CallOptions, Config};
use crate::error::Error;
use crate::format::entry::{Details, Name};
use crate::hash::{ContentHash, Hashing};
use crate::json::{self, Object};
use crate::logger;

/// A chat call as the host asks for it.
#[derive(Debug, Default, Clone, Copy)]
pub struct ChatRequest<'a> {
    /// On whose behalf.
    pub user_id: &'a str,
    /// The user's message.
    pub prompt: Option<&'a str>,
    /// A system message before it.
    pub system: Option<&'a str>,
    /// `None` is the configured model.
    pub model: Option<&'a str>,
    /// JSON object for the entry.
    pub metadata: Option<&'a str>,
    /// JSON object of further parameters of the request.
    pub params: Option<&'a str>,
    /// JSON object of this call's limits, headers and key.
    pub options: Option<&'a str>,
}

/// A checked call, ready to be sent.
#[derive(Debug)]
pub struct Prepared<'a> {
    pub user_id: Cow<'a, str>,
    pub model: Cow<'a, str>,
    /// Whether the answer is to come in pieces.
    pub stream: bool,
    pub body: Vec<u8>,
    pub prompt_hash: ContentHash,
    request_hash: ContentHash,
    /// What the hash covers.
    prompt_form: &'static str,
    pub metadata: Option<String>,
    pub options: CallOptions,
    session_id: Option<Arc<str>>,
}

impl<'a> Prepared<'a> {
    /// What the entry's details hold before the call is made.
    pub fn details(&self) -> Details<'static> {
        let trace = self.options.trace();
        Details {
            trace_id: trace.and_then(|(trace, _)| trace.as_bytes().try_into().ok()),
            span_id: trace.and_then(|(_, span)| span.as_bytes().try_into().ok()),
            session_id: self.session_id.clone(),
            stream: Some(self.stream),
            prompt_form: Some(self.prompt_form),
            request_hash: Some(self.request_hash),
            ..Details::default()
        }
    }

    /// Until when it may take, if its time counts from then on.
    pub fn deadline(&self, from: Instant) -> Instant {
        // Never beyond what an Instant can hold: the configuration bounds it to a day.
        from + self.options.timeout
    }

    /// The same, of texts of its own.
    pub fn into_owned(self) -> Prepared<'static> {
        Prepared {
            user_id: Cow::Owned(self.user_id.into_owned()),
            model: Cow::Owned(self.model.into_owned()),
            stream: self.stream,
            body: self.body,
            prompt_hash: self.prompt_hash,
            request_hash: self.request_hash,
            prompt_form: self.prompt_form,
            metadata: self.metadata,
            options: self.options,
            session_id: self.session_id,
        }
    }

    /// `stream` asks for the answer in pieces.
    pub fn new(
        request: &ChatRequest<'a>,
        stream: bool,
        config: &'a Config,
    ) -> Result<Prepared<'a>, Error> {
        let hashing = &config.hashing;
        let model = request.model.unwrap_or(&config.model);
        if model.is_empty() {
            return Err(Error::argument(
                "model is empty; leave it absent for the configured one",
            ));
        }
        let metadata = request.metadata;
        let metadata = metadata.map(|text| logger::metadata(text, config.metadata_numbers));
        let metadata = metadata.transpose()?;
        let options = config.call.with(request.options.unwrap_or("{}"))?;
        if options.api_key.is_some() && options.has_credentials() {
            return Err(Error::argument(
                "options: \"api_key\" is set beside a header with credentials (authorization, \
                 api-key or x-api-key); set one of them",
            ));
        }
        let params = json::members(request.params.unwrap_or("{}"))
            .map_err(|error| Error::argument(format!("params: {error}")))?;
        for (key, _) in &params {
            let instead = match key.as_str() {
                "model" => "set the request's model instead",
                "stream" => "it follows from the callbacks",
                _ => continue,
            };
            return Err(Error::argument(format!(
                "params: \"{key}\" can't be set here; {instead}"
            )));
        }
        let messages = params
            .iter()
            .find(|(key, _)| key == "messages")
            .map(|(_, value)| value);

        let mut body = Vec::new();
        let mut to = Object::begin(&mut body);
        to.text("model", model);
        let (prompt_hash, prompt_form) = match (messages, request.prompt) {
            (Some(_), _) if request.prompt.is_some() || request.system.is_some() => {
                return Err(Error::argument(
                    "params: \"messages\" stands in place of prompt and system; leave those absent",
                ));
            }
            (Some(messages), _) => (messages_hash(hashing, messages)?, "messages"),
            (None, Some(prompt)) => {
                let list = to.key("messages");
                list.push(b'[');
                if let Some(system) = request.system {
                    message(list, "system", system);
                    list.push(b',');
                }
                message(list, "user", prompt);
                list.push(b']');
                (hashing.of(prompt.as_bytes()), "text")
            }
            (None, None) => {
                return Err(Error::argument(
                    "prompt is absent, and params hold no \"messages\"",
                ));
            }
        };
        for (key, value) in &params {
            // Strict servers refuse what they don't know, so null leaves it out.
            if !(stream && key == "stream_options" && value == "null") {
                to.member(key, value);
            }
        }
        if stream {
            to.json("stream", true);
            if !params.iter().any(|(key, _)| key == "stream_options") {
                // OpenAI and its likes report no usage otherwise.
                to.json("stream_options", r#"{"include_usage":true}"#);
            }
        }
        to.end();
        // OpenRouter takes it as a parameter too; there it can be anything.
        let in_params = params.iter().find(|(key, _)| key == "session_id");
        let in_params = in_params.and_then(|(_, value)| serde_json::from_str::<String>(value).ok());
        let session_id = options.session_id.clone().or_else(|| {
            let text = in_params?;
            Some(match Name::of(&text, hashing) {
                Name::Plain(_) => text,
                Name::Hash(hash) => hash.to_string(),
            })
        });
        Ok(Prepared {
            session_id: session_id.map(Arc::from),
            user_id: request.user_id.into(),
            model: model.into(),
            stream,
            request_hash: hashing.of(&body),
            body,
            prompt_hash,
            prompt_form,
            metadata,
            options,
        })
    }
}

fn message(out: &mut Vec<u8>, role: &str, content: &str) {
    let mut message = Object::begin(out);
    message.text("role", role);
    message.text("content", content);
    message.end();
}

/// The hash of a list of messages: of its canonical form (RFC 8785), so that it doesn't depend
/// on how a language's JSON writer orders keys or spaces.
fn messages_hash(hashing: &Hashing, messages: &str) -> Result<ContentHash, Error> {
    let refuse = |why: &dyn std::fmt::Display| {
        Err(Error::argument(format!(
            "params: \"messages\" must be an array of messages; {why}"
        )))
    };
    match serde_json::from_str::<Value>(messages) {
        Ok(value @ Value::Array(_)) => match serde_json_canonicalizer::to_vec(&value) {
            Ok(canonical) => Ok(hashing.of(&canonical)),
            Err(error) => refuse(&error),
        },
        Ok(_) => refuse(&"it isn't an array"),
        Err(error) => refuse(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(request: ChatRequest<'_>) -> Result<(String, ContentHash), String> {
        let config = Config::parse(None).unwrap();
        Prepared::new(&request, false, &config)
            .map(|prepared| {
                (
                    String::from_utf8(prepared.body).unwrap(),
                    prepared.prompt_hash,
                )
            })
            .map_err(|error| error.message)
    }

    #[test]
    fn the_body_is_what_the_openai_client_would_send() {
        let request = ChatRequest {
            prompt: Some("hi"),
            params: Some(r#"{"temperature": 0.5, "stop": ["a", "b"]}"#),
            ..ChatRequest::default()
        };
        let (body, hash) = prepared(request).unwrap();
        assert_eq!(
            body,
            r#"{"model":"openai/gpt-4-turbo","messages":[{"role":"user","content":"hi"}],"temperature":0.5,"stop":["a","b"]}"#
        );
        assert_eq!(hash, Hashing::default().of(b"hi"));

        let request = ChatRequest {
            system: Some("be \"brief\""),
            model: Some("x/y"),
            params: None,
            ..request
        };
        assert_eq!(
            prepared(request).unwrap().0,
            r#"{"model":"x/y","messages":[{"role":"system","content":"be \"brief\""},{"role":"user","content":"hi"}]}"#
        );
    }

    #[test]
    fn messages_are_hashed_in_their_canonical_form() {
        let hash = |messages: &str| {
            let params = format!("{{\"messages\":{messages}}}");
            prepared(ChatRequest {
                params: Some(&params),
                ..ChatRequest::default()
            })
            .map(|(_, hash)| hash)
        };
        // The test vectors that FORMAT.md publishes.
        let canonical = "[{\"content\":\"h\u{e9}\\n\",\"role\":\"user\",\"weight\":1}]";
        for same in [
            canonical,
            "[ {\"role\":\"user\", \"content\":\"h\\u00e9\\n\", \"weight\":1.0} ]",
            "[{\"weight\":1e0,\"role\":\"user\",\"content\":\"h\u{e9}\\u000a\"}]",
        ] {
            assert_eq!(
                hash(same),
                Ok(Hashing::default().of(canonical.as_bytes())),
                "{same}"
            );
        }
        assert_eq!(
            hash(canonical).unwrap().to_string(),
            "3042f597f4a5f3f3fdd5457c77568f79509b6da6c05351382f0d72b4db00c533"
        );
        assert!(hash("{}").is_err());
        assert!(hash("[1e999]").is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let base = ChatRequest {
            prompt: Some("hi"),
            ..ChatRequest::default()
        };
        for (request, says) in [
            (
                ChatRequest {
                    prompt: None,
                    ..base
                },
                "prompt is absent",
            ),
            (
                ChatRequest {
                    model: Some(""),
                    ..base
                },
                "model is empty",
            ),
            (
                ChatRequest {
                    params: Some(r#"{"messages":[]}"#),
                    ..base
                },
                "in place of prompt",
            ),
            (
                ChatRequest {
                    params: Some(r#"{"model":"x"}"#),
                    ..base
                },
                "\"model\" can't be set",
            ),
            (
                ChatRequest {
                    params: Some(r#"{"stream":true}"#),
                    ..base
                },
                "\"stream\" can't be set",
            ),
            (
                ChatRequest {
                    params: Some(r#"{"a":1,"a":2}"#),
                    ..base
                },
                "duplicate key",
            ),
            (
                ChatRequest {
                    params: Some("[]"),
                    ..base
                },
                "params: a JSON object expected",
            ),
            (
                ChatRequest {
                    metadata: Some("nope"),
                    ..base
                },
                "metadata: a JSON object expected",
            ),
            (
                ChatRequest {
                    options: Some(r#"{"timeout_ms":0}"#),
                    ..base
                },
                "options: \"timeout_ms\" must be",
            ),
            (
                ChatRequest {
                    options: Some(r#"{"timeout":1}"#),
                    ..base
                },
                "\"timeout\" is not a known key",
            ),
        ] {
            let error = prepared(request).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
