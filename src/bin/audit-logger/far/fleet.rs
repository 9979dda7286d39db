//! Which logs lines are compared with: one, or those of a fleet.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use audit_logger::tool::Error;
use audit_logger::tool::report::Report;
use audit_logger::tool::verify::Options;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::line::stamp;

/// A log, and what is known of it beside its tree.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The machine's, as its entries' details have it.
    pub name: String,
    /// The directory that has its `.integrity`.
    pub tree: PathBuf,
    /// The public key's text, or a file with it.
    vkey: Option<String>,
    guard_file: Option<PathBuf>,
    #[serde(default)]
    checkpoints: Vec<PathBuf>,
    /// Whose signatures its tree must have.
    policy: Option<PathBuf>,
    /// It is silent if it hasn't been sealed for so long.
    silent_after_s: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fleet {
    hosts: Vec<Host>,
}

impl Host {
    /// The one log of a directory.
    pub fn alone(tree: &Path, options: &Options) -> Host {
        Host {
            name: String::new(),
            tree: tree.to_owned(),
            vkey: options.vkey.clone(),
            guard_file: options.guard.clone(),
            checkpoints: options.checkpoints.clone(),
            policy: options.policy.clone(),
            silent_after_s: None,
        }
    }

    /// Those that a file lists. Its paths are relative to it.
    pub fn fleet(path: &Path) -> Result<Vec<Host>, Error> {
        let named = |error: String| Error::argument(format!("{}: {error}", path.display()));
        let text = read(path).map_err(|error| named(error.to_string()))?;
        let fleet: Fleet = serde_json::from_str(&text).map_err(|error| named(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let mut hosts = fleet.hosts;
        if hosts.is_empty() {
            return Err(named("it lists no hosts".to_owned()));
        }
        let mut names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(named(format!("two hosts are called {:?}", pair[0])));
        }
        for host in &mut hosts {
            let paths = host.checkpoints.iter_mut().chain(&mut host.guard_file);
            paths
                .chain(&mut host.policy)
                .chain([&mut host.tree])
                .for_each(|path| *path = base.join(&*path));
            // A key's text has two plus signs; what hasn't is a path.
            if let Some(vkey) = host.vkey.take_if(|vkey| vkey.split('+').count() < 3) {
                host.vkey = Some(base.join(vkey).to_string_lossy().into_owned());
            }
        }
        Ok(hosts)
    }

    /// What its tree is verified with.
    pub fn options(&self) -> Result<Options, Error> {
        Ok(Options {
            policy: self.policy.clone(),
            copy: true,
            vkey: self.vkey.as_deref().map(crate::vkey).transpose()?,
            guard: self.guard_file.clone(),
            checkpoints: self.checkpoints.clone(),
        })
    }

    /// From when on it's silent, unless it's sealed before; `None` if it may be.
    pub fn silent_from(&self, report: &Report) -> Option<DateTime<Utc>> {
        let silence = TimeDelta::seconds(i64::from(self.silent_after_s?));
        let last = stamp(&report.last_seal).unwrap_or(DateTime::<Utc>::MIN_UTC);
        Some(last + silence)
    }

    /// Whether nothing came to its tree for so long that something is wrong.
    pub fn is_silent(&self, report: &Report) -> bool {
        let now = DateTime::<Utc>::from(SystemTime::now());
        self.silent_from(report).is_some_and(|from| now > from)
    }
}

/// A fleet's text.
fn read(path: &Path) -> io::Result<String> {
    /// Ten thousand hosts take less.
    const MOST: u64 = 16 << 20;
    let mut text = String::new();
    let length = File::open(path)?.take(MOST + 1).read_to_string(&mut text)?;
    match length as u64 > MOST {
        true => Err(io::Error::other("it's longer than 16 MiB")),
        false => Ok(text),
    }
}
