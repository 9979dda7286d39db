//! Whether a log is what was sealed. Reads only: no lock, no right but reading, a copy will do.
//!
//! 1. The guard, the kept checkpoints, and the directory's own are read; each of the last must be
//!    signed by the key.
//! 2. The tree is built again from its entries, and compared with every tile, and with every root
//!    that is known.
//! 3. On the way, every line of every file is hashed and compared with its entry (`align`).
//! 4. What else lies there is accounted for, and the tree looked at again: maintenance that runs
//!    meanwhile says there what it removes.
//!
//! Tree and files are read from front to back, so memory stays flat, and once; but a day's files twice that
//! has lines which aren't sealed, to compare the ids. What can't be read is a finding like any other.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use super::hashed::Queue;
use super::replay::Run;
use super::report::{Class, Findings, Report};
use super::source::{self, Directory, Files, TREE, end_of_named};
use super::stamps::{DIRECTORY, Found, Names};
use super::tree::{Entries, own_checkpoints, unsigned_size};
use super::witnessed::{self, Witnessed, key_by};
use crate::config::read_policy;
use crate::error::{Error, Status};
use crate::format::checkpoint::{self, Checkpoint, notes};
use crate::format::merkle::Edge;
use crate::format::note::Verifier;
use crate::format::policy::Policy;
use crate::format::tiles::WIDTH;
use crate::settings::{Setting, settings};

/// How much is read of the end of a guard. A logger reads no more either.
const GUARD: u64 = 16 << 20;

/// How much is read of the end of a file of kept checkpoints.
const CHECKPOINTS: u64 = 4 << 20;

/// How long all time-stamped notes may be together.
const STAMPED: usize = 16 << 20;

/// What the log is compared with, beside itself.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The public key's text. Without it that of the directory is taken on faith.
    pub vkey: Option<String>,
    /// The guard file, in which the last size and root stand.
    pub guard: Option<PathBuf>,
    /// Files with checkpoints that were kept elsewhere.
    pub checkpoints: Vec<PathBuf>,
    /// The file with the policy: whose signatures are asked for.
    pub policy: Option<PathBuf>,
    /// The directory is a copy that was taken file by file while the log was written: it's verified up to
    /// the last checkpoint that it has the entries of, and what is behind that is no finding.
    pub copy: bool,
}

impl Options {
    /// Reads them from a JSON object.
    pub fn parse(text: &str) -> Result<Options, Error> {
        let mut options = Options::default();
        for setting in settings("options: ", Status::Argument, text)? {
            match setting.key.as_str() {
                "guard_file" => options.guard = setting.or_null(Setting::text)?.map(PathBuf::from),
                "policy_file" => {
                    options.policy = setting.or_null(Setting::text)?.map(PathBuf::from)
                }
                "checkpoints" => options.checkpoints = setting.paths()?,
                "copy" => options.copy = setting.flag()?,
                _ => take_key(&mut options.vkey, &setting)?,
            }
        }
        Ok(options)
    }
}

pub(super) fn take_key(vkey: &mut Option<String>, setting: &Setting) -> Result<(), Error> {
    let given = match setting.key.as_str() {
        "vkey" => setting.or_null(Setting::text)?,
        "vkey_file" => match setting.or_null(Setting::text)? {
            Some(path) => Some(text_of(Path::new(&path))?),
            None => None,
        },
        _ => return Err(setting.unknown()),
    };
    if vkey.is_some() && given.is_some() {
        return Err(setting.error("is the second key; set \"vkey\" or \"vkey_file\""));
    }
    *vkey = vkey.take().or(given);
    Ok(())
}

/// A public key's text from a file that was named.
pub fn text_of(path: &Path) -> Result<String, Error> {
    let bytes = end_of_named(path, 4096)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A size and a root that somebody knows, and who.
pub(super) struct Known {
    pub(super) who: String,
    /// Not the directory itself.
    pub(super) outside: bool,
    /// The file of the tree that it's in, if it's one of its own.
    pub(super) path: String,
    pub(super) checkpoint: Checkpoint,
}

impl Known {
    /// What the log says itself.
    pub(super) fn own(checkpoint: Checkpoint) -> Known {
        Known {
            who: format!("the log's own checkpoint of size {}", checkpoint.size),
            outside: false,
            path: String::new(),
            checkpoint,
        }
    }

    /// What witnesses have signed.
    pub(super) fn by_witnesses(checkpoint: Checkpoint) -> Known {
        Known {
            who: format!(
                "the checkpoint of size {} that witnesses signed",
                checkpoint.size
            ),
            outside: true,
            path: String::new(),
            checkpoint,
        }
    }
}

/// What the guard and the kept checkpoints know. Where the key is the directory's own, it's found that
/// they don't know it: it may have been replaced.
pub(super) fn remembered(
    directory: &Directory<'_>,
    options: &Options,
    verifier: &Verifier,
    key_given: bool,
    findings: &mut Findings,
) -> Result<Vec<Known>, Error> {
    let mut known = Vec::new();
    let mut stranger = |message: String| {
        if key_given {
            return Err(Error::argument(message));
        }
        findings.tree(Class::Forged, "vkey", message);
        Ok(())
    };
    let remember = |who: String, checkpoint| Known {
        who,
        outside: true,
        path: String::new(),
        checkpoint,
    };
    if let Some(path) = &options.guard {
        let who = format!("the guard {}", path.display());
        let guard = end_of_named(path, GUARD)?;
        let name = guard_name(&guard);
        let guard = guard_lines(&guard, verifier.name());
        let guarded = Checkpoint::guarded(&guard, verifier.name())
            .map_err(|error| Error::argument(format!("{who}: {error}")))?;
        let named = named_guard(directory);
        match guarded {
            _ if named.is_some() && named != name => stranger(format!(
                "{who} isn't the log's, which is called {}",
                named.unwrap_or_default()
            ))?,
            Some(checkpoint) => known.push(remember(who, checkpoint)),
            None => stranger(format!("{who} knows nothing of {}", verifier.name()))?,
        }
    }
    for path in &options.checkpoints {
        let text = end_of_named(path, CHECKPOINTS)?;
        let kept = notes(&text);
        let who = format!("the kept checkpoint {}", path.display());
        if kept.is_empty() {
            return Err(Error::argument(format!("{who} isn't a signed note")));
        }
        for note in kept {
            match Checkpoint::open(note, verifier) {
                Ok(checkpoint) => known.push(remember(who.clone(), checkpoint)),
                Err(error) => stranger(format!("{who} {error}"))?,
            }
        }
    }
    Ok(known)
}

/// A checkpoint that somebody has time-stamped: the path below `.integrity`, and the note.
type StampedNote = (String, String);

/// The checkpoints that were time-stamped, and how many time stamps there are. Who made them isn't asked.
fn stamped_notes(directory: &Directory<'_>, findings: &mut Findings) -> (Vec<StampedNote>, u64) {
    let names = Names::of(directory).unwrap_or_else(|error| {
        findings.tree(Class::Unreadable, DIRECTORY, error.to_string());
        Names::default()
    });
    let (mut too_many, count) = (names.too_many, names.count() as u64);
    let (mut notes, mut length) = (Vec::new(), 0);
    for Found { path, stamp } in names.read(directory) {
        let note = match stamp {
            Ok(stamp) => stamp.note,
            Err(error) => {
                findings.tree(Class::Unreadable, &path, error);
                continue;
            }
        };
        length += note.len();
        if length > STAMPED {
            too_many = true;
            break;
        }
        notes.push((path, note));
    }
    if too_many {
        let read = notes.len();
        let message = format!(
            "there are more time stamps than are read, of which {read} were: move some of them elsewhere"
        );
        findings.tree(Class::Unreadable, DIRECTORY, message);
    }
    (notes, count)
}

/// What they know. One that the key hasn't signed is found.
fn stamped(notes: Vec<StampedNote>, verifier: &Verifier, findings: &mut Findings) -> Vec<Known> {
    let mut known = Vec::new();
    for (path, note) in notes {
        match Checkpoint::open(&note, verifier) {
            Ok(checkpoint) => known.push(Known {
                who: format!("its checkpoint of size {}", checkpoint.size),
                // Whoever stamped it saw it, when that was.
                outside: true,
                path,
                checkpoint,
            }),
            Err(error) => findings.tree(Class::Forged, &path, format!("its checkpoint {error}")),
        }
    }
    known
}

/// The newest checkpoint that the policy's quorum has signed, of the log's own and those kept.
pub(super) fn by_witnesses(
    directory: &Directory<'_>,
    options: &Options,
    verifier: &Verifier,
    policy: &Policy,
    findings: &mut Findings,
) -> Result<Option<(Checkpoint, Witnessed)>, Error> {
    let mut files = Vec::new();
    for name in ["heads", "checkpoint"] {
        // What can't be read of them was found.
        let bytes = directory.notes(name).ok().flatten();
        files.push((name.to_owned(), bytes.unwrap_or_default()));
    }
    for path in &options.checkpoints {
        files.push((path.display().to_string(), end_of_named(path, CHECKPOINTS)?));
    }
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (&name[..], &bytes[..]))
        .collect();
    Ok(witnessed::find(&files, verifier, policy, findings))
}

/// The name of the guard that the log says it has. Version 1 didn't say it.
fn named_guard(directory: &Directory<'_>) -> Option<String> {
    /// A name is far shorter.
    const MOST: u64 = 256;
    let named = directory.beginning("guarded", MOST).ok()??;
    let named = String::from_utf8_lossy(&named).trim_end().to_owned();
    (!named.is_empty()).then_some(named)
}

/// The name that a guard gives itself.
fn guard_name(guard: &[u8]) -> Option<String> {
    let lines = guard_lines(guard, checkpoint::GUARD);
    checkpoint::guard_name(&lines).map(str::to_owned)
}

/// The whole lines of a guard that are about a log.
fn guard_lines(guard: &[u8], origin: &str) -> String {
    let about = |line: &&[u8]| line.starts_with(origin.as_bytes()) && line.ends_with(b"\n");
    let lines = guard.split_inclusive(|byte| *byte == b'\n').filter(about);
    lines
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect()
}

/// The last checkpoint of which a copy has all entries. Each file of the tree is as it was at some moment,
/// and only grows.
pub(super) fn reached(directory: &Directory<'_>, own: &[Checkpoint]) -> Result<Checkpoint, Error> {
    let mut own: Vec<&Checkpoint> = own.iter().collect();
    own.sort_by_key(|own| own.size);
    let all = Entries::read(directory, own.last().map_or(0, |own| own.size));
    let has = |checkpoint: &Checkpoint, whole: u64| {
        let entries = all.first(checkpoint.size);
        (whole..checkpoint.size.div_ceil(WIDTH)).all(|number| entries.tile(number).is_ok())
    };
    let mut last = None;
    for next in own {
        let whole = last.map_or(0, |last: &Checkpoint| last.size / WIDTH);
        if !has(next, whole) {
            return last.cloned().ok_or_else(|| {
                let what = format!(
                    "the copy lacks some of the tree's first {} entries, and has no checkpoint of \
                     less: copy {TREE} again",
                    next.size
                );
                Error::new(Status::NotFound, what)
            });
        }
        last = Some(next);
    }
    last.cloned().ok_or_else(|| {
        let what = format!("the copy has no checkpoint by the log's key: copy {TREE} again");
        Error::new(Status::NotFound, what)
    })
}

/// Verifies the log in a directory. `progress` is told how many entries of how many are done.
/// What is found is in the report; a failure means that there is no verdict.
pub fn verify(
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
    cancelled: &dyn Fn() -> bool,
) -> Result<Report, Error> {
    let files = source::open(path)?;
    let queue = Queue::default();
    queue.with_helper(|| verify_in(&files, options, progress, cancelled, &queue))
}

/// The same, of files in memory.
#[cfg(test)]
pub fn verify_files(files: &dyn Files, options: &Options) -> Result<Report, Error> {
    verify_in(files, options, &mut |_, _| {}, &|| false, &Queue::default())
}

/// The same, of files wherever they are, and with whatever help the queue has.
pub fn verify_in(
    files: &dyn Files,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
    cancelled: &dyn Fn() -> bool,
    queue: &Queue,
) -> Result<Report, Error> {
    let directory = Directory::new(files, cancelled);
    let mut findings = Findings::default();
    let policy = options.policy.as_deref().map(read_policy).transpose();
    let policy = policy.map_err(|wrong| Error::argument(format!("the policy {wrong}")))?;
    let (verifier, key_given) = match key_by(&directory, options.vkey.as_deref(), policy.as_ref()) {
        Ok((verifier, given)) => (Some(verifier), given),
        Err(error) if error.status == Status::Tampered && !options.copy => {
            // Nothing that is signed can be believed; the rest can still be compared.
            findings.tree(Class::Unreadable, "vkey", error.message);
            (None, false)
        }
        Err(error) if error.status == Status::Tampered => {
            return Err(Error::new(Status::NotFound, error.message));
        }
        Err(error) => return Err(error),
    };
    // First the guard, and what was stamped: of a log that is being written they would run ahead of a tree read before.
    let mut known = match &verifier {
        Some(verifier) => remembered(&directory, options, verifier, key_given, &mut findings)?,
        None => Vec::new(),
    };
    let (stamped_notes, timestamps) = stamped_notes(&directory, &mut findings);
    let own = own_checkpoints(&directory, verifier.as_ref(), options.copy, &mut findings);
    let newest = match options.copy {
        true => Some(reached(&directory, &own)?),
        false => own.iter().max_by_key(|own| own.size).cloned(),
    };
    let mut report = Report {
        origin: match (&verifier, &newest) {
            (Some(verifier), _) => verifier.name().to_owned(),
            (None, Some(newest)) => newest.origin.clone(),
            (None, None) => String::new(),
        },
        key_given,
        remembered: known.len() as u64,
        timestamps,
        ..Report::default()
    };
    if let (Some(policy), Some(verifier)) = (&policy, &verifier) {
        let found = by_witnesses(&directory, options, verifier, policy, &mut findings)?;
        if let Some((checkpoint, witnessed)) = found {
            known.push(Known::by_witnesses(checkpoint));
            report.witnessed = Some(witnessed);
        }
    }
    known.extend(own.into_iter().map(Known::own));
    if let Some(verifier) = &verifier {
        known.extend(stamped(stamped_notes, verifier, &mut findings));
    }

    // A crash between the guard and the checkpoint leaves the guard ahead. Then the entries are
    // there, and must give its root.
    let sizes = known.iter().map(|known| known.checkpoint.size);
    let mut ahead = sizes.max().unwrap_or(0);
    if let Some(newest) = newest.as_ref().filter(|_| options.copy) {
        report.beyond = ahead - newest.size;
        ahead = newest.size;
        known.retain(|known| known.checkpoint.size <= ahead);
        let outside = |known: &&Known| known.outside && known.path.is_empty();
        report.remembered = known.iter().filter(outside).count() as u64;
    }
    let reached = ahead == 0
        || Entries::read(&directory, ahead)
            .tile((ahead - 1) / WIDTH)
            .is_ok();
    report.size = match (reached, &newest) {
        (true, _) => ahead,
        (false, Some(newest)) => newest.size,
        (false, None) => 0,
    };
    if newest.is_none() && report.size == 0 {
        // What lies there is compared all the same: it was found that none of it is signed.
        report.size = unsigned_size(&directory);
    }

    let entries = Entries::read(&directory, report.size);
    let mut run = Run {
        directory: &directory,
        queue,
        verifier,
        policy: policy.as_ref(),
        newest,
        copy: options.copy,
        settled: entries.settled(),
        report,
        findings,
        known,
        edge: Edge::default(),
        levels: Vec::new(),
        days: Vec::new(),
        names: BTreeMap::new(),
        open: VecDeque::new(),
        segment: None,
        lost: false,
    };
    run.find_what_is_ahead();
    run.tree(entries, progress)?;
    run.finish()
}
