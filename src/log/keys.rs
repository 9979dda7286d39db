//! The key that signs the Merkle log.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use uuid::Uuid;
use zeroize::Zeroizing;

use super::directory::Directory;
use super::disk::{Folder, if_there, temporary_name};
use crate::error::Error;
use crate::format::note::{Signer, is_in_name};
use crate::sys::{self, RandomBytes, SecretBytes};

/// The key's name in `.state`, where none is given.
const NAME: &str = "key";

/// A key's text is far shorter.
const LONGEST: u64 = 4096;

/// The key that a text is.
fn parse(text: &[u8]) -> io::Result<Signer> {
    Signer::parse(&String::from_utf8_lossy(text))
        .map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))
}

/// The log's own key in `.state`, if it has one.
fn own(state: &Folder) -> io::Result<Option<Signer>> {
    let bytes = if_there(state.read(NAME, LONGEST))?.map(Zeroizing::new);
    bytes.map(|bytes| parse(&bytes)).transpose()
}

/// Makes a key of that name in `.state`, unless another process was faster: then it's that one's.
fn make(state: &Folder, name: &str) -> io::Result<Signer> {
    let signer = random(name)?;
    let temporary = temporary_name();
    let made = state.write(&temporary, signer.text().as_bytes());
    let made = made.and_then(|file| file.sync_all());
    let made = made.and_then(|()| state.link(&temporary, state, NAME));
    let _ = state.remove(&temporary);
    match made {
        Ok(()) => {
            // Before anything is signed with it.
            state.sync()?;
            Ok(signer)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            own(state)?.ok_or_else(|| io::Error::other("the key was removed while it was made"))
        }
        Err(error) => Err(error),
    }
}

/// The key that signs, which must be the one that signed before, if any did.
///
/// `given` is its text, `origin` what a new log is to be called, `vkey` the public key of what was signed.
pub fn signer(
    directory: &Directory,
    given: Option<&SecretBytes>,
    origin: Option<&str>,
    vkey: Option<&str>,
) -> Result<Signer, Error> {
    let config = |wrong: String| Error::config(format!("\"integrity\": {wrong}"));
    let failed = |error: io::Error| {
        let path = directory.path().display();
        Error::log(format!("the log's own key in {path}/.state: {error}"))
    };
    let signer = match given {
        Some(key) => {
            parse(key.as_bytes()).map_err(|error| config(format!("\"key_file\": {error}")))?
        }
        None => match own(directory.state()).map_err(failed)? {
            Some(signer) => signer,
            None => {
                if let Some(vkey) = vkey {
                    return Err(config(format!(
                        "the log is signed with {}, whose private key isn't in .state; give it by \
                         \"key_file\", or begin another directory",
                        vkey.trim_end()
                    )));
                }
                let name = new_name(origin, directory.path());
                make(directory.state(), &name).map_err(|error| match error.kind() {
                    io::ErrorKind::InvalidInput => config(format!("\"origin\": {error}")),
                    _ => failed(error),
                })?
            }
        },
    };
    match vkey {
        Some(vkey) if vkey.trim_end() != signer.verifier().to_string() => Err(config(format!(
            "the log is signed with {}, and the key given is {}; give the one that it was begun with, \
             or begin another directory",
            vkey.trim_end(),
            signer.verifier()
        ))),
        _ => Ok(signer),
    }
}

/// Whether a log whose key is called `name` has this origin.
pub fn check_origin(name: &str, origin: Option<&str>) -> Result<(), Error> {
    match origin {
        Some(origin) if !is_called(name, origin) => Err(Error::config(format!(
            "\"integrity\": \"origin\" is {origin:?}, and the log's key is called \
             {name:?}; leave it out, or begin another directory"
        ))),
        _ => Ok(()),
    }
}

/// Makes a key in a new file that only its owner may read, called `name` or, without one, after the
/// machine. A file that is there is never overwritten.
pub fn make_file(path: &Path, name: Option<&str>) -> Result<Signer, Error> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::argument(error.to_string()),
        _ => Error::log(format!("{}: {error}", path.display())),
    };
    let name = name.map_or_else(|| new_name(None, Path::new("audit_logs")), str::to_owned);
    let signer = random(&name).map_err(failed)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let made = options.open(path).and_then(|mut file| {
        file.write_all(signer.text().as_bytes())?;
        file.sync_all()
    });
    made.map_err(failed)?;
    Ok(signer)
}

fn random(name: &str) -> io::Result<Signer> {
    let mut random = RandomBytes::new();
    let mut seed = Zeroizing::new([0; 32]);
    for half in seed.chunks_exact_mut(16) {
        half.copy_from_slice(&random.take()?);
    }
    Signer::from_seed(name, &seed)
        .map_err(|wrong| io::Error::new(io::ErrorKind::InvalidInput, wrong))
}

/// A name for a log that is made: its origin if one is given, else where it is; and a random end, so
/// that no two logs are called the same.
fn new_name(origin: Option<&str>, log: &Path) -> String {
    let origin = origin.map_or_else(
        || {
            let last = log.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{}/{last}", sys::host_name());
            name.replace(|c| !is_in_name(c), "-")
        },
        str::to_owned,
    );
    let end = Uuid::new_v4().simple().to_string();
    format!("{origin}-{}", &end[..8])
}

/// Whether a key's name is an origin, or one with a random end.
fn is_called(name: &str, origin: &str) -> bool {
    let end = name.strip_prefix(origin);
    end.is_some_and(|end| {
        end.is_empty()
            || end.strip_prefix('-').is_some_and(|end| {
                end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_s_name_is_its_origin_and_a_random_end() {
        let path = Path::new("/var/log/audit logs+1");
        let name = new_name(Some("audit.example/llm"), path);
        assert!(is_called(&name, "audit.example/llm"), "{name}");
        assert_ne!(name, new_name(Some("audit.example/llm"), path));
        let name = new_name(None, path);
        assert!(name.contains("/audit-logs-1-"), "{name}");
        assert!(crate::format::note::is_name(&name), "{name}");
        assert!(is_called("a", "a"));
        for (name, origin) in [("a-0123456", "a"), ("ab", "a"), ("a-0123456g", "a")] {
            assert!(!is_called(name, origin), "{name}");
        }
    }
}
