//! One witness is shown one checkpoint, by C2SP tlog-witness v1.0.0, `add-checkpoint`.

use std::time::{Duration, Instant};

use crate::client::Post;
use crate::format::checkpoint::{format_hash, parse_size};
use crate::format::cosignature::Cosigner;
use crate::format::note::{Note, Verifier};
use crate::log::{Log, Offer};
use crate::sys::{self, Event, Readiness};

/// How often it's asked, with the size that it said it knows (hosts with one log may ask at once) or after
/// a while.
const TRIES: u32 = 8;

/// For how long one that is busy is left alone at first; each further time twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// What it came to.
pub enum Answer {
    /// It has signed the checkpoint, at a time in seconds since 1970; and the note with its line alone.
    Cosigned(u64, String),
    /// It has seen that size, and there isn't so much, or it's another tree's.
    Disputed(u64),
}

/// How a witness is reached.
pub trait Way: Send + Sync {
    /// Sends a body, and takes the answer's status and body, as [`Post::send`] does.
    fn send(
        &self,
        body: &[u8],
        deadline: Instant,
        stop: Option<&Event>,
    ) -> Result<(u16, Vec<u8>), String>;
}

impl Way for Post {
    fn send(
        &self,
        body: &[u8],
        deadline: Instant,
        stop: Option<&Event>,
    ) -> Result<(u16, Vec<u8>), String> {
        Post::send(self, body, deadline, stop)
    }
}

/// Who is asked, of what, and how.
pub struct Asking<'a> {
    pub log: &'a Log,
    pub offer: &'a Offer,
    pub witness: &'a Cosigner,
    pub way: &'a dyn Way,
    pub deadline: Instant,
    pub stop: Option<&'a Event>,
}

/// The checkpoint with the log's own signature alone: with those of others it can be longer than a
/// witness reads.
pub fn own_note(offer: &Offer, log: &Verifier) -> Option<String> {
    let note = Note::parse(&offer.note).ok()?;
    Some(note.only(|name, id| log.is(name, id)))
}

impl Asking<'_> {
    /// Asks it to sign the note, which is the offer's. `known` is the size that it's thought to know.
    pub fn ask(&self, note: &str, known: u64) -> Result<Answer, String> {
        let size = self.offer.checkpoint.size;
        let mut old = if known <= size { known } else { 0 };
        let mut last = String::new();
        for number in 0..TRIES {
            let body = self.body(note, old)?;
            let (status, answer) = self.way.send(body.as_bytes(), self.deadline, self.stop)?;
            let answer = std::str::from_utf8(&answer).unwrap_or_default();
            match status {
                200 => return self.cosigned(note, answer),
                409 => {
                    let known = answer.strip_suffix('\n').and_then(parse_size);
                    old = known.ok_or("answered 409 without the size that it knows")?;
                    if old > size {
                        return Ok(Answer::Disputed(old));
                    }
                    last = format!("answered 409 {TRIES} times, to whatever size it had named");
                }
                // omniwitness's database is, for a moment, whenever others ask as well.
                429 | 503 => {
                    last = format!("is busy: answered {status}");
                    if !self.waits(PAUSE * 2u32.pow(number)) {
                        break;
                    }
                }
                // It knows that size, or would have said so; and the proof is right for our tree.
                422 if old > 0 => return Ok(Answer::Disputed(old)),
                403 => return Err("answered 403: it knows another key of the log".to_owned()),
                404 => return Err("answered 404: it doesn't know the log".to_owned()),
                status => return Err(format!("answered {status}")),
            }
        }
        Err(last)
    }

    /// Waits for so long; false if there is no time for it.
    fn waits(&self, pause: Duration) -> bool {
        let stop = self.stop.map_or(-1, Event::fd);
        Instant::now() + pause < self.deadline
            && matches!(sys::wait([(stop, Readiness::Read)], pause), Ok(None))
    }

    fn body(&self, note: &str, old: u64) -> Result<String, String> {
        let size = self.offer.checkpoint.size;
        let mut body = format!("old {old}\n");
        if (1..size).contains(&old) {
            let proof = self.log.consistency(old, size);
            let proof = proof.map_err(|error| format!("can't be asked: {error}"))?;
            for hash in &proof {
                body.push_str(&format_hash(hash));
                body.push('\n');
            }
        }
        body.push('\n');
        body.push_str(note);
        Ok(body)
    }

    /// Its line out of an answer. Lines of keys that aren't known are passed over.
    fn cosigned(&self, note: &str, answer: &str) -> Result<Answer, String> {
        let whole = format!("{note}{answer}");
        let wrong = |error| format!("gave an answer that {error}");
        let whole = Note::parse(&whole).map_err(wrong)?;
        match self.witness.cosigned_at(&whole).map_err(wrong)? {
            Some(time) => {
                let own = whole.only(|name, id| self.witness.is(name, id));
                Ok(Answer::Cosigned(time, own))
            }
            None => Err("gave an answer without a signature by its key".to_owned()),
        }
    }
}
