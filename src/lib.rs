//! LLM calls from any language, each leaving exactly one entry in an append-only audit log.
//!
//! The public interface is C's: [`ffi`], described in `include/audit_logger.h`. DESIGN.md tells the
//! life of one call and where each step lives, and why it is built so; FORMAT.md describes the log.
//!
//! The arrows between modules point down, without circles: `ffi` > `queue`, `witness` > `client` > `logger` > `log` > `read` >
//! `config` > `server`, `format`, `settings` > `json`, `hash`, `clock`, `panics` > `error` > `sys`. tests/layers.rs holds them to it.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, missing_docs)]
#![deny(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc
)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout
    )
)]

#[cfg(panic = "abort")]
compile_error!(
    "audit_logger needs panic = \"unwind\": a panic must become AUDIT_E_INTERNAL, not end the host"
);
// For macOS the code can be checked; what it runs on is Linux.
#[cfg(not(all(
    any(target_os = "linux", target_os = "macos"),
    target_pointer_width = "64"
)))]
compile_error!("audit_logger runs on 64-bit Linux");

mod client;
mod clock;
mod config;
mod error;
pub mod ffi;
mod format;
#[cfg(test)]
mod fuzzing;
mod hash;
mod json;
mod log;
mod logger;
mod panics;
mod queue;
mod read;
mod server;
mod settings;
mod sys;
mod witness;

/// What the command line tool is built on. No part of the interface: it may change in any release.
///
/// The tool checks proofs, makes keys, shows progress and reads days as they grow, for which C has no
/// functions; so it stands on what the C functions stand on, not on them.
#[doc(hidden)]
pub mod tool {
    pub use crate::client::Post;
    pub use crate::config::{Maintenance, Place};
    pub use crate::error::{Error, Status};
    pub use crate::format::{checkpoint, name, note, record, stamp, tiles};
    pub use crate::json::{Object, layout, members, pull};
    pub use crate::log::keys::make_file;
    pub use crate::log::{hold, if_there, maintain, release};
    pub use crate::read::{far, lines, prove, report, slice, source, stamps, tree, twins, verify};
    pub use crate::server::{Proxy, Trust, authority};
    pub use crate::sys::{Readiness, wait};
}
