//! The system calls that std lacks, each wrapped safely.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod blocks;
mod file;
mod fork;
mod host;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "unported.rs")]
mod kernel;
mod random;
mod secret;
mod thread;
mod wait;

use std::ffi::c_int;
use std::io;

pub use file::{
    file_system_type, identity_at, link_at, make_directory_at, names_in, open_at, remove_at,
    remove_directory_at, rename_at,
};
pub use fork::{PerProcess, Private, process_number, watch_forks};
pub use host::{at_exit, boot_id, group_id, host_name, user};
pub use kernel::{is_privileged, shares_blocks, stack, stream_socket, write_in_place};
pub use random::RandomBytes;
pub use secret::{SecretBytes, Wiped};
pub use thread::{Errno, HostThread, note_write_error, without_signals};
pub use wait::{Event, Readiness, wait};

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
