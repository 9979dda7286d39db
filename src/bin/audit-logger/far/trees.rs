//! The trees of a fleet, read on all processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use audit_logger::tool::Error;
use audit_logger::tool::far::{self, Keys, Tree};

use super::fleet::Host;
use crate::output::Progress;

/// What comes from who reads, and of which host.
enum Came {
    /// Percents of its tree that are read now.
    Percents(u64),
    Tree(Box<Result<Tree, Error>>),
}

/// Reads the tree of each host, and hands it over with the host's number, in whatever order they are read. Few
/// are in memory at once.
pub fn read(
    hosts: &[Host],
    keys: &Keys,
    interrupted: fn() -> bool,
    progress: &mut Progress,
    each: &mut dyn FnMut(usize, Result<Tree, Error>),
) {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (send, came) = sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads.min(hosts.len()) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || read_some(hosts, next, keys, interrupted, &send));
        }
        drop(send);
        let mut percents = 0;
        for (number, what) in came {
            match what {
                Came::Percents(more) => percents += more,
                Came::Tree(tree) => each(number, *tree),
            }
            progress.show("reading trees", percents, 100 * hosts.len() as u64);
        }
    });
}

fn read_some(
    hosts: &[Host],
    next: &AtomicUsize,
    keys: &Keys,
    interrupted: fn() -> bool,
    send: &SyncSender<(usize, Came)>,
) {
    while let number = next.fetch_add(1, Ordering::Relaxed)
        && let Some(host) = hosts.get(number)
    {
        let mut shown = 0;
        let mut show = |done: u64, of: u64| {
            let percents = done * 100 / of.max(1);
            if percents > shown {
                let _ = send.send((number, Came::Percents(percents - shown)));
                shown = percents;
            }
        };
        let options = host.options();
        let read = options
            .and_then(|options| far::read(&host.tree, &options, keys, &mut show, &interrupted));
        if send.send((number, Came::Tree(Box::new(read)))).is_err() {
            return;
        }
    }
}
