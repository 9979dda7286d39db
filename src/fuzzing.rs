//! Random inputs for what reads others' bytes.
//!
//! Each target runs for AUDIT_TEST_FUZZ_SECONDS (1 by default). A failure prints the input.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Marsaglia's xorshift.
pub struct Random(u64);

impl Random {
    /// The numbers that follow from a seed.
    pub fn new(seed: u64) -> Random {
        // Seeds that are near each other begin far apart, and none is 0.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// One of the seeds, changed here and there.
fn mutate(random: &mut Random, seeds: &[impl AsRef<[u8]>], pieces: &[&[u8]]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].as_ref().to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        match random.below(5) {
            0 => input.truncate(at),
            1 => drop(input.splice(at..at, pieces[random.below(pieces.len())].iter().copied())),
            2 if at < input.len() => input[at] ^= 1 << random.below(8),
            3 => drop(input.drain(at..(at + random.below(16)).min(input.len()))),
            _ => {
                let from = random.below(input.len() + 1);
                let piece = input[from..(from + random.below(64)).min(input.len())].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input
}

/// Hands inputs to a target until its time is up: the seeds, changed, with pieces put in that are rare
/// by chance and matter.
pub fn fuzz(seeds: &[impl AsRef<[u8]>], pieces: &[&[u8]], target: impl Fn(&mut Random, &[u8])) {
    let seconds = std::env::var("AUDIT_TEST_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let ends = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
    let seed = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_nanos() as u64
        | 1;
    println!("seed: {seed}");
    let mut random = Random(seed);
    while Instant::now() < ends {
        let input = mutate(&mut random, seeds, pieces);
        let began = worked();
        let result = catch_unwind(AssertUnwindSafe(|| target(&mut random, &input)));
        if let Err(panic) = result {
            eprintln!("input: {:?}", String::from_utf8_lossy(&input));
            resume_unwind(panic);
        }
        let shown = String::from_utf8_lossy(&input);
        assert!(worked() - began < Duration::from_secs(1), "slow: {shown:?}");
    }
}

/// How long this thread has worked, by the kernel's count: what others do on the machine isn't in it.
pub fn worked() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = counted.split(' ').next().unwrap_or_default();
    Duration::from_nanos(first.parse().unwrap_or_default())
}
