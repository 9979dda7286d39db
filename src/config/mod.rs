//! The configuration: one JSON text, checked whole before anything is made from it.

mod call;
mod integrity;
mod secret;

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

use crate::error::{Error, Status};
use crate::format::entry::MAX_DETAILS;
use crate::hash::Hashing;
use crate::json::{self, Numbers};
use crate::server::{self, Proxy, Trust};
use crate::settings::{Setting, absolute, settings};
use crate::sys;
pub use call::{CallOptions, Headers};
pub use integrity::{Integrity, Place, Witnesses, read_policy};
pub use secret::Secret;
use secret::{KeySource, read_guarded_key_file};

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
                "access" => config.group = access(&setting)?,
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
                "integrity" => config.integrity = integrity::integrity(&setting)?,
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
            (None, None) => KeySource::from_environment(key_variable)?,
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
        self.key.read()
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
                "key_file" => wanted.key = secret::key_file(&setting)?,
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

/// The group that may read the log, by its id.
fn access(setting: &Setting) -> Result<Option<u32>, Error> {
    let allowed = "must be \"owner\" or {\"group\": a name or a number}";
    if setting.json() == "\"owner\"" {
        return Ok(None);
    }
    let value: serde_json::Value =
        serde_json::from_str(setting.json()).map_err(|_| setting.error(allowed))?;
    let only = value.as_object().filter(|members| members.len() == 1);
    let group = only.and_then(|members| members.get("group"));
    let group = group.ok_or_else(|| setting.error(allowed))?;
    if let Some(name) = group.as_str() {
        let found = CString::new(name).map(|name| sys::group_id(&name));
        return match found {
            Ok(Ok(Some(id))) => Ok(Some(id)),
            Ok(Err(error)) => Err(setting.error(format_args!("can't be looked up: {error}"))),
            _ => Err(setting.error(format_args!(
                "names the group {}, which this system doesn't know",
                json::show(name)
            ))),
        };
    }
    let id = group.as_u64().and_then(|id| u32::try_from(id).ok());
    // The highest number means "no change" to chown.
    let id = id.filter(|id| *id != u32::MAX);
    id.map(Some).ok_or_else(|| setting.error(allowed))
}
