//! `verify`: whether a log is what was sealed.

use std::path::{Path, PathBuf};

use audit_logger::tool::Error;
use audit_logger::tool::report::Report;
use audit_logger::tool::verify::{Options, verify};
use chrono::NaiveDate;
use clap::Args;

use crate::far;
use crate::interrupt;
use crate::output::{Colour, Output, Progress, plain};
use crate::stamp::authority::Anchors;
use crate::stamped::Stamped;

/// Verifies a log: every line, the whole tree, the signature
///
/// Reads only, takes no lock, and works on a copy or on a log that is being written.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger verify audit_logs
  audit-logger verify audit_logs --vkey log.vkey --guard /var/lib/audit/guard
  audit-logger verify audit_logs --policy policy.txt
  audit-logger verify backup --copy
  audit-logger verify audit_logs --checkpoint kept/2026-11-01 --checkpoint kept/2026-11-02 --json
  zcat gathered/*.gz | audit-logger verify --lines - --tree copies/web-1
  audit-logger verify --lines gathered.jsonl --fleet fleet.json --from 2026-11-01 --to 2026-11-30

With --lines, lines from anywhere and in any order are compared with the trees of the logs: which sealed lines are
missing, which lines were altered or never sealed, and which are there more than once (that is no fault). What was
written since its log was last sealed isn't sealed yet; what was written more than a minute before that and isn't
sealed is overdue: the log left it out, or it was put in. The lines must be as they were written, to the byte. A tree may have been copied while it grew: it's taken up to where it's
whole. A fleet is {\"hosts\": [{\"name\", \"tree\", \"vkey\", \"guard_file\", \"checkpoints\", \"policy\",
\"silent_after_s\"}, ...]}, all but the first two left out at will; a host is called what its entries' details.host says.

Without --vkey the log vouches for itself, without --guard and --checkpoint an older copy of it in its place
isn't noticed; what is printed says so. --policy says which signatures of witnesses the log must have.

Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage, 3 it can't be read or isn't sealed")]
pub struct Arguments {
    /// The directory of the log
    #[arg(
        value_name = "DIR",
        required_unless_present = "lines",
        conflicts_with = "lines"
    )]
    directory: Option<PathBuf>,
    #[command(flatten)]
    against: Against,
    /// A file with lines that were gathered elsewhere, or - for the standard input; may be repeated
    #[arg(long = "lines", value_name = "FILE", requires = "trees", conflicts_with_all = ["copy", "tsa_cert"])]
    lines: Vec<PathBuf>,
    /// With --lines: the directory of the log, or of a copy, whose .integrity says what was sealed
    #[arg(long, value_name = "DIR", group = "trees", requires = "lines")]
    tree: Option<PathBuf>,
    /// With --lines: a file that lists the logs of many hosts
    #[arg(long, value_name = "FILE", group = "trees", requires = "lines", conflicts_with_all = ["vkey", "guard", "checkpoints", "policy"])]
    fleet: Option<PathBuf>,
    /// With --lines: no line of a day before it need be there
    #[arg(long, value_name = "DATE", requires = "lines", value_parser = crate::date)]
    from: Option<NaiveDate>,
    /// With --lines: no line of a day after it need be there
    #[arg(long, value_name = "DATE", requires = "lines", value_parser = crate::date)]
    to: Option<NaiveDate>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What a log is verified against.
#[derive(Args)]
pub struct Against {
    /// The public key that was noted when the log was made, or a file with it
    #[arg(long, value_name = "TEXT|FILE")]
    vkey: Option<String>,
    /// The guard file, which knows how far the log had come
    #[arg(long, value_name = "FILE")]
    guard: Option<PathBuf>,
    /// A file with checkpoints of the log that were kept elsewhere; may be repeated
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// The directory is a copy that was taken file by file while the log was written: verify it up to where
    /// it's whole
    #[arg(long)]
    copy: bool,
    /// A file with a policy (C2SP tlog-policy): the log's key, its witnesses, and how many of them must have
    /// signed
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A file with certificates in PEM, of those who are believed when the log was time-stamped: of time stamping
    /// authorities, or of who issued theirs
    #[arg(long, value_name = "FILE")]
    tsa_cert: Option<PathBuf>,
}

impl Against {
    pub fn options(&self) -> Result<Options, Error> {
        Ok(Options {
            vkey: self.vkey.as_deref().map(crate::vkey).transpose()?,
            guard: self.guard.clone(),
            checkpoints: self.checkpoints.clone(),
            policy: self.policy.clone(),
            copy: self.copy,
        })
    }

    /// Where the tree alone is looked at, and time stamps aren't.
    pub fn of_tree(&self) -> Result<Options, Error> {
        match self.tsa_cert {
            None => self.options(),
            Some(_) => Err(Error::argument(
                "--tsa-cert is for verify DIR: time stamps aren't looked at here",
            )),
        }
    }

    /// Verifies the log in a directory, and its time stamps.
    pub fn verify(
        &self,
        directory: &Path,
        progress: &mut dyn FnMut(u64, u64),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Report, Stamped), Error> {
        let options = self.options()?;
        let anchors = self.tsa_cert.as_deref().map(Anchors::read).transpose()?;
        let mut stamped = Stamped::read(directory, anchors.as_ref())?;
        let mut report = verify(directory, &options, progress, cancelled)?;
        stamped.report(&mut report);
        Ok((report, stamped))
    }
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let hosts = match (&arguments.fleet, &arguments.tree) {
        (Some(fleet), _) => far::Host::fleet(fleet)?,
        (None, Some(tree)) => vec![far::Host::alone(tree, &arguments.against.options()?)],
        (None, None) => Vec::new(),
    };
    let Some(directory) = &arguments.directory else {
        let days = far::Days {
            from: arguments.from.map(|day| day.to_string()),
            to: arguments.to.map(|day| day.to_string()),
        };
        return far::run(&hosts, &arguments.lines, &days, arguments.json, out);
    };
    let mut progress = Progress::new();
    let mut show = |done, of| progress.show("verifying", done, of);
    let interrupted = interrupt::watch()?;
    let verified = arguments.against.verify(directory, &mut show, &interrupted);
    drop(progress);
    let (report, stamped) = verified?;
    if arguments.json {
        let mut json = Vec::new();
        report.write(&mut json, |timestamps| stamped.write(timestamps));
        out.raw_line(&json);
    } else {
        print(&report, &stamped, out);
    }
    report.verdict()
}

/// What was verified and what the tree has recorded: what each fact is about, and the fact, not made plain.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut fact = |about, text| facts.push((about, text));
    let root = audit_logger::tool::checkpoint::format_hash(&report.root);
    let (origin, size) = (&report.origin, report.size);
    fact("log", format!("{origin}, {size} entries, root {root}"));
    if report.beyond > 0 {
        let text = format!(
            "up to entry {size}; {} more are known of, and not in this copy",
            report.beyond
        );
        fact("copied", text);
    }
    let text = format!("{} lines in {} files", report.lines, report.files);
    fact("verified", text);
    if report.remembered > 0 {
        let text = format!("{} checkpoints from outside", report.remembered);
        fact("compared", text);
    }
    if let Some(witnessed) = &report.witnessed {
        let in_future = match witnessed.in_future {
            true => " (in the future)",
            false => "",
        };
        let text = format!(
            "{} entries, as of {}{in_future}, by {}",
            witnessed.size,
            witnessed.as_of,
            witnessed.names.join(", ")
        );
        fact("witnessed", text);
    }
    if report.unsealed_lines > 0 {
        let text = format!(
            "{} lines, {} bytes, at the ends of files",
            report.unsealed_lines, report.unsealed_bytes
        );
        fact("not sealed", text);
    }
    for held in &report.holds {
        let (from, to, since, reason) = (&held.from, &held.to, &held.since, &held.reason);
        let number = held.number;
        let text = format!("{from} to {to}, since {since}, hold {number}: {reason}");
        fact("held", text);
    }
    for text in recorded(report) {
        fact("recorded", text);
    }
    fact("begun", report.begun.clone());
    fact("last seal", report.last_record.clone());
    facts
}

/// What the log has recorded of itself and isn't of every log.
pub fn recorded(report: &Report) -> Vec<String> {
    let recorded = [
        (report.torn, "torn lines blanked"),
        (report.purged, "files removed as their time was over"),
        (
            report.below_floor,
            "days given up before they were kept for six months",
        ),
        (report.released, "holds released"),
        (report.gaps, "times sealed bytes were missing"),
        (report.recovered, "times bytes were sealed late"),
        (report.rollbacks, "times the directory had been put back"),
        (
            report.disputes,
            "times a witness had seen more of it, or another tree",
        ),
        (
            report.prunable,
            "files that retention has given up, still there",
        ),
        (
            report.unsettled,
            "tiles behind what is signed, to be made anew",
        ),
    ];
    let told = recorded.into_iter().filter(|(count, _)| *count > 0);
    told.map(|(count, what)| format!("{count} {what}"))
        .collect()
}

fn print(report: &Report, stamped: &Stamped, out: &mut Output) {
    let verdict = match report.intact() {
        true => out.coloured(Colour::Green, "intact"),
        false => out.coloured(Colour::Red, "TAMPERED"),
    };
    out.line(format_args!("{verdict} ({})", report.grade()));
    for (about, text) in facts(report) {
        out.line(format_args!("{:<11} {}", format!("{about}:"), plain(&text)));
    }
    for text in stamped.facts() {
        out.line(format_args!("{:<11} {}", "stamped:", plain(&text)));
    }
    if !report.intact() {
        out.line(format_args!("findings:   {}", report.finding_count));
    }
    for finding in &report.findings {
        let place = match finding.line {
            0 => String::new(),
            line => format!(":{line}"),
        };
        let class = out.coloured(Colour::Red, finding.class.name());
        out.line(format_args!(
            "  {}{place}: {class}: {}",
            plain(&finding.file),
            plain(&finding.message)
        ));
    }
    for (what, remarks) in [
        ("unreadable, and never sealed", &report.unreadable),
        ("not counting", &report.conflicts),
    ] {
        if remarks.count > 0 {
            out.line(format_args!("{what}: {}", remarks.count));
        }
        for remark in &remarks.kept {
            let (file, message) = (plain(&remark.file), plain(&remark.message));
            out.line(format_args!("  {file}: {message}"));
        }
    }
    if report.stranger_count > 0 {
        out.line(format_args!(
            "named like the log's files, and none of them: {}",
            report.stranger_count
        ));
    }
    for stranger in &report.strangers {
        out.line(format_args!("  {}", plain(stranger)));
    }
    out.line("can't be detected with what was given:");
    for blind_spot in report.blind_spots() {
        out.line(format_args!("  - {}", plain(&blind_spot)));
    }
}
