//! The contenders: how each is made, what it's told to do, and what came of it.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::server::Server;
use crate::source;
use crate::table::Series;
use crate::workload::Workload;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// With this a contender says that it can't run here (automake's number for it).
const SKIPPED: i32 = 77;
/// A contender that takes longer hangs.
const LONGEST_TURN: Duration = Duration::from_secs(120);

// ---------------------------------------------------------------- making them

/// The library under test.
pub struct Library {
    /// The shared library, as `cargo build --release` leaves it.
    pub path: PathBuf,
}

impl Library {
    pub fn build() -> Result<Library> {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--release", "--lib", "--message-format=json"])
            .arg("--manifest-path")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        crate::outer_cargo::forget(&mut cargo);
        let built = cargo.stderr(Stdio::inherit()).output()?;
        if !built.status.success() {
            return Err("cargo build --release failed".into());
        }
        let path = built
            .stdout
            .lines()
            .map_while(io::Result::ok)
            .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
            .filter(|message| message["target"]["name"] == env!("CARGO_PKG_NAME"))
            .find_map(|message| shared_library(&message["filenames"]));
        Ok(Library {
            path: path.ok_or("cargo names no shared library")?,
        })
    }
}

fn shared_library(files: &Value) -> Option<PathBuf> {
    files
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .find(|file| file.ends_with(".so"))
        .map(PathBuf::from)
}

/// Makes contenders from their sources.
pub struct Tools<'a> {
    library: &'a Library,
    room: &'a Path,
}

/// How to start a contender.
#[derive(Clone)]
pub struct Program {
    /// The program and its first arguments, or why it can't be had here.
    command: std::result::Result<Vec<OsString>, String>,
    /// Where it logs.
    log: PathBuf,
}

impl<'a> Tools<'a> {
    pub fn new(library: &'a Library, room: &'a Path) -> Tools<'a> {
        Tools { library, room }
    }

    /// A program in C that needs these packages of pkg-config.
    pub fn c(&self, name: &str, packages: &[&str]) -> Result<Program> {
        self.compile("CC", "cc", &format!("{name}.c"), "-std=gnu11", packages)
    }

    /// The same in C++.
    pub fn cpp(&self, name: &str, packages: &[&str]) -> Result<Program> {
        self.compile("CXX", "c++", &format!("{name}.cpp"), "-std=c++17", packages)
    }

    /// A program in Python.
    pub fn python(&self, file: &str) -> Program {
        let interpreter = std::env::var_os("AUDIT_TEST_PYTHON").unwrap_or("python3".into());
        if let Err(error) = Command::new(&interpreter).arg("--version").output() {
            return self.program(Err(format!("{}: {error}", interpreter.display())));
        }
        // Newer interpreters warn of functions that the seed uses.
        let quiet = ["-W", "ignore"].map(OsString::from);
        let mut command = vec![interpreter];
        command.extend(quiet);
        command.push(source(file).into());
        self.program(Ok(command))
    }

    fn program(&self, command: std::result::Result<Vec<OsString>, String>) -> Program {
        let log = self.room.join("log");
        Program { command, log }
    }

    fn compile(
        &self,
        variable: &str,
        default: &str,
        file: &str,
        standard: &str,
        packages: &[&str],
    ) -> Result<Program> {
        let flags = match flags_of(packages) {
            Ok(flags) => flags,
            Err(missing) => return Ok(self.program(Err(missing))),
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (source, shared) = (source(file), crate::source("measure.h"));
        let header = root.join("include/audit_logger.h");
        let program = self.room.join(source.file_stem().unwrap_or_default());
        let found = self.program(Ok(vec![program.clone().into()]));
        // Those in C++ take ten seconds.
        if is_newer(&program, &[&source, &shared, &header, &self.library.path]) {
            return Ok(found);
        }
        let beside = self
            .library
            .path
            .parent()
            .ok_or("the library has no path")?;
        let mut rpath = OsString::from("-Wl,-rpath,");
        rpath.push(beside);
        let compiler = std::env::var_os(variable).unwrap_or(default.into());
        let mut command = Command::new(&compiler);
        command
            .args(["-O2", "-Wall", "-Wextra", "-pthread", "-rdynamic", standard])
            .arg("-I")
            .arg(root.join("include"))
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .args(flags);
        if packages.is_empty() {
            command.arg("-L").arg(beside).arg(rpath);
            command.args(["-laudit_logger", "-ldl"]);
        }
        match command.status() {
            Ok(status) if status.success() => Ok(found),
            Ok(_) => Err(format!("{file} doesn't compile").into()),
            Err(error) => Ok(self.program(Err(format!("{}: {error}", compiler.display())))),
        }
    }
}

/// What the compiler must be told to use these packages, or what is missing.
fn flags_of(packages: &[&str]) -> std::result::Result<Vec<String>, String> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Command::new("pkg-config")
        .args(["--cflags", "--libs", "--print-errors"])
        .args(packages)
        .output()
        .map_err(|error| format!("pkg-config: {error}"))?;
    if !asked.status.success() {
        let reason = String::from_utf8_lossy(&asked.stderr);
        return Err(reason.lines().last().unwrap_or("pkg-config failed").into());
    }
    let flags = String::from_utf8_lossy(&asked.stdout);
    Ok(flags.split_whitespace().map(str::to_owned).collect())
}

fn is_newer(made: &Path, from: &[&Path]) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
    changed(made).is_ok_and(|made: SystemTime| {
        from.iter()
            .all(|from| changed(from).is_ok_and(|from| from < made))
    })
}

// ---------------------------------------------------------------- what they do

/// What a contender does in each of its turns.
pub struct Job<'a> {
    mode: &'static str,
    calls: u64,
    /// Entries that its log must hold afterwards; `None` for one that has no log.
    entries: Option<u64>,
    arguments: Vec<String>,
    server: Option<&'a Server>,
    /// Its arguments don't start with the mode.
    bare: bool,
}

impl<'a> Job<'a> {
    /// So many calls, after a tenth of them to warm up; one entry each.
    pub fn new(mode: &'static str, calls: u64) -> Job<'a> {
        Job {
            mode,
            calls,
            entries: Some(calls + calls / 10),
            arguments: Vec::new(),
            server: None,
            bare: false,
        }
    }

    /// Leaves another number of entries.
    pub fn entries(mut self, entries: u64) -> Job<'a> {
        self.entries = Some(entries);
        self
    }

    /// Leaves no log, and takes no argument for it.
    pub fn no_log(mut self) -> Job<'a> {
        self.entries = None;
        self
    }

    /// Takes no argument for the mode.
    pub fn bare(mut self) -> Job<'a> {
        self.bare = true;
        self
    }

    pub fn argument(mut self, argument: impl Display) -> Job<'a> {
        self.arguments.push(argument.to_string());
        self
    }

    /// Each call is a request to the server, which counts them.
    pub fn calls_to(mut self, server: &'a Server) -> Job<'a> {
        self.server = Some(server);
        self.argument(server.url())
    }
}

/// What came of one turn.
pub struct Turn {
    report: Value,
    /// Lines of the log, and their bytes.
    pub entries: u64,
    pub log_bytes: u64,
}

impl Turn {
    /// A number of the contender's own report.
    pub fn report(&self, key: &str) -> Result<f64> {
        let number = self.report[key].as_f64();
        Ok(number.ok_or_else(|| format!("a contender doesn't report {key}"))?)
    }
}

/// A contender and its turns.
pub struct Contender<'a> {
    pub name: &'static str,
    program: Program,
    job: Job<'a>,
    /// Wall and CPU time of a call, in microseconds, by round.
    times: Vec<(f64, f64)>,
}

impl<'a> Contender<'a> {
    pub fn of(name: &'static str, program: &Program, job: Job<'a>) -> Contender<'a> {
        Contender {
            name,
            program: program.clone(),
            job,
            times: Vec::new(),
        }
    }

    /// Why it doesn't take part.
    pub fn missing(&self) -> Option<&str> {
        self.program.command.as_ref().err().map(String::as_str)
    }

    /// Wall time of a call in each round.
    pub fn wall(&self) -> Series {
        self.times.iter().map(|(wall, _)| *wall).collect()
    }

    /// CPU time of a call in each round.
    pub fn cpu(&self) -> Series {
        self.times.iter().map(|(_, cpu)| *cpu).collect()
    }

    /// One turn. An error where the contender failed, or didn't do what it was told.
    pub fn turn(&mut self, workload: &Workload) -> Result<Turn> {
        let (log, job) = (&self.program.log, &self.job);
        let Ok(command) = &self.program.command else {
            return Err(self.missing().unwrap_or_default().into());
        };
        if log.exists() {
            fs::remove_dir_all(log)?;
        }
        fs::create_dir_all(log)?;
        let served = job.server.map_or(0, Server::served);

        let mut process = Command::new(&command[0]);
        process.args(&command[1..]);
        if !job.bare {
            process.arg(job.mode);
        }
        process.arg(&workload.directory);
        if job.entries.is_some() {
            process.arg(log);
        }
        process.arg(job.calls.to_string()).args(&job.arguments);
        // The server is on this machine, whatever proxy the environment names.
        process.env("NO_PROXY", "*").env("no_proxy", "*");
        let (status, output) = run(process, &log.with_extension("stderr"))?;
        if status.code() == Some(SKIPPED) {
            self.program.command = Err(output.trim().to_owned());
            return Err(output.into());
        }
        if !status.success() {
            return Err(format!("{} {}: {status}\n{output}", self.name, job.mode).into());
        }

        let (entries, log_bytes) = count_lines(log)?;
        fs::remove_dir_all(log)?;
        if job.entries.unwrap_or(0) != entries {
            return Err(format!("{} left {entries} entries", self.name).into());
        }
        if let Some(server) = job.server
            && server.served() - served != job.calls + job.calls / 10
        {
            return Err(format!("{}: requests are missing", self.name).into());
        }
        let report = serde_json::from_str(&output)?;
        Ok(Turn {
            report,
            entries,
            log_bytes,
        })
    }
}

/// Gives each contender its turn, round after round.
pub fn interleave(
    rounds: usize,
    contenders: &mut [Contender<'_>],
    workload: &Workload,
) -> Result<()> {
    for _ in 0..rounds {
        for contender in &mut *contenders {
            if contender.missing().is_some() {
                continue;
            }
            match contender.turn(workload) {
                Ok(turn) => {
                    let times = (turn.report("wall_us")?, turn.report("cpu_us")?);
                    contender.times.push(times);
                }
                Err(_) if contender.missing().is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Runs a contender to its end. Its output, or what it says on stderr when it fails.
fn run(mut command: Command, stderr: &Path) -> Result<(ExitStatus, String)> {
    let spawned = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(stderr)?)
        .spawn();
    let mut child = spawned.map_err(|error| format!("{command:?}: {error}"))?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > LONGEST_TURN {
            child.kill()?;
            child.wait()?;
            return Err(format!("{command:?} doesn't end").into());
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut output = String::new();
    if status.success() {
        // One line, which fits the pipe.
        let mut stdout = child.stdout.take().ok_or("stdout isn't piped")?;
        stdout.read_to_string(&mut output)?;
    } else {
        output = fs::read_to_string(stderr)?;
    }
    fs::remove_file(stderr)?;
    Ok((status, output))
}

/// The lines of the files in a directory, and their bytes.
fn count_lines(directory: &Path) -> io::Result<(u64, u64)> {
    let (mut lines, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let mut reader = BufReader::with_capacity(1 << 16, File::open(entry.path())?);
        loop {
            let chunk = reader.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len();
            lines += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
            bytes += length as u64;
            reader.consume(length);
        }
    }
    Ok((lines, bytes))
}
