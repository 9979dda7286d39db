//! The digests of a file's lines, hashed ahead by two threads: the one that reads, and a helper.
//!
//! Lines are gathered into batches. The reader keeps a few of them ahead, the helper hashes what waits,
//! and so does the reader when the batch it needs isn't done: neither ever waits for work that it could
//! do itself. Without a helper the reader does it all, and finds the same.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::lines::Lines;
use super::source::Bytes;
use crate::format::merkle::Hash;
use crate::sys;

/// Longer lines aren't gathered: they are hashed as they are walked.
const LONGEST: usize = 128 << 10;

/// Bytes and lines in a batch: enough to be worth the handing over.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_LINES: usize = 2048;

/// How many batches of a file are gathered ahead.
const AHEAD: usize = 3;

/// The helper calls nothing that is deep.
const STACK: usize = 128 << 10;

/// A line that isn't blank.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The digest of its bytes, without its line feed.
    pub digest: Hash,
    /// Where it begins in the file.
    pub off: u64,
    /// Where it ends, its line feed included.
    pub end: u64,
    /// Its number, from 1, blank ones counted.
    pub number: u64,
    /// Whether it has its line feed.
    pub whole: bool,
}

/// Lines that are hashed together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Each with where its bytes end in `bytes`; 0 where the digest is known.
    lines: Vec<(Line, usize)>,
    /// Behind the last line, blank ones too: an offset, and the number of the last.
    place: (u64, u64),
}

impl Batch {
    fn hash(&mut self) {
        let mut start = 0;
        for (line, end) in &mut self.lines {
            if *end > 0 {
                line.digest = Sha256::digest(&self.bytes[start..*end]).into();
                start = *end;
            }
        }
    }
}

enum Step {
    Waits(Batch),
    Taken,
    Done(Batch),
}

/// A batch on its way.
struct Job {
    step: Mutex<Step>,
    done: Condvar,
}

impl Job {
    /// Hashes the batch, if nobody has begun to.
    fn work(&self) -> bool {
        let mut step = locked(&self.step);
        match std::mem::replace(&mut *step, Step::Taken) {
            Step::Waits(mut batch) => {
                drop(step);
                batch.hash();
                *locked(&self.step) = Step::Done(batch);
                self.done.notify_all();
                true
            }
            other => {
                *step = other;
                false
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the helper is to do.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Arc<Job>>,
    /// There is a helper.
    served: bool,
    over: bool,
}

impl Queue {
    fn add(&self, job: &Arc<Job>) {
        let mut state = locked(&self.state);
        if state.served {
            state.jobs.push_back(Arc::clone(job));
            self.more.notify_one();
        }
    }

    fn serve(&self) {
        loop {
            let mut state = locked(&self.state);
            let job = loop {
                match state.jobs.pop_front() {
                    Some(job) => break job,
                    None if state.over => return,
                    None => {}
                }
                state = self
                    .more
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            job.work();
        }
    }

    /// Does something with a helper at hand, which has ended when this returns.
    pub fn with_helper<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Sends the helper home, also if the work panics.
        struct End<'q>(&'q Queue);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                locked(&self.0.state).over = true;
                self.0.more.notify_all();
            }
        }
        thread::scope(|scope| {
            let _end = End(self);
            let builder = thread::Builder::new()
                .name("audit-verify".into())
                .stack_size(STACK);
            // Where no thread can be made, the reader does it all.
            let helper = sys::without_signals(|| builder.spawn_scoped(scope, || self.serve()));
            locked(&self.state).served = helper.is_ok();
            work()
        })
    }
}

/// The digests of the lines of a file. Memory doesn't grow with them, however long one is.
pub struct Hashed<'s> {
    lines: Lines<Bytes<'s>>,
    queue: &'s Queue,
    jobs: VecDeque<Arc<Job>>,
    /// What is being handed out, and how many of its lines were.
    batch: Batch,
    given: usize,
    ended: bool,
    /// What ended the reading, once all before it was handed out.
    failure: Option<io::Error>,
}

impl<'s> Hashed<'s> {
    /// The lines of a source that stands at `offset` of its file, behind the line `number`.
    pub fn new(source: Bytes<'s>, offset: u64, number: u64, queue: &'s Queue) -> Hashed<'s> {
        Hashed {
            lines: Lines::holding(source, offset, LONGEST).numbered(number),
            queue,
            jobs: VecDeque::new(),
            batch: Batch {
                place: (offset, number),
                ..Batch::default()
            },
            given: 0,
            ended: false,
            failure: None,
        }
    }

    /// Where the next line begins, and the number of the last one.
    pub fn place(&self) -> (u64, u64) {
        match self.batch.lines.get(self.given) {
            Some((line, _)) => (line.off, line.number - 1),
            None => self.batch.place,
        }
    }

    /// The next line that isn't blank.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some((line, _)) = self.batch.lines.get(self.given) {
                self.given += 1;
                return Ok(Some(*line));
            }
            self.given = 0;
            let spent = std::mem::take(&mut self.batch);
            self.batch.place = spent.place;
            self.gather(spent);
            let Some(first) = self.jobs.pop_front() else {
                return match self.failure.take() {
                    Some(error) => Err(error),
                    None => Ok(None),
                };
            };
            self.batch = self.wait_for(&first);
        }
    }

    /// Waits for a batch, and hashes others meanwhile.
    fn wait_for(&self, first: &Job) -> Batch {
        loop {
            if first.work() {
                continue;
            }
            let mut step = locked(&first.step);
            if let Step::Done(batch) = &mut *step {
                return std::mem::take(batch);
            }
            drop(step);
            if self.jobs.iter().any(|job| job.work()) {
                continue;
            }
            let mut step = locked(&first.step);
            while matches!(*step, Step::Taken) {
                step = first
                    .done
                    .wait(step)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Keeps batches ahead; the first is made in the room of one that is spent.
    fn gather(&mut self, spent: Batch) {
        let mut spent = Some(spent);
        while self.jobs.len() < AHEAD && !self.ended {
            let mut batch = spent.take().unwrap_or_default();
            batch.bytes.clear();
            batch.lines.clear();
            if let Err(error) = self.fill(&mut batch) {
                self.ended = true;
                self.failure = Some(error);
            }
            let job = Arc::new(Job {
                step: Mutex::new(Step::Waits(batch)),
                done: Condvar::new(),
            });
            self.queue.add(&job);
            self.jobs.push_back(job);
        }
    }

    fn fill(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.place = self.lines.place();
        while batch.bytes.len() < BATCH_BYTES && batch.lines.len() < BATCH_LINES {
            let Some(line) = self.lines.next()? else {
                self.ended = true;
                break;
            };
            if !line.is_spaces() {
                let (digest, end) = if line.is_held() {
                    batch.bytes.extend_from_slice(line.text);
                    (Hash::default(), batch.bytes.len())
                } else {
                    (line.digest(), 0)
                };
                let whole = line.closed;
                let line = Line {
                    digest,
                    off: line.start,
                    end: line.end + u64::from(whole),
                    number: line.number,
                    whole,
                };
                batch.lines.push((line, end));
            }
            batch.place = self.lines.place();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], queue: &Queue) -> Vec<(Hash, u64, u64, u64, bool)> {
        let source: Bytes<'_> = Box::new(text);
        let mut lines = Hashed::new(source, 0, 0, queue);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            assert!(lines.place().1 >= line.number);
            found.push((line.digest, line.off, line.end, line.number, line.whole));
        }
        assert_eq!(lines.place().0, text.len() as u64);
        found
    }

    #[test]
    fn two_threads_find_what_one_finds_whatever_the_lines() {
        let mut text = Vec::new();
        for number in 0..20_000_u32 {
            let length = (number * 7919 % 300) as usize;
            text.extend(vec![b'a' + (number % 26) as u8; length]);
            text.extend_from_slice(if number % 100 == 0 {
                b"\n  \n\n"
            } else {
                b"\n"
            });
            if number % 5000 == 0 {
                text.extend(b"long".repeat(LONGEST));
                text.push(b'\n');
            }
        }
        text.extend_from_slice(b"open");
        let mut expected = Vec::new();
        let mut lines = Lines::new(&text[..], 0);
        while let Some(line) = lines.next().unwrap() {
            if !line.is_spaces() {
                let end = line.end + u64::from(line.closed);
                expected.push((line.digest(), line.start, end, line.number, line.closed));
            }
        }
        let alone = Queue::default();
        assert_eq!(read(&text, &alone), expected);
        for _ in 0..5 {
            let queue = Queue::default();
            assert_eq!(queue.with_helper(|| read(&text, &queue)), expected);
        }
    }

    #[test]
    fn a_failure_comes_behind_the_lines_before_it() {
        struct Failing(&'static [u8]);
        impl io::Read for Failing {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                match self.0 {
                    [] => Err(io::Error::other("broken")),
                    _ => self.0.read(into),
                }
            }
        }
        let queue = Queue::default();
        let mut lines = Hashed::new(Box::new(Failing(b"a\nb\nc")), 0, 0, &queue);
        assert_eq!(lines.next_line().unwrap().unwrap().number, 1);
        assert_eq!(lines.next_line().unwrap().unwrap().number, 2);
        assert!(lines.next_line().is_err());
    }
}
