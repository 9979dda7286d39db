//! The machine, and whom the process runs as.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// The id of the group that the system's database has under a name.
pub fn group_id(name: &CStr) -> io::Result<Option<u32>> {
    // A group's members are listed in it, and there may be thousands.
    const LARGEST: usize = 1 << 22;
    let mut buffer = vec![0; 1 << 12];
    loop {
        let mut group = MaybeUninit::<libc::group>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: the name is NUL-terminated; the rest points to locals with their lengths.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                group.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 4, 0),
            0 if found.is_null() => return Ok(None),
            // SAFETY: a group was found, so the structure is filled.
            0 => return Ok(Some(unsafe { group.assume_init() }.gr_gid)),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The machine's name.
pub fn host_name() -> String {
    let mut name = [0u8; 256];
    // SAFETY: pointer and length are those of a local; one byte is kept for the NUL.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|&byte| byte == 0).unwrap_or_default();
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// What tells this boot of the machine from others, where the kernel says it.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Has something done when the process exits by `exit`, or by returning from main; false where the
/// system takes no more.
pub fn at_exit(work: extern "C" fn()) -> bool {
    // SAFETY: the library is never unloaded (-z nodelete), so the address stays valid.
    unsafe { libc::atexit(work) == 0 }
}

/// The user that files are made as.
pub fn user() -> u32 {
    // SAFETY: it has no conditions.
    unsafe { libc::geteuid() }
}
