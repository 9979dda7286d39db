//! What reads a log without a lock: its lines, its tree, whether they agree, and the proof of one entry.
//! Reads only; a copy will do.

mod account;
mod align;
pub mod far;
mod find;
mod hashed;
pub mod lines;
pub mod prove;
mod recorded;
mod replay;
pub mod report;
pub mod slice;
pub mod sound;
pub mod source;
pub mod stamps;
mod strangers;
pub mod tree;
pub mod twins;
pub mod verify;
mod witnessed;

#[cfg(test)]
mod accidents;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod far_tests;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod fuzz_directory;
#[cfg(test)]
mod testlog;
