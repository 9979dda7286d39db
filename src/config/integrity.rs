//! How a log is sealed, and who vouches for it.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

use super::secret::{Secret, key_file};
use crate::error::Error;
use crate::format::note::{MAX_NAME, is_log_name};
use crate::format::policy::{self, Policy};
use crate::server::{self, Proxy};
use crate::settings::Setting;

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

/// A policy, and where its witnesses are asked.
fn policy_file(setting: &Setting) -> Result<(Policy, Vec<Option<Place>>), Error> {
    let path = setting.path()?;
    let policy = read_policy(&path).map_err(|wrong| setting.error(wrong))?;
    let place = |url: &Option<String>| match url.as_deref().map(server::witness) {
        None => Ok(None),
        Some(Ok(url)) => Ok(Some(Place { url, proxy: None })),
        Some(Err(wrong)) => Err(setting.error(format_args!("names a witness whose URL {wrong}"))),
    };
    let witnesses = policy.witnesses().iter();
    let places: Result<Vec<_>, Error> = witnesses.map(|witness| place(&witness.url)).collect();
    let places = places?;
    if places.iter().all(Option::is_none) {
        return Err(setting.error("names no witness with a URL, so none could be asked"));
    }
    Ok((policy, places))
}

/// How the log is to be sealed, if it is.
pub(super) fn integrity(setting: &Setting) -> Result<Option<Integrity>, Error> {
    /// Behind it come a dash and eight digits.
    const LONGEST_ORIGIN: usize = MAX_NAME - 9;
    if setting.json() == "false" {
        return Ok(None);
    }
    if !setting.json().starts_with('{') {
        return Err(setting.error("must be an object or false"));
    }
    let mut integrity = Integrity::default();
    let mut policy = None;
    let (mut required, mut interval) = (false, Duration::from_secs(60));
    for setting in setting.members("\"integrity\": ")? {
        match setting.key.as_str() {
            "key_file" => integrity.key = key_file(&setting)?,
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
            "witness_policy" => policy = setting.or_null(policy_file)?,
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
