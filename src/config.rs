//! The configuration: one JSON text, checked whole before anything is made from it.

use std::ffi::CString;
use std::fmt;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::{Error, Status};
use crate::format::entry::{MAX_ATTEMPTS, MAX_DETAILS};
use crate::format::note::{MAX_NAME, is_log_name};
use crate::format::policy::{self, Policy};
use crate::hash::Hashing;
use crate::json::{self, Numbers};
use crate::server::{self, Proxy, Trust};
use crate::sys::{self, SecretBytes};

/// A text that no message, no `Debug` and no core dump shows, wiped when dropped.
#[derive(Clone)]
pub struct Secret(Arc<SecretBytes>);

impl Secret {
    /// Keeps a copy of the text.
    fn new(text: &str) -> Result<Secret, &'static str> {
        let bytes = SecretBytes::copy_of(text.as_bytes());
        bytes
            .map(Arc::new)
            .map(Secret)
            .map_err(|_| "can't be kept: there's no memory for it")
    }

    /// Its bytes, for another to keep.
    pub fn share(&self) -> Arc<SecretBytes> {
        Arc::clone(&self.0)
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where the key comes from.
#[derive(Debug, Clone)]
enum KeySource {
    Given(Secret),
    /// Read for every call: a key that is rotated is used at once.
    File(PathBuf),
    /// The environment held none when the logger was made.
    Missing {
        variable: String,
    },
}

/// When an entry counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When the kernel has it: it survives the process.
    Os,
    /// When the disk has it: it survives a power cut.
    Disk,
}

/// What becomes of a call when the log can't take its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLogFailure {
    /// It isn't made.
    Refuse,
    /// It's made; if its entry can't be written afterwards either, it's counted.
    Count,
}

/// How the log is sealed.
#[derive(Debug, Clone)]
pub struct Integrity {
    /// The text of the key that signs; else the log makes its own.
    pub key: Option<Secret>,
    /// Where what was signed last is remembered.
    pub guard_file: Option<PathBuf>,
    /// What the log is called.
    pub origin: Option<String>,
    /// How long an entry may stand there unsealed.
    pub seal_interval: Duration,
    /// How often a log in which nothing happens gives a sign of life.
    pub heartbeat: Duration,
    /// Whom it's shown to.
    pub witnesses: Option<Witnesses>,
}

/// How a log is shown to witnesses.
#[derive(Debug, Clone)]
pub struct Witnesses {
    /// Who they are, and which of them are enough.
    pub policy: Policy,
    /// Where each is asked, in the policy's order, if that says it.
    pub places: Vec<Option<Place>>,
    /// Whether a flush that asks for them fails without the quorum.
    pub required: bool,
    /// How often they are shown what is new.
    pub interval: Duration,
}

/// Where a witness is asked.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its URL.
    pub url: Uri,
    /// The proxy before it.
    pub proxy: Option<Proxy>,
}

impl Default for Integrity {
    fn default() -> Self {
        Integrity {
            key: None,
            guard_file: None,
            origin: None,
            seal_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(900),
            witnesses: None,
        }
    }
}

/// Request headers of the host's own choice.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// What the host configured, or the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of the log.
    pub output_path: PathBuf,
    /// The group that may read the log beside its owner.
    pub group: Option<u32>,
    /// Whether the log may be on a network file system.
    pub allow_network_filesystem: bool,
    /// When an entry counts as written.
    pub durability: Durability,
    /// What becomes of a call when the log can't take its entry.
    pub on_log_failure: OnLogFailure,
    /// How the log is sealed, if it is.
    pub integrity: Option<Integrity>,
    /// Where requests go: the base URL and `/chat/completions`.
    pub url: Uri,
    key: KeySource,
    /// The model when a request names none.
    pub model: String,
    /// The limits and headers of a call that brings no others.
    pub call: CallOptions,
    /// For a connection to be made, its TLS handshake included.
    pub connect_timeout: Duration,
    /// Of a response's body, its content coding removed.
    pub max_response_bytes: u64,
    /// Of an entry's line.
    pub max_entry_bytes: usize,
    /// Which numbers metadata may have.
    pub metadata_numbers: Numbers,
    /// Whether entries carry `details`.
    pub details: bool,
    /// What the log shows in place of content.
    pub hashing: Hashing,
    /// What requests go through.
    pub proxy: Option<Proxy>,
    /// Who may vouch for a server, and for the client.
    pub trust: Trust,
}

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

const MAX_MS: u64 = 86_400_000; // a day
const MAX_RETRIES: u64 = MAX_ATTEMPTS as u64 - 1;

impl Config {
    /// Reads a configuration; `None` is all defaults.
    pub fn parse(text: Option<&str>) -> Result<Config, Error> {
        let mut config = Config {
            output_path: PathBuf::new(),
            group: None,
            allow_network_filesystem: false,
            durability: Durability::Os,
            on_log_failure: OnLogFailure::Refuse,
            integrity: Some(Integrity::default()),
            url: Uri::default(),
            key: KeySource::Missing {
                variable: String::new(),
            },
            model: "openai/gpt-4-turbo".into(),
            call: CallOptions {
                timeout: Duration::from_secs(600),
                idle_timeout: Duration::from_secs(120),
                max_retries: 2,
                headers: Vec::new(),
                api_key: None,
                session_id: None,
            },
            connect_timeout: Duration::from_secs(5),
            max_response_bytes: 16 << 20,
            max_entry_bytes: 32 << 10,
            metadata_numbers: Numbers::Portable,
            details: true,
            hashing: Hashing::default(),
            proxy: None,
            trust: Trust::default(),
        };
        let mut proxy = None;
        let mut base_url = "https://openrouter.ai/api/v1".to_owned();
        let mut allow_http = false;
        let mut key_file = None;
        let (mut client_cert, mut client_key) = (None, None);
        let mut key_variable = "OPENROUTER_API_KEY".to_owned();

        for setting in settings("", Status::Config, text.unwrap_or("{}"))? {
            match setting.key.as_str() {
                "output_path" => config.output_path = setting.path()?,
                "access" => config.group = setting.access()?,
                "allow_network_filesystem" => config.allow_network_filesystem = setting.flag()?,
                "base_url" => base_url = setting.text()?,
                "allow_http" => allow_http = setting.flag()?,
                "api_key_file" => key_file = setting.or_null(Setting::path)?,
                "api_key_env" => key_variable = setting.text()?,
                "model" => config.model = setting.text()?,
                "connect_timeout_ms" => config.connect_timeout = setting.milliseconds()?,
                "max_response_bytes" => config.max_response_bytes = setting.integer(1, 1 << 30)?,
                "max_entry_bytes" => {
                    let bytes = setting.integer(2 * MAX_DETAILS as u64, 1 << 20)?;
                    config.max_entry_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                }
                "metadata_numbers" => {
                    let known = [("portable", Numbers::Portable), ("any", Numbers::Any)];
                    config.metadata_numbers = setting.one_of(known)?;
                }
                "details" => config.details = setting.flag()?,
                "hash_key_file" => {
                    if let Some(path) = setting.or_null(Setting::text)? {
                        let key = read_guarded_key_file(Path::new(&path))
                            .map_err(|wrong| setting.error(wrong))?;
                        config.hashing = Hashing::keyed(key.trim_ascii_end())
                            .map_err(|wrong| setting.error(wrong))?;
                    }
                }
                "proxy" => proxy = setting.or_null(Setting::text)?,
                "ca_file" => match setting.or_null(Setting::text)?.as_deref() {
                    None => {}
                    Some("env") => {
                        config.trust.add_from_environment().map_err(Error::config)?;
                    }
                    Some(path) => {
                        let added = config.trust.add_file(Path::new(path));
                        added.map_err(|wrong| setting.error(wrong))?;
                    }
                },
                "client_cert_file" => client_cert = setting.or_null(Setting::text)?,
                "client_key_file" => client_key = setting.or_null(Setting::text)?,
                "durability" => {
                    let known = [("os", Durability::Os), ("disk", Durability::Disk)];
                    config.durability = setting.one_of(known)?;
                }
                "on_log_failure" => {
                    let known = [
                        ("refuse", OnLogFailure::Refuse),
                        ("count", OnLogFailure::Count),
                    ];
                    config.on_log_failure = setting.one_of(known)?;
                }
                "integrity" => config.integrity = setting.integrity()?,
                _ if config.call.take(&setting)? => {}
                _ => return Err(setting.unknown()),
            }
        }

        if config.output_path.as_os_str().is_empty() {
            config.output_path = absolute("audit_logs")
                .map_err(|wrong| Error::config(format!("\"output_path\" {wrong}")))?;
        }
        config.url = server::endpoint(&base_url, allow_http).map_err(|wrong| {
            // The URL isn't repeated: a mistaken one may hold a password.
            Error::config(format!(
                "\"base_url\" {wrong}; it must look like \"https://openrouter.ai/api/v1\""
            ))
        })?;
        let proxy_before = |url: &Uri| match proxy.as_deref() {
            None => Ok(None),
            Some("env") => Proxy::from_environment(url).map_err(Error::config),
            Some(proxy) => {
                let wrong = |wrong| Error::config(format!("\"proxy\" {wrong}"));
                Proxy::of(proxy).map(Some).map_err(wrong)
            }
        };
        config.proxy = proxy_before(&config.url)?;
        let integrity = config.integrity.as_mut();
        let witnesses = integrity.and_then(|integrity| integrity.witnesses.as_mut());
        for place in witnesses
            .into_iter()
            .flat_map(|all| all.places.iter_mut().flatten())
        {
            place.proxy = proxy_before(&place.url)?;
        }
        match (client_cert, client_key) {
            (None, None) => {}
            (Some(chain), Some(key)) => {
                let set = config.trust.set_client(Path::new(&chain), Path::new(&key));
                set.map_err(Error::config)?;
            }
            _ => {
                return Err(Error::config(
                    "\"client_cert_file\" and \"client_key_file\" go together; set both or neither",
                ));
            }
        }
        config.key = match (config.call.api_key.take(), key_file) {
            (Some(_), Some(_)) => {
                return Err(Error::config(
                    "\"api_key\" and \"api_key_file\" are both set; set one of them",
                ));
            }
            (Some(key), None) => KeySource::Given(key),
            (None, Some(path)) => KeySource::File(path),
            (None, None) => key_from_environment(key_variable)?,
        };
        Ok(config)
    }

    /// What an operator should know if calls have no key unless they bring one.
    pub fn without_key(&self) -> Option<String> {
        let missing = self.api_key().err();
        missing.filter(|_| !self.call.has_credentials())
    }

    /// The key for a call that brings none of its own. The error is one of the call: a service
    /// that only logs its own calls needs no key.
    pub fn api_key(&self) -> Result<Secret, String> {
        match &self.key {
            KeySource::Given(key) => Ok(key.clone()),
            KeySource::File(path) => {
                let (bytes, _) = read_key_file(path).map_err(|error| {
                    format!("the API key file {} can't be read: {error}", path.display())
                })?;
                // What isn't a text is refused as an empty one is: it can't be a key.
                usable_key(str::from_utf8(bytes.trim_ascii_end()).unwrap_or_default())
                    .map_err(|wrong| format!("the API key file {} {wrong}", path.display()))
            }
            KeySource::Missing { variable } => Err(format!(
                "no API key: set \"api_key\" or \"api_key_file\" in the configuration, or the \
                 environment variable {variable} before audit_logger_new"
            )),
        }
    }
}

impl CallOptions {
    /// The options of one call: those given in `text`, the configured ones otherwise.
    pub fn with(&self, text: &str) -> Result<CallOptions, Error> {
        let mut options = self.clone();
        for setting in settings("options: ", Status::Argument, text)? {
            let header = match setting.key.as_str() {
                "traceparent" => ("traceparent", setting.traceparent()?),
                "session_id" => {
                    let id = setting.session_id()?;
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
    fn take(&mut self, setting: &Setting) -> Result<bool, Error> {
        match setting.key.as_str() {
            "timeout_ms" => self.timeout = setting.milliseconds()?,
            "idle_timeout_ms" => self.idle_timeout = setting.milliseconds()?,
            "max_retries" => {
                let retries = setting.integer(0, MAX_RETRIES)?;
                self.max_retries = usize::try_from(retries).unwrap_or(usize::MAX);
            }
            "headers" => {
                for (name, value) in setting.headers()? {
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

/// What a flush is asked for.
#[derive(Debug, Clone, Default)]
pub struct Flushing {
    /// The quorum of witnesses as well.
    pub witnessed: bool,
}

impl Flushing {
    /// Reads the options of a flush; none are given if there is no text.
    pub fn parse(text: Option<&str>) -> Result<Flushing, Error> {
        let mut wanted = Flushing::default();
        for setting in settings("options: ", Status::Argument, text.unwrap_or("{}"))? {
            match setting.key.as_str() {
                "witnessed" => wanted.witnessed = setting.flag()?,
                _ => return Err(setting.error("is not a known key; there is \"witnessed\"")),
            }
        }
        Ok(wanted)
    }
}
/// The fewest days for which a log is kept unless "below_floor" says that fewer are meant: six months,
/// which Regulation (EU) 2024/1689, articles 19 and 26(6), ask for at least.
pub const RETENTION_FLOOR: i64 = 183;

/// What is to be done with days that are over.
#[derive(Debug, Clone, Default)]
pub struct Maintenance {
    /// How many days they are kept; for ever without it.
    pub retention_days: Option<i64>,
    /// Whether that may be less than six months.
    pub below_floor: bool,
    /// After how many days they are compressed; never without it.
    pub compress_after_days: Option<i64>,
    /// The text of the key that signs the log, if that isn't its own.
    pub key: Option<Secret>,
    /// Where what was signed last is remembered.
    pub guard_file: Option<PathBuf>,
    /// Whether the log may be on a network file system.
    pub allow_network_filesystem: bool,
}

impl Maintenance {
    /// Reads its options; without a text there are none.
    pub fn parse(text: Option<&str>) -> Result<Maintenance, Error> {
        const MAX_DAYS: u64 = 36_500;
        let mut wanted = Maintenance::default();
        for setting in settings("options: ", Status::Argument, text.unwrap_or("{}"))? {
            let days = || Ok(i64::try_from(setting.integer(1, MAX_DAYS)?).ok());
            match setting.key.as_str() {
                "retention_days" => wanted.retention_days = days()?,
                "below_floor" => wanted.below_floor = setting.flag()?,
                "compress_after_days" => wanted.compress_after_days = days()?,
                "key_file" => wanted.key = setting.key_file()?,
                "guard_file" => wanted.guard_file = setting.or_null(Setting::path)?,
                "allow_network_filesystem" => wanted.allow_network_filesystem = setting.flag()?,
                _ => {
                    return Err(setting.error(
                        "is not a known key; there are \"retention_days\", \"below_floor\", \
                         \"compress_after_days\", \"key_file\", \"guard_file\" and \
                         \"allow_network_filesystem\"",
                    ));
                }
            }
        }
        if let Some(days) = wanted.retention_days
            && days < RETENTION_FLOOR
            && !wanted.below_floor
        {
            return Err(Error::argument(format!(
                "options: \"retention_days\" is {days}, and six months ({RETENTION_FLOOR} days) are \
                 the least that laws ask of some logs: if fewer are meant, set \"below_floor\" \
                 (--below-floor)"
            )));
        }
        Ok(wanted)
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

const MAX_KEY: usize = 8192;

fn usable_key(text: &str) -> Result<Secret, &'static str> {
    if text.is_empty() || text.len() > MAX_KEY || !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err("must hold 1 to 8192 printable ASCII characters without spaces or line ends");
    }
    Secret::new(text)
}

/// A plain file, and no more of it than a key takes: the call's deadline doesn't reach in here.
fn read_key_file(path: &Path) -> std::io::Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it isn't a plain file"));
    }
    // More room than is read: what grows leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_KEY));
    file.take(MAX_KEY as u64 + 2).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// A key file that can be relied on: nobody but its owner, a group and root can read or replace it.
fn read_guarded_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let (bytes, metadata) =
        read_key_file(path).map_err(|error| format!("can't be read: {error}"))?;
    let (owner, user) = (metadata.uid(), sys::user());
    if owner != 0 && owner != user {
        return Err(format!(
            "names a file of the user {owner}; it must be root's or this process's user's ({user})"
        ));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o006 != 0 {
        return Err(format!(
            "names a file that others may read or write (mode {mode:04o}); give it mode 0400, or \
             0440 for a group"
        ));
    }
    Ok(bytes)
}

/// The policy in a file.
pub fn read_policy(path: &Path) -> Result<Policy, String> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let read = opened.and_then(|file| {
        let mut text = Vec::new();
        file.take(policy::LONGEST + 1).read_to_end(&mut text)?;
        Ok(text)
    });
    let shown = path.display();
    let text = read.map_err(|error| format!("{shown} can't be read: {error}"))?;
    Policy::parse(&text).map_err(|wrong| format!("{shown} can't be used: it {wrong}"))
}

fn key_from_environment(variable: String) -> Result<KeySource, Error> {
    // A setuid host's environment is its caller's word.
    if sys::is_privileged() {
        return Ok(KeySource::Missing { variable });
    }
    match std::env::var_os(&variable) {
        None => Ok(KeySource::Missing { variable }),
        Some(value) if value.is_empty() => Ok(KeySource::Missing { variable }),
        Some(value) => match usable_key(&Zeroizing::new(value.to_string_lossy().into_owned())) {
            Ok(key) => Ok(KeySource::Given(key)),
            Err(wrong) => Err(Error::config(format!(
                "the environment variable {variable} {wrong}"
            ))),
        },
    }
}

/// A path from the working directory of now, links not followed.
fn absolute(path: &str) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| {
        format!("is relative, and the working directory isn't known ({error}); name it from \"/\"")
    })
}

/// One key of a configuration, with what its errors need to name it.
pub struct Setting {
    place: &'static str,
    status: Status,
    /// Its name.
    pub key: String,
    /// Compact JSON. May hold a secret.
    value: Zeroizing<String>,
}

/// The settings in a JSON object, whose errors begin with `place` and have that status.
pub fn settings(place: &'static str, status: Status, text: &str) -> Result<Vec<Setting>, Error> {
    let members =
        json::members(text).map_err(|error| Error::new(status, format!("{place}{error}")))?;
    Ok(members
        .into_iter()
        .map(|(key, value)| Setting {
            place,
            status,
            key,
            value: Zeroizing::new(value),
        })
        .collect())
}

impl Setting {
    /// Names the key and what is allowed, never the value: it may be a secret in a wrong place.
    pub fn error(&self, allowed: impl fmt::Display) -> Error {
        let key = json::show(&self.key);
        Error::new(self.status, format!("{}{key} {allowed}", self.place))
    }

    /// Refuses a key that isn't known.
    pub fn unknown(&self) -> Error {
        self.error("is not a known key")
    }

    /// The value, as compact JSON.
    pub fn json(&self) -> &str {
        &self.value
    }

    /// Any text.
    pub fn string(&self) -> Result<String, Error> {
        serde_json::from_str(&self.value).map_err(|_| self.error("must be a string"))
    }

    /// An object, as compact JSON.
    pub fn object(&self) -> Result<Zeroizing<String>, Error> {
        match self.value.starts_with('{') {
            true => Ok(self.value.clone()),
            false => Err(self.error("must be an object")),
        }
    }

    /// A number.
    pub fn number(&self) -> Result<f64, Error> {
        serde_json::from_str(&self.value).map_err(|_| self.error("must be a number"))
    }

    /// A text that isn't empty.
    pub fn text(&self) -> Result<String, Error> {
        match serde_json::from_str::<String>(&self.value) {
            Ok(text) if text.is_empty() || text.contains('\0') => {
                Err(self.error("must be a string that is not empty and holds no NUL"))
            }
            Ok(text) => Ok(text),
            Err(_) => Err(self.error("must be a string")),
        }
    }

    /// The path of a file or a directory, absolute: what is kept of it means the same wherever the
    /// process, or a child of it, goes later.
    fn path(&self) -> Result<PathBuf, Error> {
        absolute(&self.text()?).map_err(|wrong| self.error(wrong))
    }

    /// A value, or null.
    pub fn or_null<T>(
        &self,
        read: impl Fn(&Setting) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if self.value.as_str() == "null" {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    /// Paths of files.
    pub fn paths(&self) -> Result<Vec<PathBuf>, Error> {
        let wrong = |_| self.error("must be an array of paths");
        serde_json::from_str(&self.value).map_err(wrong)
    }

    /// A boolean.
    pub fn flag(&self) -> Result<bool, Error> {
        match self.value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error("must be true or false")),
        }
    }

    /// A whole number in that range.
    pub fn integer(&self, min: u64, max: u64) -> Result<u64, Error> {
        match self.value.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(self.error(format_args!("must be an integer from {min} to {max}"))),
        }
    }

    fn milliseconds(&self) -> Result<Duration, Error> {
        self.integer(1, MAX_MS).map(Duration::from_millis)
    }

    fn one_of<T: Copy>(&self, known: [(&str, T); 2]) -> Result<T, Error> {
        let given = self.text()?;
        match known.iter().find(|(name, _)| *name == given) {
            Some((_, value)) => Ok(*value),
            None => Err(self.error(format_args!(
                "must be \"{}\" or \"{}\"",
                known[0].0, known[1].0
            ))),
        }
    }

    /// The group that may read the log, by its id.
    fn access(&self) -> Result<Option<u32>, Error> {
        let allowed = "must be \"owner\" or {\"group\": a name or a number}";
        if self.value.as_str() == "\"owner\"" {
            return Ok(None);
        }
        let value: serde_json::Value =
            serde_json::from_str(&self.value).map_err(|_| self.error(allowed))?;
        let only = value.as_object().filter(|members| members.len() == 1);
        let group = only.and_then(|members| members.get("group"));
        let group = group.ok_or_else(|| self.error(allowed))?;
        if let Some(name) = group.as_str() {
            let found = CString::new(name).map(|name| sys::group_id(&name));
            return match found {
                Ok(Ok(Some(id))) => Ok(Some(id)),
                Ok(Err(error)) => Err(self.error(format_args!("can't be looked up: {error}"))),
                _ => Err(self.error(format_args!(
                    "names the group {}, which this system doesn't know",
                    json::show(name)
                ))),
            };
        }
        let id = group.as_u64().and_then(|id| u32::try_from(id).ok());
        // The highest number means "no change" to chown.
        let id = id.filter(|id| *id != u32::MAX);
        id.map(Some).ok_or_else(|| self.error(allowed))
    }

    /// The text of a signing key, from the file that is named.
    /// A policy, and where its witnesses are asked.
    fn policy(&self) -> Result<(Policy, Vec<Option<Place>>), Error> {
        let path = self.path()?;
        let policy = read_policy(&path).map_err(|wrong| self.error(wrong))?;
        let place = |url: &Option<String>| match url.as_deref().map(server::witness) {
            None => Ok(None),
            Some(Ok(url)) => Ok(Some(Place { url, proxy: None })),
            Some(Err(wrong)) => Err(self.error(format_args!("names a witness whose URL {wrong}"))),
        };
        let witnesses = policy.witnesses().iter();
        let places: Result<Vec<_>, Error> = witnesses.map(|witness| place(&witness.url)).collect();
        let places = places?;
        if places.iter().all(Option::is_none) {
            return Err(self.error("names no witness with a URL, so none could be asked"));
        }
        Ok((policy, places))
    }

    fn key_file(&self) -> Result<Option<Secret>, Error> {
        let Some(path) = self.or_null(Setting::text)? else {
            return Ok(None);
        };
        let key = read_guarded_key_file(Path::new(&path)).map_err(|wrong| self.error(wrong))?;
        let text = std::str::from_utf8(&key).unwrap_or_default();
        Secret::new(text)
            .map(Some)
            .map_err(|wrong| self.error(wrong))
    }

    /// How the log is sealed, if it is.
    fn integrity(&self) -> Result<Option<Integrity>, Error> {
        /// Behind it come a dash and eight digits.
        const LONGEST_ORIGIN: usize = MAX_NAME - 9;
        if self.value.as_str() == "false" {
            return Ok(None);
        }
        if !self.value.starts_with('{') {
            return Err(self.error("must be an object or false"));
        }
        let mut integrity = Integrity::default();
        let mut policy = None;
        let (mut required, mut interval) = (false, Duration::from_secs(60));
        for setting in settings("\"integrity\": ", self.status, &self.value)? {
            match setting.key.as_str() {
                "key_file" => integrity.key = setting.key_file()?,
                "guard_file" => integrity.guard_file = setting.or_null(Setting::path)?,
                "origin" => {
                    integrity.origin = setting.or_null(Setting::text)?;
                    let origin = integrity.origin.as_ref();
                    if origin
                        .is_some_and(|origin| origin.len() > LONGEST_ORIGIN || !is_log_name(origin))
                    {
                        return Err(setting.error(format_args!(
                            "must be at most {LONGEST_ORIGIN} bytes without white space, \"+\" and \"#\""
                        )));
                    }
                }
                "seal_interval_ms" => {
                    let interval = setting.integer(10, 3_600_000)?;
                    integrity.seal_interval = Duration::from_millis(interval);
                }
                "heartbeat_s" => {
                    integrity.heartbeat = Duration::from_secs(setting.integer(1, 86_400)?);
                }
                "witness_policy" => policy = setting.or_null(Setting::policy)?,
                "witness_mode" => {
                    required = setting.one_of([("best_effort", false), ("required", true)])?;
                }
                "witness_interval_s" => {
                    interval = Duration::from_secs(setting.integer(1, 86_400)?);
                }
                _ => return Err(setting.unknown()),
            }
        }
        integrity.witnesses = policy.map(|(policy, places)| Witnesses {
            policy,
            places,
            required,
            interval,
        });
        Ok(Some(integrity))
    }

    fn traceparent(&self) -> Result<String, Error> {
        let text = self.text()?;
        match trace_of(&text) {
            Some(_) => Ok(text),
            None => Err(self.error(
                "must be a W3C traceparent, such as \
                 \"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"",
            )),
        }
    }

    fn session_id(&self) -> Result<String, Error> {
        const LONGEST: usize = 128;
        let text = self.text()?;
        if text.len() > LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.error(format_args!(
                "must be 1 to {LONGEST} printable ASCII characters without spaces"
            )));
        }
        Ok(text)
    }

    fn headers(&self) -> Result<Headers, Error> {
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
            self.error(format_args!(
                "must be an object of header names with string values; {what}"
            ))
        };
        let members = json::members(&self.value).map_err(|_| wrong("it isn't an object"))?;
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
}
