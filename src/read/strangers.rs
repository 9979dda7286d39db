//! What else a reader's glob finds: compressed twins, and files under names that aren't the log's.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::align::{Day, Gone};
use super::lines::Lines;
use super::report::{Class, Findings, Report};
use super::source::{Bytes, Directory, Listing, not_the_file_s};
use crate::error::Error;
use crate::format::merkle::Hash;

/// Longer lines are walked, not held: nothing of them is needed but their digests.
const HELD: usize = 128 << 10;

/// Compares a plain file with the compressed one of its name. Maintenance that was killed leaves both,
/// alike; lines that came late may stand behind what was compressed.
pub fn compare_twins(
    directory: &Directory,
    day: &mut Day,
    findings: &mut Findings,
    report: &mut Report,
) -> Result<(), Error> {
    let name = day.name();
    let (plain, compressed) = (name.file_name(), name.compressed().file_name());
    let mut found = |class, file: &str, message: String| match day.is_sealed() {
        true => findings.add(class, file, 0, 0, message),
        false => report.unreadable.add(file, message),
    };
    let opened = directory.plain(name, 0);
    let Some(opened) = or_found(opened, |why| found(Class::Unreadable, &plain, why))?.flatten()
    else {
        return Ok(());
    };
    let twin = directory.compressed(name, 0);
    let Some(twin) = or_found(twin, |why| found(Class::Unreadable, &compressed, why))?.flatten()
    else {
        return Ok(());
    };
    let same = begins_with(opened, twin);
    if or_found(same, |why| found(Class::Unreadable, &compressed, why))? == Some(false) {
        let message = format!("it stands beside {plain}, and holds something else");
        found(Class::Twin, &compressed, message);
    }
    Ok(())
}

/// What was read; if it couldn't be, why is handed over.
fn or_found<T>(read: io::Result<T>, found: impl FnOnce(String)) -> Result<Option<T>, Error> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) => match not_the_file_s(&error) {
            Some(error) => Err(error),
            None => {
                found(format!("it can't be read: {error}"));
                Ok(None)
            }
        },
    }
}

/// Whether a source begins with all that another holds, or is empty.
fn begins_with(mut source: Bytes, mut beginning: Bytes) -> io::Result<bool> {
    let (mut one, mut other) = (vec![0; HELD], vec![0; HELD]);
    let mut empty = true;
    loop {
        let count = read_full(&mut beginning, &mut other)?;
        let there = read_full(&mut source, &mut one[..count.max(1)])?;
        if empty && there == 0 {
            // It was made by a process that saw the compressed one a moment too late.
            io::copy(&mut beginning, &mut io::sink())?;
            return Ok(true);
        }
        empty = false;
        if count == 0 {
            return Ok(true);
        }
        if one[..there] != other[..count] {
            return Ok(false);
        }
    }
}

fn read_full(from: &mut Bytes, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Says of files that are gone which stranger holds what was sealed of them: logrotate and others rename.
pub fn explain(
    directory: &Directory,
    listing: &Listing,
    days: &[Day],
    findings: &mut Findings,
) -> Result<(), Error> {
    let gone: Vec<_> = days
        .iter()
        .filter_map(|day| Some((day.name().file_name(), day.gone()?)))
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    for stranger in &listing.strangers {
        let holds = |gone: &Gone| {
            let held = directory
                .stranger(stranger)
                .and_then(|bytes| bytes.map_or(Ok(false), |bytes| holds(bytes, gone)));
            Ok(or_found(held, |_| {})? == Some(true))
        };
        for (file, gone) in &gone {
            if holds(gone)? {
                let more = format!("; {stranger} holds them: the file was renamed");
                findings.explain(file, &more);
                break;
            }
        }
    }
    Ok(())
}

/// Whether a source begins with the lines that were sealed of a file.
fn holds(source: Bytes, gone: &Gone) -> io::Result<bool> {
    let mut lines = Lines::holding(source, 0, HELD);
    let mut all = Sha256::new();
    let mut count = 0;
    while count < gone.lines {
        let Some(line) = lines.next()? else {
            return Ok(false);
        };
        if line.is_spaces() {
            continue;
        }
        let digest = line.digest();
        if count == 0 && digest != gone.first {
            return Ok(false);
        }
        all.update(digest);
        count += 1;
    }
    Ok(Hash::from(all.finalize()) == gone.all)
}
