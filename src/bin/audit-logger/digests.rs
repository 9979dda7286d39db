//! `digests`: what a database needs to compare lines that it has with those that logs have sealed.

use std::path::PathBuf;

use audit_logger::tool::Error;
use audit_logger::tool::far::{self, Sealed};
use chrono::SecondsFormat;
use clap::Args;

use crate::far::{Host, prefix};
use crate::output::{Output, Progress, hex};
use crate::verify::{Against, recorded};

/// Prints the SHA-256 of every sealed line, for a database to compare its lines with
///
/// A line each, with tabs between: host, file, number of the line in it (blank ones don't count), the SHA-256 of the
/// line without its line feed, in hexadecimal, and an empty text. What is said of a whole log stands in the place of that
/// text, behind its host, two empty texts and 0 between them: each finding, what the log has recorded of itself, when
/// it was sealed last, and from when on the fleet's file has it silent if it isn't sealed before. The tree is verified first: of one that isn't what was signed, or an older one than is known, only
/// the findings are printed. Days that retention has removed are left out. deploy/clickhouse has tables and views for it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger digests gathered/web-1 --vkey web-1.vkey
  audit-logger digests --fleet fleet.json | clickhouse-client -q 'INSERT INTO audit_sealed (host, file, number, hex, said) FORMAT TSV'

A fleet is described by the help of verify. Without one the host is an empty text.

Exit codes: 0 printed, 1 a log was tampered with, 2 wrong usage, 3 one can't be read or isn't sealed. What is printed
of the others is right all the same.")]
pub struct Arguments {
    /// The directory of the log, or of a copy
    #[arg(
        value_name = "DIR",
        required_unless_present = "fleet",
        conflicts_with = "fleet"
    )]
    directory: Option<PathBuf>,
    #[command(flatten)]
    against: Against,
    /// A file that lists the logs of many hosts
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vkey", "guard", "checkpoints", "policy", "copy", "tsa_cert"])]
    fleet: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let hosts = match (&arguments.fleet, &arguments.directory) {
        (Some(fleet), _) => Host::fleet(fleet)?,
        (None, Some(directory)) => vec![Host::alone(directory, &arguments.against.of_tree()?)],
        (None, None) => Vec::new(),
    };
    let mut progress = Progress::new();
    let mut failed = Ok(());
    for host in &hosts {
        let mut show = |done, of| progress.show("reading trees", done, of);
        let printed = print(host, &mut show, out).map_err(|error| {
            Error::new(
                error.status,
                format!("{}{}", prefix(&host.name), error.message),
            )
        });
        failed = failed.and(printed);
        // Nobody reads any more.
        if !out.flush() {
            break;
        }
    }
    failed
}

fn print(host: &Host, show: &mut dyn FnMut(u64, u64), out: &mut Output) -> Result<(), Error> {
    // Each by itself: nothing is kept of those before.
    let mut sealed = Sealed::default();
    let name = escaped(&host.name);
    let read = far::read(&host.tree, &host.options()?, &sealed.keys(), show, &|| {
        false
    });
    let report = match read.and_then(|read| sealed.add(read)) {
        Ok(report) => report,
        Err(error) => {
            out.line(format_args!(
                "{name}\t\t0\t\tno answer: {}",
                escaped(&error.message)
            ));
            return Err(error);
        }
    };
    for finding in &report.findings {
        let (class, message) = (finding.class.name(), escaped(&finding.message));
        out.line(format_args!("{name}\t\t0\t\t{class}: {message}"));
    }
    if sealed.is_genuine(0) {
        sealed.each(0, &|| false, &mut |place| {
            let digest = hex(&place.digest);
            out.line(format_args!(
                "{name}\t{}\t{}\t{digest}\t",
                place.file, place.line
            ));
        })?;
        for text in recorded(&report) {
            out.line(format_args!("{name}\t\t0\t\trecorded: {text}"));
        }
        // Behind what it's about, for whoever gets no more than the beginning.
        let last_seal = escaped(&report.last_seal);
        out.line(format_args!("{name}\t\t0\t\tsealed: {last_seal}"));
        if let Some(from) = host.silent_from(&report) {
            let from = from.to_rfc3339_opts(SecondsFormat::Micros, true);
            out.line(format_args!("{name}\t\t0\t\tsilent from: {from}"));
        }
    }
    report.verdict()
}

/// As a field of a file with tabs has it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
}
