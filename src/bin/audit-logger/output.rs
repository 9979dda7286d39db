//! What is printed, and how: colours, and nothing that a terminal would obey.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use audit_logger::tool::Error;

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

/// Says on the standard error what went wrong.
pub fn complain(message: &str) {
    // Where that is closed, nobody can be told.
    let _ = writeln!(io::stderr(), "audit-logger: {}", plain(message));
}

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

    /// Shows how much of it is done, when that is another percent.
    pub fn show(&mut self, what: &str, done: u64, of: u64) {
        let percent = done * 100 / of.max(1);
        if self.is_terminal && percent != self.shown {
            self.shown = percent;
            let _ = write!(io::stderr(), "\r\x1b[K{what}: {percent} %");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
