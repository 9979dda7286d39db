//! What a queue knows, under its lock: which calls wait, run and have ended, what waits to be taken.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Event, News, Settings};
use crate::client::{Call, Chat, Cut, Pieces};
use crate::error::Error;
use crate::sys;

/// A call that a thread is to make, or to end.
pub struct Job {
    pub tag: u64,
    pub pieces: Pieces,
    call: Call<'static>,
    /// Set: it isn't made any more, and why.
    cut: Option<Cut>,
}

/// Where the call of a tag is.
enum Place {
    /// Waits to be made or to be ended.
    Waits,
    /// Is being made, until that happens.
    Runs(Arc<sys::Event>),
    /// Is being made, and was told to end.
    Ends,
    /// Its end waits to be taken.
    Over,
}

/// What a queue knows.
pub struct State {
    settings: Settings,
    closed: bool,
    /// In the order in which they came.
    waiting: VecDeque<Job>,
    /// Those that are to be ended without being made.
    abandoned: VecDeque<Job>,
    /// Of every call whose end wasn't taken yet.
    places: HashMap<u64, Place>,
    events: VecDeque<(Event, usize)>,
    /// What the events take.
    bytes: usize,
    /// Threads that make calls, and those of them that have none. One that starts has none yet.
    runners: usize,
    idle: usize,
    /// One of them was woken or asked for, and hasn't looked for a call yet.
    coming: bool,
    keeper: bool,
    /// When a thread was last refused.
    refused: Option<Instant>,
}

/// What an event takes beside its text.
const EVENT: usize = 128;

/// How soon after a thread was refused another is asked for.
const PATIENCE: Duration = Duration::from_millis(100);

impl Job {
    /// Until when it may take.
    pub fn deadline(&self) -> Option<Instant> {
        self.call.deadline()
    }

    /// The call, and why it isn't made any more, if it isn't.
    pub fn into_call(self) -> (Call<'static>, Option<Cut>) {
        let late = self.is_late(Instant::now()).then_some(Cut::Deadline);
        (self.call, self.cut.or(late))
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    fn cut_by(self, cut: Cut) -> Job {
        Job {
            cut: Some(cut),
            ..self
        }
    }
}

impl State {
    pub fn new(settings: Settings) -> State {
        State {
            settings,
            closed: false,
            waiting: VecDeque::new(),
            abandoned: VecDeque::new(),
            places: HashMap::new(),
            events: VecDeque::new(),
            bytes: 0,
            runners: 0,
            idle: 0,
            coming: false,
            keeper: false,
            refused: None,
        }
    }

    /// Takes a call.
    pub fn submit(&mut self, tag: u64, call: Call<'static>, pieces: Pieces) -> Result<(), Error> {
        if self.places.contains_key(&tag) {
            return Err(Error::argument(format!(
                "tag {tag} is that of a call whose end wasn't taken yet; give each call its own"
            )));
        }
        self.places.insert(tag, Place::Waits);
        self.waiting.push_back(Job {
            tag,
            pieces,
            call,
            cut: None,
        });
        Ok(())
    }

    /// Takes a call back, if nobody has begun it.
    pub fn withdraw(&mut self, tag: u64) -> bool {
        let at = self.waiting.iter().rposition(|job| job.tag == tag);
        if let Some(at) = at {
            self.waiting.remove(at);
            self.places.remove(&tag);
        }
        at.is_some()
    }

    /// Ends a call. Whether there is one that isn't over.
    pub fn cancel(&mut self, tag: u64) -> bool {
        match self.places.get_mut(&tag) {
            None | Some(Place::Over) => return false,
            Some(Place::Ends) => {}
            Some(place @ Place::Runs(_)) => place.end(),
            Some(Place::Waits) => {
                let at = self.waiting.iter().position(|job| job.tag == tag);
                let job = at.and_then(|at| self.waiting.remove(at));
                self.abandoned
                    .extend(job.map(|job| job.cut_by(Cut::Cancelled)));
            }
        }
        true
    }

    /// Ends all calls, and takes no more.
    pub fn close(&mut self) {
        self.closed = true;
        self.places.values_mut().for_each(Place::end);
        self.abandon_all();
    }

    /// Gives up all calls that wait.
    pub fn abandon_all(&mut self) {
        let waiting = self.waiting.drain(..);
        self.abandoned
            .extend(waiting.map(|job| job.cut_by(Cut::Cancelled)));
    }

    /// Gives up the calls that wait and whose time is over; when the next one's is.
    pub fn abandon_late(&mut self, now: Instant) -> Option<Instant> {
        let next = self.next_deadline();
        if next.is_none_or(|at| at > now) {
            return next;
        }
        let waiting = self.waiting.drain(..);
        let (late, waiting): (Vec<Job>, _) = waiting.partition(|job| job.is_late(now));
        self.waiting = waiting.into();
        let late = late.into_iter().map(|job| job.cut_by(Cut::Deadline));
        self.abandoned.extend(late);
        self.next_deadline()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(Job::deadline).min()
    }

    /// The next call to be ended without being made.
    pub fn next_abandoned(&mut self) -> Option<Job> {
        self.abandoned.pop_front()
    }

    /// Whether there are such calls.
    pub fn has_abandoned(&self) -> bool {
        !self.abandoned.is_empty()
    }

    /// The next call for a thread, until `stop` happens.
    pub fn next_job(&mut self, stop: &Arc<sys::Event>) -> Option<Job> {
        self.coming = false;
        let job = self.next_abandoned().or_else(|| {
            let job = self.has_room().then(|| self.waiting.pop_front())??;
            self.places.insert(job.tag, Place::Runs(Arc::clone(stop)));
            Some(job)
        })?;
        self.idle -= 1;
        Some(job)
    }

    /// A thread has no call any more.
    pub fn rests(&mut self) {
        self.idle += 1;
    }

    /// Notes that a call is over. Whether it had been told to end.
    pub fn end(&mut self, tag: u64, result: Result<Chat, Error>) -> bool {
        self.add(tag, News::Done(Box::new(result)));
        let before = self.places.insert(tag, Place::Over);
        matches!(before, Some(Place::Ends))
    }

    /// Adds an event, whatever room there is.
    pub fn add(&mut self, tag: u64, news: News) {
        let weight = EVENT + news.weight();
        self.bytes += weight;
        self.events.push_back((Event { tag, news }, weight));
    }

    /// Takes the next event.
    pub fn take(&mut self) -> Option<Event> {
        let (event, weight) = self.events.pop_front()?;
        self.bytes -= weight;
        if let News::Done(_) = event.news {
            self.places.remove(&event.tag);
        }
        Some(event)
    }

    /// Whether there are no events.
    pub fn is_drained(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether there is room for another event.
    pub fn has_room(&self) -> bool {
        self.bytes < self.settings.event_bytes
    }

    /// Whether a call waits to be made.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the queue was freed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether there are threads that make calls.
    pub fn has_runners(&self) -> bool {
        self.runners > 0
    }

    /// Whether there are threads, the keeper among them.
    pub fn has_threads(&self) -> bool {
        self.keeper || self.runners > 0
    }

    /// Who is to see to the calls that wait, if anybody; a new thread is counted. One comes at a time,
    /// and asks for the next when it has taken its call: so a host that submits many at once is held up
    /// by no more than one, and isn't crowded out by all of them.
    pub fn help(&mut self) -> Option<Help> {
        let recently = |refused: Instant| refused.elapsed() < PATIENCE;
        if self.coming || self.closed || !self.has_waiting() {
            return None;
        }
        let help = match (self.idle, self.runners < self.settings.running) {
            (0, _) if self.refused.is_some_and(recently) => return None,
            (0, true) => Help::New(Kind::Runner),
            (0, false) if self.keeper => return None,
            (0, false) => Help::New(Kind::Keeper),
            (_, _) => Help::Idle,
        };
        if let Help::New(kind) = help {
            self.count(kind, true);
        }
        self.coming = help != Help::New(Kind::Keeper);
        Some(help)
    }

    /// A thread that was counted couldn't be made.
    pub fn refuse(&mut self, kind: Kind) {
        self.refused = Some(Instant::now());
        self.coming &= kind != Kind::Runner;
        self.leave(kind);
    }

    /// A thread without a call ends.
    pub fn leave(&mut self, kind: Kind) {
        self.count(kind, false);
    }

    fn count(&mut self, kind: Kind, more: bool) {
        match (kind, more) {
            (Kind::Keeper, _) => self.keeper = more,
            (Kind::Runner, true) => {
                self.runners += 1;
                self.idle += 1;
            }
            (Kind::Runner, false) => {
                self.runners -= 1;
                self.idle -= 1;
            }
        }
    }
}

/// Who sees to a call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Help {
    /// A thread that has none.
    Idle,
    /// One that is to be made.
    New(Kind),
}

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To make calls.
    Runner,
    /// To end those that wait for too long.
    Keeper,
}

impl News {
    /// What its texts take.
    fn weight(&self) -> usize {
        match self {
            News::Delta(text) | News::Chunk(text) => text.len(),
            News::Done(result) => result.as_ref().as_ref().map_or(0, |chat| {
                chat.last.body.as_ref().map_or(0, Vec::len) + chat.last.completion.text.len()
            }),
        }
    }
}

impl Place {
    /// Tells a call that runs to end.
    fn end(&mut self) {
        if let Place::Runs(stop) = self {
            stop.set();
            *self = Place::Ends;
        }
    }
}
