//! Entries with one id. Two whose lines are the same are one, which a disk that failed has made stand
//! twice; of two that differ the sealed one counts.
//!
//! Ids are kept as keyed hashes of 8 bytes, so that nobody can make two that collide, and in bounded
//! numbers.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;

use memchr::memchr;

use super::align::Tail;
use super::find::{Near, sealed_about};
use super::lines::{Lines, Seen};
use super::report::Remarks;
use super::source::{Directory, not_the_file_s};
use super::tree::{Entries, key, newest};
use crate::error::Error;
use crate::format::merkle::Hash;
pub use crate::format::merkle::Hash as Digest;
use crate::format::name::DayName;
use crate::format::tiles::{WIDTH, entries};
use crate::json::pull;

/// Lines that aren't sealed and are looked for among the sealed ones. A logger seals within seconds.
const UNSEALED: usize = 1 << 16;

/// How many ids are held at once while those that stand twice are looked for: 16 MiB.
const HELD: usize = 1 << 21;

/// The hashes of ids, by a key of this process's own.
#[derive(Default)]
pub struct Ids(RandomState);

impl Ids {
    /// That of the entry in a line; `None` if it has no id.
    pub fn of(&self, line: &[u8]) -> Option<u64> {
        // As the library writes it. Programs that log their own calls may write it otherwise.
        let plain = line.strip_prefix(br#"{"id":""#).and_then(|rest| {
            let id = &rest[..memchr(b'"', rest)?];
            (memchr(b'\\', id).is_none()).then_some(id)
        });
        if let Some(id) = plain {
            return Some(self.0.hash_one(id));
        }
        id_in(line).map(|id| self.of_id(&id))
    }

    /// That of an id.
    pub fn of_id(&self, id: &str) -> u64 {
        self.0.hash_one(id.as_bytes())
    }

    fn of_seen(&self, line: &Seen) -> Option<u64> {
        (!line.is_blank()).then(|| self.of(line.text))?
    }
}

/// The id of the entry in a line, wherever in it that stands.
pub fn id_in(line: &[u8]) -> Option<Cow<'_, str>> {
    let mut id = None;
    pull::object(line, |key, value| match key {
        "id" => {
            id = Some(value.text()?);
            Some(())
        }
        _ => value.skip(),
    })?;
    id
}

/// Reports lines that aren't sealed and have the id of a sealed entry of the same day, which is another.
/// `sealed`: where what isn't sealed begins, of each file that has any.
pub fn conflicts(
    directory: &Directory,
    sealed: &BTreeMap<DayName, Option<(u64, u64)>>,
    tails: &BTreeMap<DayName, Tail>,
    remarks: &mut Remarks,
) -> Result<(), Error> {
    let ids = Ids::default();
    let mut dates: Vec<[u8; 10]> = tails.keys().map(|name| name.date).collect();
    dates.dedup();
    for date in dates {
        let of_date = |name: &DayName| name.date == date;
        if !sealed.keys().any(of_date) {
            continue;
        }
        let mut unsealed: HashMap<u64, (Hash, DayName, u64)> = HashMap::new();
        let mut too_many = false;
        for (name, tail) in tails.iter().filter(|(name, _)| of_date(name)) {
            let (from, number) = tail.from;
            each(directory, *name, from, number, |line| {
                if unsealed.len() == UNSEALED {
                    too_many = true;
                } else if let Some(id) = ids.of_seen(line) {
                    unsealed.insert(id, (line.digest(), *name, line.number));
                }
                !too_many
            })?;
            if too_many {
                let message = format!(
                    "it has more than {UNSEALED} lines that aren't sealed: not all were compared \
                     with the sealed ones"
                );
                remarks.add(&name.file_name(), message);
                break;
            }
        }
        for (name, end) in sealed.iter().filter(|(name, _)| of_date(name)) {
            if unsealed.is_empty() {
                break;
            }
            each(directory, *name, 0, 0, |line| {
                if end.is_some_and(|(end, _)| line.start >= end) {
                    return false;
                }
                if let Some(id) = ids.of_seen(line)
                    && let Some((digest, file, number)) = unsealed.get(&id)
                    && *digest != line.digest()
                {
                    let message = format!(
                        "line {number} isn't sealed, and has the id of the entry in line {} of {}, \
                         which is another and counts",
                        line.number,
                        name.file_name()
                    );
                    remarks.add(&file.file_name(), message);
                    unsealed.remove(&id);
                }
                true
            })?;
        }
    }
    Ok(())
}

/// Which of some lines are sealed, by their digests. The oldest of them has that timestamp. Where there is
/// no tree, none is.
pub fn sealed_among(
    directory: &Directory,
    digests: &HashSet<Hash>,
    oldest: &str,
) -> Result<HashSet<Hash>, Error> {
    let mut sealed = HashSet::new();
    let Some((newest, _)) = key(directory, None)
        .ok()
        .and_then(|verifier| newest(directory, &verifier))
    else {
        return Ok(sealed);
    };
    let all = Entries::signed(directory, &newest);
    let begin = match Near::time(oldest) {
        Some(near) => sealed_about(&all, near)?,
        None => 0,
    };
    // Behind the place that the time gives, and before it should some be missed.
    for range in [begin..all.size().div_ceil(WIDTH), 0..begin] {
        for number in range {
            if sealed.len() == digests.len() {
                return Ok(sealed);
            }
            for entry in entries(&all.tile(number).unwrap_or_default()) {
                if let Ok(digest) = Hash::try_from(entry)
                    && digests.contains(&digest)
                {
                    sealed.insert(digest);
                }
            }
        }
    }
    Ok(sealed)
}

/// Hands over the lines of a file from a place on, while `take` wants more. What can't be read was found
/// before, and ends it.
fn each(
    directory: &Directory,
    name: DayName,
    from: u64,
    number: u64,
    mut take: impl FnMut(&Seen) -> bool,
) -> Result<(), Error> {
    let mut read = || -> io::Result<()> {
        let Some(source) = directory.day(name, from)? else {
            return Ok(());
        };
        let mut lines = Lines::new(source, from).numbered(number);
        while let Some(line) = lines.next()? {
            if !take(&line) {
                break;
            }
        }
        Ok(())
    };
    match read() {
        Err(error) => not_the_file_s(&error).map_or(Ok(()), Err),
        Ok(()) => Ok(()),
    }
}

/// The ids that come more than once, of any number, with few of them held at once: those below a bound
/// are looked for first, and the others in further readings.
#[derive(Default)]
pub struct Repeated {
    /// From where on ids are looked for, and up to where.
    from: u64,
    to: Option<u64>,
    held: Vec<u64>,
    /// The ids that came more than once, the first of them.
    pub found: HashSet<u64>,
    /// There are more than that.
    pub too_many: bool,
}

impl Repeated {
    /// How many ids that come more than once are told.
    pub const MOST: usize = 1 << 17;

    /// Takes the next id of a reading.
    pub fn add(&mut self, id: u64) {
        if id < self.from || self.to.is_some_and(|to| id > to) {
            return;
        }
        if self.held.len() == HELD {
            self.count();
            if self.held.len() > HELD / 2 {
                // The lower half now, the others in the next reading.
                self.held.truncate(HELD / 2);
                self.to = self.held.last().copied();
            }
            if self.to.is_some_and(|to| id > to) {
                return;
            }
        }
        self.held.push(id);
    }

    /// Ends a reading. True if there must be another.
    pub fn end(&mut self) -> bool {
        self.count();
        self.held.clear();
        match self.to.take().and_then(|to| to.checked_add(1)) {
            Some(next) if !self.too_many => {
                self.from = next;
                true
            }
            _ => {
                self.held = Vec::new();
                false
            }
        }
    }

    /// Keeps of each id that is held one, in their order, and which came more than once.
    fn count(&mut self) {
        self.held.sort_unstable();
        for pair in self.held.windows(2) {
            if pair[0] == pair[1] && !self.found.contains(&pair[0]) {
                if self.found.len() == Repeated::MOST {
                    self.too_many = true;
                    break;
                }
                self.found.insert(pair[0]);
            }
        }
        self.held.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_however_it_is_written() {
        let ids = Ids::default();
        let id = ids.of(br#"{"id":"a-b","x":1}"#);
        assert!(id.is_some());
        assert_eq!(ids.of(br#"{"x":1,"id": "a-b"}"#), id);
        assert_eq!(ids.of(br#"{"id":"a-b"}"#), id);
        assert_ne!(ids.of(br#"{"id":"a-c"}"#), id);
        for text in ["", "{}", r#"{"id":1}"#, r#"{"id":"a"#, r#"{"id":"#] {
            assert_eq!(ids.of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_that_come_more_than_once_are_told_whatever_their_number() {
        let mut repeated = Repeated::default();
        let count = 5 * HELD as u64 / 2;
        let all = || (0..count).map(|id| id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let twice: Vec<u64> = all().step_by(50_000).collect();
        let mut readings = 0;
        loop {
            readings += 1;
            let again = twice.iter().chain(&twice).copied();
            // And one that comes more often than is held.
            let often = std::iter::repeat_n(77, if readings == 1 { 2 * HELD } else { 0 });
            all()
                .chain(again)
                .chain(often)
                .for_each(|id| repeated.add(id));
            assert!(repeated.held.len() <= HELD);
            if !repeated.end() {
                break;
            }
        }
        let mut expected: HashSet<u64> = twice.into_iter().collect();
        expected.insert(77);
        assert!(repeated.found == expected && readings > 1);
    }
}
