//! The entries of the tree: digests of lines, and records of everything else.
//!
//! An entry of exactly 32 bytes is the SHA-256 of a line of the log, without its line feed. Any
//! other is a record, a compact JSON object whose `t` tells what it is; should one be 32 bytes
//! long, a space is added. Records of a kind that isn't known are for a later version, and are
//! passed over.
//!
//! | `t` | further members | |
//! |---|---|---|
//! | `settings` | `v`, `ts`, `origin`, `hash_key_id` | entry 0, and only that: format 1, the log's name, the key of its hashes or null |
//! | `seg` | `ts`, `file`, `off`, `len`, `n` | these bytes of the file hold exactly `n` lines that aren't blank, and the next `n` digests are theirs, in order |
//! | `torn` | `ts`, `file`, `off`, `len`, `sha256` | a torn line that was overwritten with spaces before it was sealed, and what it had been |
//! | `altered` | `ts`, `file`, `off`, `len`, `sha256` | a line that its writer knew to be another when it was sealed, and what had been written |
//! | `heartbeat` | `ts` | nothing to seal, at that time |
//! | `expired` | `ts`, `day`, `retention_days` | the day is marked for removal, as days are kept for so many |
//! | `hold` | `ts`, `from`, `to`, `reason` | no file of these days is removed until the hold is released |
//! | `release` | `ts`, `hold`, `reason` | the hold with that index is over |
//! | `prune` | `ts`, `file` | the file was removed, as its time was over; what was sealed of it is no longer there |
//! | `gap` | `ts`, `file`, `off`, `len` | bytes that were sealed, or known, aren't there; the file's next `seg` begins at `off` |
//! | `recovered` | `ts`, `file`, `off`, `len` | bytes that weren't sealed in their time; their `seg` follows |
//! | `rollback` | `ts`, `size`, `root` | the directory was older than the guard, which knew this size and root |
//! | `dispute` | `ts`, `witness`, `size`, `known` | the witness of this key said that it had seen the log at `size`, or another tree there, while the log had come to `known` |
//!
//! A `seg` begins where the file's last one ended, at first at 0; after a `gap` where that says. After a
//! `prune` there is none. Lines that are empty or only spaces are blank. The bytes are those of the file
//! before it was compressed, if it was.

use std::time::Duration;

use crate::json::Object;

use super::checkpoint::{format_hash, parse_hash};
use super::merkle::Hash;
use super::name::{DayName, is_date};

/// The version of the records, which `settings` states.
pub const VERSION: u64 = 1;

/// Lines that were stamped longer ago when they are sealed weren't sealed in their time, and are `recovered`.
pub const LATE: Duration = Duration::from_secs(60);

/// The length of a digest, which no record has.
const DIGEST: usize = 32;

/// Some bytes of one of the log's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The file's name, as [`is_file`] wants it.
    pub file: String,
    /// Where they begin.
    pub off: u64,
    /// How many.
    pub len: u64,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordBody {
    /// What the tree is.
    Settings {
        /// The version of the records.
        version: u64,
        /// The log's name.
        origin: String,
        /// The id of the key of its hashes, if they are keyed.
        hash_key_id: Option<String>,
    },
    /// The next `lines` digests are those of the lines in these bytes.
    Seg {
        /// The bytes.
        range: Range,
        /// How many lines that aren't blank.
        lines: u64,
    },
    /// A torn line that was blanked.
    Torn {
        /// Where it was.
        range: Range,
        /// What it was: the digest of its bytes, in hexadecimal.
        sha256: String,
    },
    /// A line that was changed between its writing and its sealing.
    Altered {
        /// Where it is.
        range: Range,
        /// What it was: the digest of its bytes, in hexadecimal.
        sha256: String,
    },
    /// A sign of life.
    Heartbeat,
    /// A day is marked for removal.
    Expired {
        /// Which.
        day: String,
        /// How many days are kept. Earlier versions didn't say.
        retention_days: Option<u64>,
    },
    /// No file of some days is removed until this is released.
    Hold {
        /// The first of them.
        from: String,
        /// The last of them.
        to: String,
        /// Why.
        reason: String,
    },
    /// A hold is over.
    Release {
        /// The index of its entry.
        hold: u64,
        /// Why.
        reason: String,
    },
    /// A file was removed as its time was over.
    Prune {
        /// Which.
        file: String,
    },
    /// Bytes aren't there.
    Gap(Range),
    /// Bytes are sealed late.
    Recovered(Range),
    /// The directory was put back to an older state.
    Rollback {
        /// The size that was known.
        size: u64,
        /// The root that was known.
        root: Hash,
    },
    /// A witness has seen more of the log than there is, or another tree.
    Dispute {
        /// Its public key's text.
        witness: String,
        /// The size that it says it saw.
        size: u64,
        /// How far the log had come.
        known: u64,
    },
    /// Of a later version.
    Unknown,
}

/// A record: when, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The time at which it was made, as entries write it.
    pub ts: String,
    /// What it says.
    pub body: RecordBody,
}

/// An entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The digest of a line.
    Digest(Hash),
    /// A record.
    Record(Record),
}

impl Entry {
    /// Reads an entry of the tree.
    pub fn parse(bytes: &[u8]) -> Result<Entry, String> {
        match bytes.try_into() {
            Ok(digest) => Ok(Entry::Digest(digest)),
            Err(_) => Record::parse(bytes).map(Entry::Record),
        }
    }
}

impl Record {
    /// Reads a record.
    pub fn parse(bytes: &[u8]) -> Result<Record, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| format!("isn't JSON: {error}"))?;
        let text = |key: &str| match value.get(key).and_then(|value| value.as_str()) {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("has no text \"{key}\"")),
        };
        let number = |key: &str| match value.get(key).and_then(|value| value.as_u64()) {
            Some(number) => Ok(number),
            None => Err(format!("has no whole number \"{key}\"")),
        };
        let date = |key: &str| match text(key)? {
            date if is_date(date.as_bytes()) => Ok(date),
            _ => Err(format!("has a \"{key}\" that isn't a date")),
        };
        let file = || match text("file")? {
            file if is_file(&file) => Ok(file),
            _ => Err("has a \"file\" that isn't one of a log".to_owned()),
        };
        let range = || {
            let (file, off, len) = (file()?, number("off")?, number("len")?);
            match off.checked_add(len) {
                Some(_) => Ok(Range { file, off, len }),
                None => Err("has an \"off\" and a \"len\" beyond any file".to_owned()),
            }
        };
        let body = match &text("t")?[..] {
            "settings" => RecordBody::Settings {
                version: number("v")?,
                origin: text("origin")?,
                hash_key_id: match value.get("hash_key_id") {
                    None | Some(serde_json::Value::Null) => None,
                    Some(_) => Some(text("hash_key_id")?),
                },
            },
            "seg" => RecordBody::Seg {
                range: range()?,
                lines: number("n")?,
            },
            "torn" => RecordBody::Torn {
                range: range()?,
                sha256: text("sha256")?,
            },
            "altered" => RecordBody::Altered {
                range: range()?,
                sha256: text("sha256")?,
            },
            "heartbeat" => RecordBody::Heartbeat,
            "expired" => RecordBody::Expired {
                day: text("day")?,
                retention_days: match value.get("retention_days") {
                    None => None,
                    Some(_) => Some(number("retention_days")?),
                },
            },
            "hold" => RecordBody::Hold {
                from: date("from")?,
                to: date("to")?,
                reason: text("reason")?,
            },
            "release" => RecordBody::Release {
                hold: number("hold")?,
                reason: text("reason")?,
            },
            "prune" => RecordBody::Prune { file: file()? },
            "gap" => RecordBody::Gap(range()?),
            "recovered" => RecordBody::Recovered(range()?),
            "rollback" => RecordBody::Rollback {
                size: number("size")?,
                root: parse_hash(&text("root")?).ok_or("has a \"root\" that isn't a hash")?,
            },
            "dispute" => RecordBody::Dispute {
                witness: text("witness")?,
                size: number("size")?,
                known: number("known")?,
            },
            _ => {
                return Ok(Record {
                    ts: text("ts").unwrap_or_default(),
                    body: RecordBody::Unknown,
                });
            }
        };
        Ok(Record {
            ts: text("ts")?,
            body,
        })
    }

    /// The record as an entry. One of an unknown kind can't be written, and gives `heartbeat`'s.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        let put = |object: &mut Object, range: &Range| {
            object.text("file", &range.file);
            object.json("off", range.off);
            object.json("len", range.len);
        };
        let mut kind = |name, version: Option<u64>| {
            object.text("t", name);
            object.json_if("v", version);
            object.text("ts", &self.ts);
        };
        match &self.body {
            RecordBody::Settings {
                version,
                origin,
                hash_key_id,
            } => {
                kind("settings", Some(*version));
                object.text("origin", origin);
                match hash_key_id {
                    Some(id) => object.text("hash_key_id", id),
                    None => object.json("hash_key_id", "null"),
                }
            }
            RecordBody::Seg { range, lines } => {
                kind("seg", None);
                put(&mut object, range);
                object.json("n", lines);
            }
            RecordBody::Torn { range, sha256 } => {
                kind("torn", None);
                put(&mut object, range);
                object.text("sha256", sha256);
            }
            RecordBody::Altered { range, sha256 } => {
                kind("altered", None);
                put(&mut object, range);
                object.text("sha256", sha256);
            }
            RecordBody::Heartbeat | RecordBody::Unknown => kind("heartbeat", None),
            RecordBody::Expired {
                day,
                retention_days,
            } => {
                kind("expired", None);
                object.text("day", day);
                object.json_if("retention_days", *retention_days);
            }
            RecordBody::Hold { from, to, reason } => {
                kind("hold", None);
                object.text("from", from);
                object.text("to", to);
                object.text("reason", reason);
            }
            RecordBody::Release { hold, reason } => {
                kind("release", None);
                object.json("hold", hold);
                object.text("reason", reason);
            }
            RecordBody::Prune { file } => {
                kind("prune", None);
                object.text("file", file);
            }
            RecordBody::Gap(range) => {
                kind("gap", None);
                put(&mut object, range);
            }
            RecordBody::Recovered(range) => {
                kind("recovered", None);
                put(&mut object, range);
            }
            RecordBody::Rollback { size, root } => {
                kind("rollback", None);
                object.json("size", size);
                object.text("root", &format_hash(root));
            }
            RecordBody::Dispute {
                witness,
                size,
                known,
            } => {
                kind("dispute", None);
                object.text("witness", witness);
                object.json("size", size);
                object.json("known", known);
            }
        }
        object.end();
        if out.len() == DIGEST {
            out.push(b' ');
        }
        out
    }
}

/// Whether a file of the log may be called that: `audit_YYYY-MM-DD.jsonl`, or
/// `audit_YYYY-MM-DD.N.jsonl` for a further one of the day, N from 1. Nothing that a record names
/// can lead out of the directory.
pub fn is_file(name: &str) -> bool {
    DayName::parse(name).is_some_and(|name| !name.compressed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TS: &str = "2026-11-23T15:51:00.123456Z";

    fn range() -> Range {
        let file = "audit_2026-11-23.1.jsonl".to_owned();
        Range {
            file,
            off: 10,
            len: 20,
        }
    }

    #[test]
    fn every_kind_reads_back_and_is_written_as_documented() {
        let file = "audit_2026-11-23.jsonl".to_owned();
        let at = r#""ts":"2026-11-23T15:51:00.123456Z""#;
        let bytes = r#""file":"audit_2026-11-23.1.jsonl","off":10,"len":20"#;
        for (body, text) in [
            (
                RecordBody::Settings {
                    version: 1,
                    origin: "a/b".into(),
                    hash_key_id: None,
                },
                format!(r#"{{"t":"settings","v":1,{at},"origin":"a/b","hash_key_id":null}}"#),
            ),
            (
                RecordBody::Settings {
                    version: 1,
                    origin: "a/b".into(),
                    hash_key_id: Some("k".into()),
                },
                format!(r#"{{"t":"settings","v":1,{at},"origin":"a/b","hash_key_id":"k"}}"#),
            ),
            (
                RecordBody::Seg {
                    range: range(),
                    lines: 3,
                },
                format!(r#"{{"t":"seg",{at},{bytes},"n":3}}"#),
            ),
            (
                RecordBody::Torn {
                    range: range(),
                    sha256: "00".into(),
                },
                format!(r#"{{"t":"torn",{at},{bytes},"sha256":"00"}}"#),
            ),
            (
                RecordBody::Altered {
                    range: range(),
                    sha256: "00".into(),
                },
                format!(r#"{{"t":"altered",{at},{bytes},"sha256":"00"}}"#),
            ),
            (
                RecordBody::Heartbeat,
                format!(r#"{{"t":"heartbeat",{at}}}"#),
            ),
            (
                RecordBody::Expired {
                    day: "2026-11-23".into(),
                    retention_days: None,
                },
                format!(r#"{{"t":"expired",{at},"day":"2026-11-23"}}"#),
            ),
            (
                RecordBody::Expired {
                    day: "2026-11-23".into(),
                    retention_days: Some(365),
                },
                format!(r#"{{"t":"expired",{at},"day":"2026-11-23","retention_days":365}}"#),
            ),
            (
                RecordBody::Hold {
                    from: "2026-01-01".into(),
                    to: "2026-03-31".into(),
                    reason: "a \"case\"".into(),
                },
                format!(
                    r#"{{"t":"hold",{at},"from":"2026-01-01","to":"2026-03-31","reason":"a \"case\""}}"#
                ),
            ),
            (
                RecordBody::Release {
                    hold: 1049,
                    reason: "over".into(),
                },
                format!(r#"{{"t":"release",{at},"hold":1049,"reason":"over"}}"#),
            ),
            (
                RecordBody::Prune { file },
                format!(r#"{{"t":"prune",{at},"file":"audit_2026-11-23.jsonl"}}"#),
            ),
            (
                RecordBody::Gap(range()),
                format!(r#"{{"t":"gap",{at},{bytes}}}"#),
            ),
            (
                RecordBody::Recovered(range()),
                format!(r#"{{"t":"recovered",{at},{bytes}}}"#),
            ),
            (
                RecordBody::Rollback {
                    size: 7,
                    root: [0; 32],
                },
                format!(
                    r#"{{"t":"rollback",{at},"size":7,"root":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#
                ),
            ),
        ] {
            let record = Record {
                ts: TS.into(),
                body,
            };
            let encoded = record.encode();
            assert_eq!(String::from_utf8_lossy(&encoded), text);
            assert_eq!(Entry::parse(&encoded), Ok(Entry::Record(record)));
        }
    }

    #[test]
    fn no_record_is_as_long_as_a_digest() {
        for length in 0..40 {
            let record = Record {
                ts: "x".repeat(length),
                body: RecordBody::Heartbeat,
            };
            let encoded = record.encode();
            assert_ne!(encoded.len(), DIGEST);
            assert_eq!(Entry::parse(&encoded), Ok(Entry::Record(record)));
        }
        assert_eq!(Entry::parse(&[b'{'; 32]), Ok(Entry::Digest([b'{'; 32])));
    }

    #[test]
    fn kinds_of_a_later_version_are_passed_over_and_nonsense_is_refused() {
        let later = Record::parse(br#"{"t":"later","x":1}"#).unwrap();
        assert_eq!(later.body, RecordBody::Unknown);
        for text in [
            "",
            "{}",
            "[]",
            r#"{"t":"seg"}"#,
            r#"{"t":"heartbeat"}"#,
            r#"{"t":"gap","ts":"","file":"../x","off":0,"len":1}"#,
            r#"{"t":"gap","ts":"","file":"audit_2026-11-23.jsonl","off":-1,"len":1}"#,
            r#"{"t":"gap","ts":"","file":"audit_2026-11-23.jsonl","off":18446744073709551615,"len":1}"#,
            r#"{"t":"rollback","ts":"","size":1,"root":"AAAA"}"#,
            r#"{"t":"hold","ts":"","from":"2026-01-01","to":"soon","reason":""}"#,
            r#"{"t":"release","ts":"","hold":"1","reason":""}"#,
        ] {
            assert!(Record::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn only_names_of_day_files_are_files() {
        for name in [
            "audit_2026-11-23.jsonl",
            "audit_2026-11-23.1.jsonl",
            "audit_2026-11-23.10.jsonl",
        ] {
            assert!(is_file(name), "{name}");
        }
        for name in [
            "",
            "audit_.jsonl",
            "audit_2026-11-23.jsonl.gz",
            "audit_2026-11-23..jsonl",
            "audit_2026-11-23.01.jsonl",
            "audit_2026-11-23.0.jsonl",
            "audit_2026-11-2é.jsonl",
            "audit_2026/11/23.jsonl",
            "../audit_2026-11-23.jsonl",
            "audit_2026-11-23.x.jsonl",
        ] {
            assert!(!is_file(name), "{name}");
        }
    }
}
