//! Time stamps (RFC 3161): others' signatures that say when a checkpoint of the log existed.
//!
//! `token` reads what is signed, `authority` checks who signed it, `kept` is where the log keeps it.

pub mod authority;
pub mod kept;
pub mod token;
