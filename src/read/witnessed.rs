//! What the witnesses of a policy say of a log.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::report::{Class, Findings};
use super::source::{Directory, TREE};
use super::tree::{Signed, key};
use crate::clock::Timestamp;
use crate::error::{Error, Status};
use crate::format::checkpoint::{Checkpoint, claimed_size, notes};
use crate::format::note::{Note, Verifier};
use crate::format::policy::Policy;

/// Clocks differ by so much.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The newest checkpoint that the quorum has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// How many entries it covers.
    pub size: u64,
    /// When the quorum was complete, by the witnesses' clocks.
    pub as_of: String,
    /// Whether that is later than now.
    pub in_future: bool,
    /// The names of those who have signed it.
    pub names: Vec<String>,
}

/// The newest of a log's own checkpoints, of these sizes, that others have signed, or the policy's quorum.
pub fn newest(
    directory: &Directory,
    verifier: &Verifier,
    policy: Option<&Policy>,
    sizes: RangeInclusive<u64>,
) -> Option<Signed> {
    let mut found: Option<Signed> = None;
    for name in ["heads", "checkpoint"] {
        let bytes = directory.notes(name).ok().flatten().unwrap_or_default();
        for note in notes(&bytes) {
            let least = found.as_ref().map_or(0, |(found, _)| found.size);
            let newer = |size| size >= least && sizes.contains(&size);
            let others = Note::parse(note).is_ok_and(|note| note.count() > 1);
            if !others || !claimed_size(note).is_some_and(newer) {
                continue;
            }
            let Ok(checkpoint) = Checkpoint::open(note, verifier) else {
                continue;
            };
            let trusted = policy.is_none_or(|policy| {
                let note = [(name, note.as_bytes())];
                find(&note, verifier, policy, &mut Findings::default()).is_some()
            });
            if trusted {
                found = Some((checkpoint, note.to_owned()));
            }
        }
    }
    found
}

/// The key of a log: the one that is given, or the policy's for it, or the directory's own. Also returns
/// whether it's from outside the directory.
pub fn key_by(
    directory: &Directory<'_>,
    given: Option<&str>,
    policy: Option<&Policy>,
) -> Result<(Verifier, bool), Error> {
    let logs = policy.map_or(&[][..], Policy::logs);
    match (given, logs) {
        (_, []) => Ok((key(directory, given)?, given.is_some())),
        (Some(_), logs) => {
            let key = key(directory, given)?;
            match logs.contains(&key) {
                true => Ok((key, true)),
                false => Err(Error::argument(format!(
                    "the policy is for other logs than that of the public key {key}"
                ))),
            }
        }
        (None, [only]) => Ok((only.clone(), true)),
        (None, logs) => {
            let own = key(directory, None)?;
            match logs.contains(&own) {
                true => Ok((own, true)),
                false => Err(Error::new(
                    Status::Tampered,
                    format!("{TREE}/vkey: {own} is none of the policy's logs"),
                )),
            }
        }
    }
}

/// A file with notes, and what it's called.
pub type Notes<'n> = (&'n str, &'n [u8]);

/// Looks for the newest checkpoint that the policy's quorum has signed. What claims to be signed by one of
/// its witnesses, and isn't, is found, as is that there is no such checkpoint.
pub fn find(
    files: &[Notes<'_>],
    log: &Verifier,
    policy: &Policy,
    findings: &mut Findings,
) -> Option<(Checkpoint, Witnessed)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for (name, bytes) in files {
        all.extend(notes(bytes).into_iter().map(|note| (*name, note)));
    }
    // The newest first: the first one that has its quorum will do.
    all.sort_by_key(|(_, note)| claimed_size(note));
    for (name, note) in all.into_iter().rev() {
        let Some((checkpoint, note)) = open(note, log) else {
            continue;
        };
        let witnesses = policy.witnesses().iter();
        let cosigned: Vec<Option<u64>> = witnesses
            .map(|witness| {
                witness.key.cosigned_at(&note).unwrap_or_else(|error| {
                    let size = checkpoint.size;
                    let witness = witness.key.name();
                    let message = format!(
                        "the checkpoint of size {size}: the signature of {witness} {error}"
                    );
                    findings.tree(Class::Forged, name, message);
                    None
                })
            })
            .collect();
        if let Some(at) = policy
            .complete_at(&cosigned)
            .filter(|_| policy.has_quorum())
        {
            let names = policy.witnesses().iter().zip(&cosigned);
            let names = names.filter(|(_, time)| time.is_some());
            let names = names.map(|(witness, _)| witness.key.name().to_owned());
            let time = UNIX_EPOCH.checked_add(Duration::from_secs(at));
            let time = time.unwrap_or(UNIX_EPOCH);
            let witnessed = Witnessed {
                size: checkpoint.size,
                as_of: Timestamp::of(time).to_string(),
                in_future: time > SystemTime::now() + TOLERANCE,
                names: names.collect(),
            };
            return Some((checkpoint, witnessed));
        }
    }
    if policy.has_quorum() {
        let message = "no checkpoint of the log is signed by the quorum of the policy".to_owned();
        findings.tree(Class::Unwitnessed, "heads", message);
    }
    None
}

/// A note with more signatures than the log's own, which has signed it.
fn open<'n>(note: &'n str, log: &Verifier) -> Option<(Checkpoint, Note<'n>)> {
    let note = Note::parse(note).ok().filter(|note| note.count() > 1)?;
    log.verify(&note).ok()?;
    let checkpoint = Checkpoint::parse(note.text)?;
    (checkpoint.origin == log.name()).then_some((checkpoint, note))
}
