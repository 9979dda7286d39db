//! The log that proves itself: a Merkle log in the public C2SP formats, over the digests of the
//! lines. FORMAT.md describes its files.
//!
//! `merkle`, `note`, `tiles` and `record` are pure: bytes in, bytes out. `verify` and `prove` read
//! a directory, through `files`, and write nothing.

mod align;
pub mod files;
pub mod merkle;
pub mod note;
pub mod prove;
pub mod record;
pub mod tiles;
pub mod verify;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testlog;
