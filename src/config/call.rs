//! What a single call may set for itself.

use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::secret::{Secret, usable_key};
use crate::error::{Error, Status};
use crate::format::entry::MAX_ATTEMPTS;
use crate::json;
use crate::settings::{Setting, settings};

const MAX_RETRIES: u64 = MAX_ATTEMPTS as u64 - 1;

/// Request headers of the host's own choice.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// What a single call may set for itself.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// For the whole call, all attempts and waits together.
    pub timeout: Duration,
    /// The longest silence within an answer that has begun, and the longest stall in sending.
    pub idle_timeout: Duration,
    /// Further attempts after the first.
    pub max_retries: usize,
    /// Sent with every request.
    pub headers: Headers,
    /// For this call instead of the configured key.
    pub api_key: Option<Secret>,
    /// What a call belongs to: a session of the host's own.
    pub session_id: Option<String>,
}

impl CallOptions {
    /// The options of one call: those given in `text`, the configured ones otherwise.
    pub fn with(&self, text: &str) -> Result<CallOptions, Error> {
        let mut options = self.clone();
        for setting in settings("options: ", Status::Argument, text)? {
            let header = match setting.key.as_str() {
                "traceparent" => ("traceparent", traceparent(&setting)?),
                "session_id" => {
                    let id = session_id(&setting)?;
                    options.session_id = Some(id.clone());
                    ("x-session-id", id)
                }
                _ if options.take(&setting)? => continue,
                _ => return Err(setting.unknown()),
            };
            let (name, value) = (HeaderName::from_static(header.0), header.1);
            let value = HeaderValue::try_from(value).map_err(|_| setting.unknown())?;
            options.set_header(name, value);
        }
        Ok(options)
    }

    fn set_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
    }

    /// The trace that the call is part of, and the span within it, if it says so: of a
    /// `traceparent` (W3C Trace Context).
    pub fn trace(&self) -> Option<(&str, &str)> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(name, _)| name == "traceparent")?;
        trace_of(value.to_str().ok()?)
    }

    /// Whether the host sends credentials in a header of its own, so that no key is needed.
    pub fn has_credentials(&self) -> bool {
        self.credentials().next().is_some()
    }

    fn credentials(&self) -> impl Iterator<Item = &str> {
        let is_key = |name: &str| ["authorization", "api-key", "x-api-key"].contains(&name);
        let headers = self.headers.iter();
        let keys = headers.filter(move |(name, _)| is_key(name.as_str()));
        keys.filter_map(|(_, value)| value.to_str().ok())
    }

    /// What may be a secret in headers of the host's own, whatever their names: all but those that
    /// name the application, a session or a trace. Without the scheme before it.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        const PUBLIC: [&str; 10] = [
            "accept",
            "http-referer",
            "referer",
            "traceparent",
            "tracestate",
            "user-agent",
            "x-openrouter-categories",
            "x-openrouter-title",
            "x-session-id",
            "x-title",
        ];
        let headers = self.headers.iter();
        let secret = headers.filter(|(name, _)| !PUBLIC.contains(&name.as_str()));
        secret.filter_map(|(_, value)| value.to_str().ok()?.split(' ').next_back())
    }

    /// Takes a setting that a configuration and a call's options share; false if it isn't one.
    pub(super) fn take(&mut self, setting: &Setting) -> Result<bool, Error> {
        match setting.key.as_str() {
            "timeout_ms" => self.timeout = setting.milliseconds()?,
            "idle_timeout_ms" => self.idle_timeout = setting.milliseconds()?,
            "max_retries" => {
                let retries = setting.integer(0, MAX_RETRIES)?;
                self.max_retries = usize::try_from(retries).unwrap_or(usize::MAX);
            }
            "headers" => {
                for (name, value) in headers(setting)? {
                    self.set_header(name, value);
                }
            }
            "api_key" => {
                self.api_key = setting
                    .or_null(Setting::text)?
                    .map(Zeroizing::new)
                    .map(|text| usable_key(&text).map_err(|wrong| setting.error(wrong)))
                    .transpose()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The ids of a trace and a span in a `traceparent`.
fn trace_of(text: &str) -> Option<(&str, &str)> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut parts = text.split('-');
    let mut next = |length: usize| {
        let part = parts.next()?;
        (part.len() == length && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, _flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    let is_known = |id: &str| id.bytes().any(|digit| digit != b'0');
    let ends = version != "00" || parts.next().is_none();
    (version != "ff" && is_known(trace) && is_known(span) && ends).then_some((trace, span))
}

fn traceparent(setting: &Setting) -> Result<String, Error> {
    let text = setting.text()?;
    match trace_of(&text) {
        Some(_) => Ok(text),
        None => Err(setting.error(
            "must be a W3C traceparent, such as \
             \"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"",
        )),
    }
}

fn session_id(setting: &Setting) -> Result<String, Error> {
    const LONGEST: usize = 128;
    let text = setting.text()?;
    if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(setting.error(format_args!(
            "must be 1 to {LONGEST} printable ASCII characters without spaces"
        )));
    }
    Ok(text)
}

fn headers(setting: &Setting) -> Result<Headers, Error> {
    /// They frame the message; the library writes them itself.
    const OURS: [&str; 10] = [
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let wrong = |what: &str| {
        setting.error(format_args!(
            "must be an object of header names with string values; {what}"
        ))
    };
    let members = json::members(setting.json()).map_err(|_| wrong("it isn't an object"))?;
    members
        .into_iter()
        .map(|(name, value)| {
            let shown = json::show(&name);
            let header = HeaderName::try_from(&name)
                .map_err(|_| wrong(&format!("{shown} isn't a header name")))?;
            if OURS.contains(&header.as_str()) {
                return Err(wrong(&format!("{shown} is set by the library")));
            }
            let mut value = serde_json::from_str::<String>(&value)
                .ok()
                .filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
                .and_then(|text| HeaderValue::try_from(text).ok())
                .ok_or_else(|| {
                    wrong(&format!("the value of {shown} isn't printable ASCII text"))
                })?;
            // Any of them may be a credential: keep them out of Debug.
            value.set_sensitive(true);
            Ok((header, value))
        })
        .collect()
}
