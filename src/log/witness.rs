//! What witnesses are shown of a log, and what is kept of what they say. Who asks them stands above: here
//! nothing is known of servers.

use std::io;
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use super::Log;
use super::directory::SMALL;
use super::disk::{Lock, if_there};
use super::known::Known;
use super::seal::Sealer;
use crate::error::Error;
use crate::format::checkpoint::Checkpoint;
use crate::format::merkle::Hash;
use crate::format::note::Verifier;
use crate::format::record::RecordBody;
use crate::json::Object;

/// Held by the process that just changes what is noted of them.
const LOCK: &str = "witness";

/// What they said last.
const NOTES: &str = "witnesses";

/// Shows a log's checkpoints to witnesses.
pub trait Witnessing: Send + Sync {
    /// Something was published. Must not wait for anything.
    fn published(&self, log: &Weak<Log>);

    /// Waits, so long if there is a limit, until the quorum has seen all that is published by now.
    fn wait(&self, log: &Log, timeout: Option<Duration>) -> Result<(), Error>;

    /// Writes how it goes into a report.
    fn health(&self, to: Object<'_>);

    /// Nobody is shown anything from now on. Waits for what is just done, which is ended.
    fn end(&self);
}

/// Makes it, in each process.
pub type MakeWitnessing = Box<dyn Fn() -> Box<dyn Witnessing> + Send + Sync>;

/// What is published.
pub struct Offer {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its note.
    pub note: String,
}

impl Log {
    /// Sees to it that witnesses are shown what is published from now on.
    pub(super) fn start_witnessing(&self) {
        if let (Some(witnessing), Some(_)) = (&self.witnessing, self.sealer.get()) {
            witnessing.published(&self.me);
        }
    }

    /// Who shows it to witnesses, if it is sealed and they are to see it.
    pub fn witnessing(&self) -> Option<&dyn Witnessing> {
        self.sealer.get()?;
        self.witnessing.as_deref()
    }

    /// The public key of who seals it.
    pub fn verifier(&self) -> Option<&Verifier> {
        Some(self.sealer.get()?.tree().verifier())
    }

    fn sealer(&self) -> io::Result<&Sealer> {
        let sealer = self.sealer.get();
        sealer.ok_or_else(|| io::Error::other("the log isn't sealed"))
    }

    /// What is published; `None` if nothing is.
    pub fn offer(&self) -> io::Result<Option<Offer>> {
        let published = self.sealer()?.tree().published_note()?;
        Ok(published.map(|(checkpoint, note)| Offer { checkpoint, note }))
    }

    /// The proof that the tree of an earlier size, from 1, is the beginning of that of another size.
    pub fn consistency(&self, earlier: u64, size: u64) -> io::Result<Vec<Hash>> {
        self.sealer()?.tree().consistency(earlier, size)
    }

    /// The root that the tree had at an earlier size.
    pub fn root_at(&self, earlier: u64, size: u64) -> io::Result<Hash> {
        self.sealer()?.tree().root(earlier, size)
    }

    /// Keeps the signatures of witnesses that a note of a checkpoint has.
    pub fn keep_cosignatures(&self, checkpoint: &Checkpoint, cosigned: &str) -> io::Result<()> {
        self.sealer()?.keep_cosignatures(checkpoint, cosigned)
    }

    /// Records that a witness has seen more of the log than there is, or another tree, unless that is recorded, and
    /// raises it.
    pub fn note_dispute(&self, witness: &str, size: u64, known: u64) -> io::Result<()> {
        let message = io::Error::other(format!(
            "the witness {witness} has seen it at size {size}, and it has come to {known}, or to another \
             tree: the directory was put back, or is a copy; see verify"
        ));
        self.directory.warn(self.message(&message));
        self.fault(&message);
        let records = |tree: &Known| {
            // A process may have died, or the power gone, before it was noted that it's recorded.
            if tree.disputed_at(witness) == Some(size) {
                return Vec::new();
            }
            Vec::from([RecordBody::Dispute {
                witness: witness.to_owned(),
                size,
                known,
            }])
        };
        let recorded = self.sealer()?.record_if(self.clock(), records);
        recorded.map(drop)
    }

    /// The right to change what is noted, unless another process is just doing that.
    pub fn try_lock_witnesses(&self) -> io::Result<Option<Lock>> {
        self.directory.state().try_lock(LOCK)
    }

    /// What was noted of the witnesses.
    pub fn witness_notes(&self) -> io::Result<Option<Vec<u8>>> {
        if_there(self.directory.state().read(NOTES, SMALL))
    }

    /// Notes something of the witnesses, in the place of what was noted before.
    pub fn keep_witness_notes(&self, notes: &[u8]) -> io::Result<()> {
        self.directory.state().replace(NOTES, notes, false)
    }

    /// The time by the log's clock.
    pub fn clock(&self) -> SystemTime {
        (self.settings.now)()
    }
}
