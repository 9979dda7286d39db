//! What reads a log without a lock: its lines, its tree, whether they agree, and the proof of one entry.
//! Reads only; a copy will do.

mod align;
pub mod lines;
pub mod prove;
pub mod source;
pub mod verify;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testlog;
