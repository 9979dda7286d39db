//! Lines from a pipe or a file, hashed on all processors.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use audit_logger::tool::far::Keys;
use sha2::{Digest as _, Sha256};

/// Lines as they were read: whole ones.
struct Block {
    bytes: Vec<u8>,
    /// How many came before.
    before: u64,
    /// Of a line that is too long to be held: its digest. The bytes are its beginning.
    long: Option<[u8; 32]>,
}

/// Its lines that aren't blank: their numbers, where they are, their prints.
type Hashed = (Block, Vec<(u64, std::ops::Range<usize>, u64)>);

/// Hashes the lines of a reader on all processors, and hands them out one by one, in their order within a block:
/// each with its number, from 1, and its print.
pub fn hash_lines(
    reader: Box<dyn Read + Send>,
    keys: &Keys,
    each: &mut dyn FnMut(u64, &[u8], u64),
) -> io::Result<()> {
    const WAITING: usize = 4;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (blocks, to_hash) = sync_channel::<Block>(WAITING);
    let (hashed, done) = sync_channel::<Hashed>(WAITING);
    let to_hash = Arc::new(Mutex::new(to_hash));
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_blocks(reader, &blocks_of(blocks)));
        for _ in 0..workers {
            let (to_hash, hashed) = (Arc::clone(&to_hash), hashed.clone());
            scope.spawn(move || hash_blocks(&to_hash, hashed, keys));
        }
        // The workers' alone: with them both ends end.
        drop((to_hash, hashed));
        for (block, lines) in done {
            for (number, range, print) in lines {
                each(number, &block.bytes[range], print);
            }
        }
        reading
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))
    })
}

/// The sender is the reader's own: with its end the workers end.
fn blocks_of(blocks: SyncSender<Block>) -> impl Fn(Block) -> bool {
    move |block| blocks.send(block).is_ok()
}

fn read_blocks(mut reader: Box<dyn Read + Send>, send: &dyn Fn(Block) -> bool) -> io::Result<()> {
    const SIZE: u64 = 1 << 20;
    /// A longer line isn't held.
    const LONGEST: usize = 16 << 20;
    let (mut left, mut before) = (Vec::new(), 0);
    loop {
        let mut bytes = std::mem::take(&mut left);
        let read = reader.by_ref().take(SIZE).read_to_end(&mut bytes)?;
        if read > 0 {
            // What isn't a whole line waits for the rest of it.
            let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
            left = bytes.split_off(end);
        }
        let lines = memchr::memchr_iter(b'\n', &bytes).count() as u64;
        let block = Block {
            bytes,
            before,
            long: None,
        };
        if !block.bytes.is_empty() && !send(block) {
            return Ok(());
        }
        before += lines;
        if left.len() > LONGEST {
            let (block, rest) = long_line(&mut reader, std::mem::take(&mut left), before)?;
            left = rest;
            before += 1;
            if !send(block) {
                return Ok(());
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Hashes a line as it comes. What came of the next one is given beside it.
fn long_line(
    reader: &mut dyn Read,
    mut begun: Vec<u8>,
    before: u64,
) -> io::Result<(Block, Vec<u8>)> {
    const SHOWN: usize = 4096;
    let mut hash = Sha256::new_with_prefix(&begun);
    begun.truncate(SHOWN);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = match reader.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let came = piece.get(..read).unwrap_or_default();
        let end = memchr::memchr(b'\n', came);
        hash.update(came.get(..end.unwrap_or(read)).unwrap_or_default());
        if end.is_some() || read == 0 {
            let rest = end.and_then(|end| came.get(end + 1..)).unwrap_or_default();
            let block = Block {
                bytes: begun,
                before,
                long: Some(hash.finalize().into()),
            };
            return Ok((block, rest.to_vec()));
        }
    }
}

fn hash_blocks(blocks: &Mutex<Receiver<Block>>, hashed: SyncSender<Hashed>, keys: &Keys) {
    loop {
        let block = match blocks.lock() {
            Ok(blocks) => blocks.recv(),
            Err(_) => return,
        };
        let Ok(block) = block else { return };
        let mut lines = Vec::new();
        if let Some(digest) = &block.long {
            let print = keys.print(digest);
            lines.push((block.before + 1, 0..block.bytes.len(), print));
            if hashed.send((block, lines)).is_err() {
                return;
            }
            continue;
        }
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', &block.bytes).chain([block.bytes.len()]);
        for (number, end) in (block.before + 1..).zip(ends) {
            let line = block.bytes.get(start..end).unwrap_or_default();
            if !line.iter().all(|byte| *byte == b' ') {
                let print = keys.print(&Sha256::digest(line).into());
                lines.push((number, start..end, print));
            }
            start = end + 1;
        }
        if hashed.send((block, lines)).is_err() {
            return;
        }
    }
}
