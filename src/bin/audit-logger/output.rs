//! What is printed, and how: colours, and nothing that a terminal would obey.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::Permissions;
use std::io::{self, BufWriter, IsTerminal, Seek, SeekFrom, StdoutLock, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use audit_logger::tool::{Error, Readiness, wait};
use tempfile::NamedTempFile;
use terminal_size::Width;

/// The standard output. Whoever reads it may stop (`| head`): then nothing more is written, and the
/// command still comes to its end and its exit code.
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
    failed: Option<io::Error>,
    pub is_terminal: bool,
    colours: bool,
}

/// SGR codes.
#[derive(Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
}

impl Output {
    pub fn new() -> Output {
        let stdout = io::stdout().lock();
        let is_terminal = stdout.is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Output {
            out: BufWriter::new(stdout),
            failed: None,
            is_terminal,
            colours: is_terminal && !set("NO_COLOR") && !dumb,
        }
    }

    /// How many characters of a line a terminal shows; `None` where none limits them.
    pub fn columns(&self) -> Option<usize> {
        let size = self.is_terminal.then(terminal_size::terminal_size)?;
        size.map(|(Width(columns), _)| usize::from(columns))
    }

    /// Writes a line.
    pub fn line(&mut self, text: impl Display) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Writes a line of the log: to a terminal without what that would obey, else to the byte.
    pub fn raw_line(&mut self, line: &[u8]) {
        self.raw(line);
        self.bytes(b"\n");
    }

    /// Writes a part of such a line.
    pub fn raw(&mut self, part: &[u8]) {
        if self.is_terminal {
            self.bytes(plain(&String::from_utf8_lossy(part)).as_bytes());
        } else {
            self.bytes(part);
        }
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
    }

    /// Hands on what was written; false if nobody reads any more.
    pub fn flush(&mut self) -> bool {
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        self.failed.is_none()
    }

    /// Waits for so long; less if whoever reads goes away meanwhile, and then returns false.
    pub fn pause(&self, time: Duration) -> bool {
        let stdout = self.out.get_ref().as_raw_fd();
        match wait([(stdout, Readiness::Gone)], time) {
            Ok(gone) => gone.is_none(),
            Err(_) => {
                sleep(time);
                true
            }
        }
    }

    /// Ends it. That nobody read it all is no error.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush();
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::log(format!("the standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// A text in a colour, where there are any.
    pub fn coloured<'t>(&self, colour: Colour, text: &'t str) -> Cow<'t, str> {
        if self.colours {
            format!("\x1b[{}m{text}\x1b[0m", colour as u8).into()
        } else {
            text.into()
        }
    }
}

/// A text with what a terminal would obey, or what would change the order of what it shows, escaped
/// as JSON has it: a user's id is what its user chose.
pub fn plain(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(obeyed) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says on the standard error what went wrong.
pub fn complain(message: &str) {
    // Where that is closed, nobody can be told.
    let _ = writeln!(io::stderr(), "audit-logger: {}", plain(message));
}

/// A file that gets its name when it is whole. Until then it has another one beside it, and it goes with
/// whoever was writing it.
pub struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Begins a file that isn't there yet.
    pub fn create(path: &Path) -> Result<NewFile, Error> {
        if path.symlink_metadata().is_ok() {
            return Err(failed(path, "is there already, and isn't written over"));
        }
        let mut builder = tempfile::Builder::new();
        // As others make theirs: what the umask leaves of it.
        builder.permissions(Permissions::from_mode(0o666));
        let made = builder.tempfile_in(parent(path));
        Ok(NewFile {
            file: made.map_err(|error| failed(path, error))?,
            path: path.to_owned(),
        })
    }

    /// Writes all of that to it.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| failed(&self.path, error))
    }

    /// Gives it its name. Another that has got it meanwhile stays.
    pub fn keep(self) -> Result<(), Error> {
        let NewFile { file, path } = self;
        let synced = file.as_file().sync_all();
        synced.map_err(|error| failed(&path, error))?;
        let kept = file.persist_noclobber(&path);
        kept.map_err(|error| failed(&path, error.error)).map(drop)
    }
}

/// Where a file is to be.
pub fn parent(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes a file that isn't there yet.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = NewFile::create(path)?;
    file.add(bytes)?;
    file.keep()
}

/// What went wrong with a file.
pub fn failed(path: &Path, why: impl Display) -> Error {
    Error::log(format!("{}: {why}", path.display()))
}

/// How much is done, in percent, for whoever is told of the end before it.
static REACHED: AtomicU64 = AtomicU64::new(0);

/// A line on the terminal's standard error that is replaced by the next and wiped in the end; nothing
/// where that isn't a terminal.
pub struct Progress {
    shown: u64,
    is_terminal: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress {
            shown: 0,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// How far it came, as the end of a sentence.
    pub fn reached() -> String {
        match REACHED.load(Ordering::Relaxed) {
            0 => String::new(),
            percent => format!(" at {percent} %"),
        }
    }

    /// Shows how much of it is done, when that is another percent.
    pub fn show(&mut self, what: &str, done: u64, of: u64) {
        // What is read may have grown since it was looked how much it is.
        let percent = u128::from(done.min(of)) * 100 / u128::from(of.max(1));
        let percent = percent as u64;
        REACHED.store(percent, Ordering::Relaxed);
        if self.is_terminal && percent != self.shown {
            self.shown = percent;
            let _ = write!(io::stderr(), "\r\x1b[K{what}: {percent} %");
        }
    }

    /// Wipes it, for others to write there.
    pub fn end(&mut self) {
        if self.is_terminal && self.shown > 0 {
            self.shown = 0;
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
