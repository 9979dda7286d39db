//! What is noted of a log's witnesses, for all of its processes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::clock::Timestamp;
use crate::format::checkpoint::{Checkpoint, format_hash, parse_hash};
use crate::format::merkle::Hash;
use crate::format::policy::Policy;
use crate::json::Object;

/// The notes of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// When a process asked the witnesses by itself, in milliseconds since 1970.
    pub asked_at: u64,
    /// What the quorum has seen last.
    pub witnessed: Option<Witnessed>,
    /// Of each witness, in the policy's order.
    pub each: Vec<Told>,
}

/// What the quorum has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// So many entries.
    pub size: u64,
    /// And the root over them.
    pub root: Hash,
    /// When the quorum was complete, in seconds since 1970, by the clocks of the witnesses.
    pub at: u64,
}

/// What one witness came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The size that it cosigned last.
    pub size: u64,
    /// When, in seconds since 1970, by its own clock.
    pub cosigned_at: u64,
    /// How often it failed since.
    pub failures: u64,
    /// When it was asked last, in milliseconds since 1970.
    pub asked_at: u64,
    /// Why it failed last, if it did.
    pub error: Option<String>,
    /// Whether it has seen more than there is, or another tree, and that is recorded.
    pub disputes: bool,
}

/// Since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How they are shown.
fn shown(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    Timestamp::of(time.unwrap_or(UNIX_EPOCH)).to_string()
}

impl Notes {
    /// Reads what a process of the log has written. What isn't there isn't known, and is asked anew.
    pub fn read(text: &[u8], policy: &Policy) -> Notes {
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
        let witnessed = || {
            Some(Witnessed {
                size: value["size"].as_u64()?,
                root: parse_hash(value["root"].as_str()?)?,
                at: value["at"].as_u64()?,
            })
        };
        let nobody = Vec::new();
        let noted = value["witnesses"].as_array().unwrap_or(&nobody);
        let each = policy.witnesses().iter().map(|witness| {
            let key = witness.key.to_string();
            let by_key = |noted: &&Value| noted["key"].as_str() == Some(&key);
            let noted = noted.iter().find(by_key).unwrap_or(&Value::Null);
            Told {
                size: number(noted, "size"),
                cosigned_at: number(noted, "cosigned_at"),
                failures: number(noted, "failures"),
                asked_at: number(noted, "asked_at"),
                error: noted["error"].as_str().map(str::to_owned),
                disputes: noted["disputes"].as_bool().unwrap_or_default(),
            }
        });
        Notes {
            asked_at: number(&value, "asked_at"),
            witnessed: witnessed(),
            each: each.collect(),
        }
    }

    /// As [`Notes::read`] reads it.
    pub fn text(&self, policy: &Policy) -> Vec<u8> {
        let mut text = Vec::new();
        let mut to = Object::begin(&mut text);
        to.json("asked_at", self.asked_at);
        if let Some(Witnessed { size, root, at }) = &self.witnessed {
            to.json("size", size);
            to.text("root", &format_hash(root));
            to.json("at", at);
        }
        let each = self.each.iter().zip(policy.witnesses());
        to.list("witnesses", each, |(told, witness), out| {
            let mut to = Object::begin(out);
            to.text("key", &witness.key.to_string());
            to.json("size", told.size);
            to.json("cosigned_at", told.cosigned_at);
            to.json("failures", told.failures);
            to.json("asked_at", told.asked_at);
            if let Some(error) = &told.error {
                to.text("error", error);
            }
            to.json("disputes", told.disputes);
            to.end();
        });
        to.end();
        text.push(b'\n');
        text
    }

    /// Writes them for an operator.
    pub fn health(&self, policy: &Policy, mut to: Object<'_>) {
        if let Some(witnessed) = &self.witnessed {
            to.json("size", witnessed.size);
            to.text("witnessed_at", &shown(witnessed.at));
        }
        let each = self.each.iter().zip(policy.witnesses());
        to.list("each", each, |(told, witness), out| {
            let mut to = Object::begin(out);
            to.text("name", witness.key.name());
            if told.cosigned_at > 0 {
                to.json("size", told.size);
                to.text("cosigned_at", &shown(told.cosigned_at));
            }
            to.json("failures", told.failures);
            match &told.error {
                Some(error) => to.text("error", error),
                None => to.json("error", "null"),
            }
            to.json("disputes", told.disputes);
            to.end();
        });
        to.end();
    }

    /// Notes that the quorum has seen a checkpoint. Who noted a larger one meanwhile had asked later.
    pub fn complete(&mut self, checkpoint: &Checkpoint, at: u64) {
        let (size, root) = (checkpoint.size, checkpoint.root);
        let known = self.witnessed.as_ref();
        if known.is_none_or(|known| known.size <= size || known.at < at) {
            self.witnessed = Some(Witnessed { size, root, at });
        }
    }
}

impl Told {
    /// Whether it's left alone for now: who fails is asked ever more rarely, at last every sixteenth time.
    pub fn rests(&self, now: u64, interval: Duration) -> bool {
        const MOST: u32 = 4;
        let doublings = u32::try_from(self.failures).map_or(MOST, |failures| failures.min(MOST));
        let pause = interval * (1 << doublings);
        // A clock that was put back counts for nothing.
        let since = now.checked_sub(self.asked_at).map(Duration::from_millis);
        self.failures > 0 && since.is_some_and(|since| since < pause)
    }

    /// It has signed a checkpoint of that size.
    pub fn signed(&mut self, size: u64, time: u64, now: u64) {
        *self = Told {
            size,
            cosigned_at: time,
            asked_at: now,
            ..Told::default()
        };
    }

    /// It hasn't.
    pub fn failed(&mut self, error: String, now: u64) {
        self.failures += 1;
        self.asked_at = now;
        self.error = Some(error);
    }
}
