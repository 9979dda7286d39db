//! Keys: where they come from, and who may see them.

use std::fmt;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::Error;
use crate::settings::Setting;
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

/// Where the API key comes from.
#[derive(Debug, Clone)]
pub(super) enum KeySource {
    /// The configuration, or the environment when the logger was made.
    Given(Secret),
    /// Read for every call: a key that is rotated is used at once.
    File(PathBuf),
    /// The environment held none when the logger was made.
    Missing {
        /// Where it was looked for.
        variable: String,
    },
}

impl KeySource {
    /// What the environment holds now.
    pub fn from_environment(variable: String) -> Result<KeySource, Error> {
        // A setuid host's environment is its caller's word.
        if sys::is_privileged() {
            return Ok(KeySource::Missing { variable });
        }
        match std::env::var_os(&variable) {
            None => Ok(KeySource::Missing { variable }),
            Some(value) if value.is_empty() => Ok(KeySource::Missing { variable }),
            Some(value) => {
                match usable_key(&Zeroizing::new(value.to_string_lossy().into_owned())) {
                    Ok(key) => Ok(KeySource::Given(key)),
                    Err(wrong) => Err(Error::config(format!(
                        "the environment variable {variable} {wrong}"
                    ))),
                }
            }
        }
    }

    /// The key of now.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
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

const MAX_KEY: usize = 8192;

/// A key as servers take it in a header.
pub(super) fn usable_key(text: &str) -> Result<Secret, &'static str> {
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
pub(super) fn read_guarded_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
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

/// The text of a signing key, from the file that is named; none for null.
pub(super) fn key_file(setting: &Setting) -> Result<Option<Secret>, Error> {
    let Some(path) = setting.or_null(Setting::text)? else {
        return Ok(None);
    };
    let key = read_guarded_key_file(Path::new(&path)).map_err(|wrong| setting.error(wrong))?;
    let text = std::str::from_utf8(&key).unwrap_or_default();
    Secret::new(text)
        .map(Some)
        .map_err(|wrong| setting.error(wrong))
}
