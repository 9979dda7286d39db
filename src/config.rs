//! The configuration: one JSON text, checked whole before anything is made from it.

use std::ffi::CString;
use std::fmt;
use std::fs::Metadata;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::Proxy;
use ureq::http::Uri;
use ureq::http::header::{HeaderName, HeaderValue};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};
use zeroize::Zeroizing;

use crate::error::{Error, Status};
use crate::format::entry::{MAX_ATTEMPTS, MAX_DETAILS};
use crate::hash::Hashing;
use crate::json;
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
}

impl Default for Integrity {
    fn default() -> Self {
        Integrity {
            key: None,
            guard_file: None,
            origin: None,
            seal_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(900),
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
    /// Whether entries carry `details`.
    pub details: bool,
    /// What the log shows in place of content.
    pub hashing: Hashing,
    /// What requests go through.
    pub proxy: Option<Proxy>,
    /// Who may vouch for a server.
    pub roots: RootCerts,
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
}

const MAX_MS: u64 = 86_400_000; // a day
const MAX_RETRIES: u64 = MAX_ATTEMPTS as u64 - 1;

impl Config {
    /// Reads a configuration; `None` is all defaults.
    pub fn parse(text: Option<&str>) -> Result<Config, Error> {
        let mut config = Config {
            output_path: "audit_logs".into(),
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
            },
            connect_timeout: Duration::from_secs(5),
            max_response_bytes: 16 << 20,
            max_entry_bytes: 32 << 10,
            details: true,
            hashing: Hashing::default(),
            proxy: None,
            roots: RootCerts::WebPki,
        };
        let mut proxy = None;
        let mut base_url = "https://openrouter.ai/api/v1".to_owned();
        let mut allow_http = false;
        let mut key_file = None;
        let mut key_variable = "OPENROUTER_API_KEY".to_owned();

        for setting in settings("config", Status::Config, text.unwrap_or("{}"))? {
            match setting.key.as_str() {
                "output_path" => config.output_path = setting.text()?.into(),
                "access" => config.group = setting.access()?,
                "allow_network_filesystem" => config.allow_network_filesystem = setting.flag()?,
                "base_url" => base_url = setting.text()?,
                "allow_http" => allow_http = setting.flag()?,
                "api_key_file" => key_file = setting.or_null(Setting::text)?.map(PathBuf::from),
                "api_key_env" => key_variable = setting.text()?,
                "model" => config.model = setting.text()?,
                "connect_timeout_ms" => config.connect_timeout = setting.milliseconds()?,
                "max_response_bytes" => config.max_response_bytes = setting.integer(1, 1 << 30)?,
                "max_entry_bytes" => {
                    let bytes = setting.integer(2 * MAX_DETAILS as u64, 1 << 20)?;
                    config.max_entry_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
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
                "ca_file" => {
                    if let Some(path) = setting.or_null(Setting::text)? {
                        config.roots = roots_with(&path).map_err(|wrong| setting.error(wrong))?;
                    }
                }
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

        config.url = endpoint(&base_url, allow_http)?;
        config.proxy = match proxy.as_deref() {
            None => None,
            Some("env") => proxy_from_environment(&config.url)?,
            Some(url) => Some(
                proxy_to(url)
                    .map_err(|wrong| Error::config(format!("config: \"proxy\" {wrong}")))?,
            ),
        };
        config.key = match (config.call.api_key.take(), key_file) {
            (Some(_), Some(_)) => {
                return Err(Error::config(
                    "config: \"api_key\" and \"api_key_file\" are both set; set one of them",
                ));
            }
            (Some(key), None) => KeySource::Given(key),
            (None, Some(path)) => KeySource::File(path),
            (None, None) => key_from_environment(key_variable)?,
        };
        Ok(config)
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
        for setting in settings("options", Status::Argument, text)? {
            if !options.take(&setting)? {
                return Err(setting.unknown());
            }
        }
        Ok(options)
    }

    /// Whether the host sends credentials in a header of its own, so that no key is needed.
    pub fn has_credentials(&self) -> bool {
        self.credentials().next().is_some()
    }

    /// The credentials in such headers, without the scheme before them.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(|(name, _)| ["authorization", "api-key", "x-api-key"].contains(&name.as_str()))
            .filter_map(|(_, value)| value.to_str().ok()?.split(' ').next_back())
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
                    self.headers.retain(|(known, _)| *known != name);
                    self.headers.push((name, value));
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

/// What is to be done with days that are over.
#[derive(Debug, Clone, Default)]
pub struct Maintenance {
    /// How many days they are kept; for ever without it.
    pub retention_days: Option<i64>,
    /// After how many days they are compressed; never without it.
    pub compress_after_days: Option<i64>,
    /// The text of the key that signs the log, if that isn't its own.
    pub key: Option<Secret>,
    /// Where what was signed last is remembered.
    pub guard_file: Option<PathBuf>,
}

impl Maintenance {
    /// Reads its options; without a text there are none.
    pub fn parse(text: Option<&str>) -> Result<Maintenance, Error> {
        const MAX_DAYS: u64 = 36_500;
        let mut wanted = Maintenance::default();
        for setting in settings("options", Status::Argument, text.unwrap_or("{}"))? {
            let days = || Ok(i64::try_from(setting.integer(1, MAX_DAYS)?).ok());
            match setting.key.as_str() {
                "retention_days" => wanted.retention_days = days()?,
                "compress_after_days" => wanted.compress_after_days = days()?,
                "key_file" => wanted.key = setting.key_file()?,
                "guard_file" => {
                    wanted.guard_file = setting.or_null(Setting::text)?.map(PathBuf::from);
                }
                _ => {
                    return Err(setting.error(
                        "is not a known key; there are \"retention_days\", \
                         \"compress_after_days\", \"key_file\" and \"guard_file\"",
                    ));
                }
            }
        }
        Ok(wanted)
    }
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

/// The bundled roots and those of a PEM file.
fn roots_with(path: &str) -> Result<RootCerts, String> {
    let text = std::fs::read(path).map_err(|error| format!("can't be read: {error}"))?;
    let mut roots: Vec<Certificate<'static>> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect();
    let bundled = roots.len();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(format!("holds no PEM that can be read: {error}")),
        }
    }
    if roots.len() == bundled {
        return Err("holds no certificate; it must hold some in PEM".into());
    }
    Ok(RootCerts::from(roots))
}

/// An HTTP proxy.
fn proxy_to(url: &str) -> Result<Proxy, &'static str> {
    let wrong = "must be \"env\", null or a URL such as \"http://user:password@host:3128\"";
    // ureq panics over a SOCKS proxy, which it was built without.
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(wrong);
    }
    Proxy::new(url).map_err(|_| wrong)
}

/// The proxy that curl's users set: by the scheme of the request, or for all.
fn proxy_from_environment(url: &Uri) -> Result<Option<Proxy>, Error> {
    if sys::is_privileged() {
        return Ok(None);
    }
    let value = |names: &[&'static str]| {
        let set = |name: &&'static str| Some((*name, std::env::var(name).ok()?));
        names
            .iter()
            .find_map(set)
            .filter(|(_, value)| !value.is_empty())
    };
    // Upper-case HTTP_PROXY isn't read: in a CGI program a request's header sets it.
    let names: &[&str] = match url.scheme_str() {
        Some("https") => &["https_proxy", "HTTPS_PROXY"],
        _ => &["http_proxy"],
    };
    let Some((name, proxy)) = value(names).or_else(|| value(&["all_proxy", "ALL_PROXY"])) else {
        return Ok(None);
    };
    let exempt = value(&["no_proxy", "NO_PROXY"])
        .map(|(_, hosts)| hosts)
        .unwrap_or_default();
    if is_exempt(url.host().unwrap_or_default(), &exempt) {
        return Ok(None);
    }
    proxy_to(&proxy).map(Some).map_err(|_| {
        Error::config(format!(
            "the environment variable {name} must be the URL of an HTTP proxy"
        ))
    })
}

/// Whether `no_proxy` names a host: by itself, by a domain above it (with or without a leading
/// dot), by a block of addresses, or by "*". As curl reads it.
fn is_exempt(host: &str, no_proxy: &str) -> bool {
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    no_proxy
        .split([',', ' '])
        .filter(|pattern| !pattern.is_empty())
        .any(|pattern| {
            let pattern = pattern
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_ascii_lowercase();
            let domain = pattern.trim_start_matches('.');
            if pattern == "*" || host == domain {
                return true;
            }
            match (host.parse::<IpAddr>(), domain.split_once('/')) {
                (Ok(address), Some((block, bits))) => {
                    is_in_block(address, block, bits).unwrap_or(false)
                }
                (Ok(address), None) => domain.parse() == Ok(address),
                (Err(_), _) => host
                    .strip_suffix(domain)
                    .is_some_and(|above| above.ends_with('.')),
            }
        })
}

fn is_in_block(address: IpAddr, block: &str, bits: &str) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    let (address, block, width) = match (address, block.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(block)) => (
            u128::from(address.to_bits()),
            u128::from(block.to_bits()),
            32u32,
        ),
        (IpAddr::V6(address), IpAddr::V6(block)) => (address.to_bits(), block.to_bits(), 128),
        _ => return None,
    };
    let differing = 128 - (address ^ block).leading_zeros();
    width.checked_sub(bits).map(|free| differing <= free)
}

/// The URL that requests go to.
fn endpoint(base_url: &str, allow_http: bool) -> Result<Uri, Error> {
    let refuse = |what: &str| {
        // The URL isn't repeated: a mistaken one may hold a password.
        Err(Error::config(format!(
            "config: \"base_url\" {what}; it must look like \"https://openrouter.ai/api/v1\""
        )))
    };
    if base_url.contains(['?', '#']) {
        return refuse("has a query or a fragment");
    }
    let full = format!("{}/chat/completions", base_url.trim_end_matches('/'));
    let Ok(uri) = full.parse::<Uri>() else {
        return refuse("isn't a URL");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse("has no scheme or no host");
    };
    let host = authority.host();
    if authority.as_str().contains('@') {
        return refuse("holds a user name or a password (give a key by \"api_key\")");
    }
    if host.is_empty() || host.len() > 253 {
        return refuse("has a host of no length or of more than 253 characters");
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_err()) {
        return refuse("has a host in brackets that isn't an IPv6 address");
    }
    // The parser takes "host:" and "host:99999" for a host without a port.
    let port = authority.as_str()[host.len()..].strip_prefix(':');
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return refuse("has a port that isn't from 1 to 65535");
    }
    match scheme {
        "https" => Ok(uri),
        "http" if allow_http || is_loopback(host) => Ok(uri),
        "http" => refuse("sends the key unencrypted (set \"allow_http\" to true to allow it)"),
        _ => refuse("has a scheme other than https and http"),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
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

/// The settings in a JSON object, whose errors name `place` and have that status.
pub fn settings(place: &'static str, status: Status, text: &str) -> Result<Vec<Setting>, Error> {
    let members =
        json::members(text).map_err(|error| Error::new(status, format!("{place}: {error}")))?;
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
        Error::new(self.status, format!("{}: {key} {allowed}", self.place))
    }

    /// Refuses a key that isn't known.
    pub fn unknown(&self) -> Error {
        self.error("is not a known key")
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

    fn flag(&self) -> Result<bool, Error> {
        match self.value.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error("must be true or false")),
        }
    }

    fn integer(&self, min: u64, max: u64) -> Result<u64, Error> {
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
        const LONGEST_ORIGIN: usize = 200;
        if self.value.as_str() == "false" {
            return Ok(None);
        }
        if !self.value.starts_with('{') {
            return Err(self.error("must be an object or false"));
        }
        let mut integrity = Integrity::default();
        for setting in settings("config: \"integrity\"", self.status, &self.value)? {
            match setting.key.as_str() {
                "key_file" => integrity.key = setting.key_file()?,
                "guard_file" => {
                    integrity.guard_file = setting.or_null(Setting::text)?.map(PathBuf::from);
                }
                "origin" => {
                    integrity.origin = setting.or_null(Setting::text)?;
                    let unusable = |c: char| c == '+' || c.is_whitespace() || c.is_control();
                    if integrity.origin.as_ref().is_some_and(|origin| {
                        origin.len() > LONGEST_ORIGIN || origin.contains(unusable)
                    }) {
                        return Err(setting.error(format_args!(
                            "must be at most {LONGEST_ORIGIN} bytes without white space and plus"
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
                _ => return Err(setting.unknown()),
            }
        }
        Ok(Some(integrity))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_read_as_curl_reads_it() {
        for (host, list, exempt) in [
            ("a.internal.test", "internal.test", true),
            ("a.internal.test", ".internal.test", true),
            ("internal.test", ".internal.test", true),
            ("myinternal.test", "internal.test", false),
            ("A.Internal.Test", "x, INTERNAL.test", true),
            ("example.com", "*", true),
            ("example.com", "", false),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("11.1.2.3", "10.0.0.0/8", false),
            ("10.1.2.3", "10.1.2.3/32", true),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.0.0.0/99", false),
            ("10.1.2.3", "2.3", false),
            ("[::1]", "::1", true),
            ("[::1]", "[::1]", true),
            ("[fd00::1]", "fd00::/8", true),
        ] {
            assert_eq!(is_exempt(host, list), exempt, "{host} by {list:?}");
        }
    }
}
