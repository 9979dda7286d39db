//! `verify`: whether a log is what was sealed.

use std::path::PathBuf;

use audit_logger::tool::Error;
use audit_logger::tool::report::Report;
use audit_logger::tool::verify::{Options, verify};
use clap::Args;

use crate::output::{Colour, Output, Progress, plain};

/// Verifies a log: every line, the whole tree, the signature
///
/// Reads only, takes no lock, and works on a copy or on a log that is being written.
#[derive(Args)]
#[command(after_help = "\
Examples:
  audit-logger verify audit_logs
  audit-logger verify audit_logs --vkey log.vkey --guard /var/lib/audit/guard
  audit-logger verify audit_logs --checkpoint kept/2026-11-01 --checkpoint kept/2026-11-02 --json

Without --vkey the log vouches for itself, without --guard and --checkpoint an older copy of it in its place
isn't noticed; what is printed says so.

Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage, 3 it can't be read or isn't sealed")]
pub struct Arguments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The public key that was noted when the log was made, or a file with it
    #[arg(long, value_name = "TEXT|FILE")]
    vkey: Option<String>,
    /// The guard file, which knows how far the log had come
    #[arg(long, value_name = "FILE")]
    guard: Option<PathBuf>,
    /// A file with checkpoints of the log that were kept elsewhere; may be repeated
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let options = Options {
        vkey: arguments.vkey.as_deref().map(crate::vkey).transpose()?,
        guard: arguments.guard.clone(),
        checkpoints: arguments.checkpoints.clone(),
    };
    let mut progress = Progress::new();
    let mut show = |done, of| progress.show("verifying", done, of);
    let report = verify(&arguments.directory, &options, &mut show, &|| false);
    drop(progress);
    let report = report?;
    if arguments.json {
        let mut json = Vec::new();
        report.write(&mut json);
        out.raw_line(&json);
    } else {
        print(&report, out);
    }
    report.verdict()
}

fn print(report: &Report, out: &mut Output) {
    let verdict = match report.intact() {
        true => out.coloured(Colour::Green, "intact"),
        false => out.coloured(Colour::Red, "TAMPERED"),
    };
    out.line(format_args!("{verdict} ({})", report.grade()));
    out.line(format_args!(
        "log:        {}, {} entries, root {}",
        plain(&report.origin),
        report.size,
        audit_logger::tool::checkpoint::format_hash(&report.root)
    ));
    out.line(format_args!(
        "verified:   {} lines in {} files",
        report.lines, report.files
    ));
    if report.remembered > 0 {
        out.line(format_args!(
            "compared:   {} checkpoints from outside",
            report.remembered
        ));
    }
    if report.unsealed_lines > 0 {
        out.line(format_args!(
            "not sealed: {} lines, {} bytes, at the ends of files",
            report.unsealed_lines, report.unsealed_bytes
        ));
    }
    let recorded = [
        (report.torn, "torn lines blanked"),
        (report.purged, "files removed as their time was over"),
        (report.gaps, "times sealed bytes were missing"),
        (report.recovered, "times bytes were sealed late"),
        (report.rollbacks, "times the directory had been put back"),
        (
            report.prunable,
            "files that retention has given up, still there",
        ),
        (
            report.unsettled,
            "tiles behind what is signed, to be made anew",
        ),
    ];
    for (count, what) in recorded.into_iter().filter(|(count, _)| *count > 0) {
        out.line(format_args!("recorded:   {count} {what}"));
    }
    out.line(format_args!("begun:      {}", plain(&report.begun)));
    out.line(format_args!("last seal:  {}", plain(&report.last_record)));
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
