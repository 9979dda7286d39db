//! LLM calls from any language, each leaving exactly one entry in an append-only audit log.
//!
//! The public interface is C's: [`ffi`], described in `include/audit_logger.h`. The life of one
//! call, and where each step lives:
//!
//! 1. `ffi` checks the handle, turns C's structs into Rust's and holds any panic back.
//! 2. `client::request` checks the texts, merges the parameters into the body and hashes both.
//! 3. `logger` begins the call: its entry fits, and the log takes it. Nothing is sent otherwise.
//! 4. `client::transport` sends the body under the call's deadlines; `client::response` says what
//!    came back; `client::retry` says whether to try again, and when.
//! 5. `logger` finishes the call: one line, appended by `store`.
//! 6. `ffi` hands the answer or the error out as a reply.
//!
//! The arrows point down, without circles: `ffi` > `client` > `logger` > `store` > the leaves
//! (`entry`, `config`, `json`, `hash`, `clock`, `error`) > `sys`. A test holds them to it.

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
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("audit_logger runs on 64-bit Linux");

mod client;
mod clock;
mod config;
mod entry;
mod error;
pub mod ffi;
mod hash;
mod json;
mod logger;
mod store;
mod sys;
