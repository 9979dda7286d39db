//! `man`: the manual, of the same words as the help.

use std::fs;
use std::path::{Path, PathBuf};

use audit_logger::tool::Error;
use clap::builder::{Resettable, StyledStr};
use clap::{Args, Command};
use clap_mangen::{Man, roff};

/// Writes the manual: a page for the tool, and one for each command
///
/// For whoever packages it. A test compares the pages with those that the project keeps.
#[derive(Args)]
pub struct Arguments {
    /// The directory that the pages are written to
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub fn run(arguments: &Arguments, tool: Command) -> Result<(), Error> {
    let mut tool = tool.disable_help_subcommand(true);
    // Gives the commands their full names.
    tool.build();
    let shown = tool
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    for command in shown.chain([&tool]) {
        page(command.clone(), &arguments.directory)?;
    }
    Ok(())
}

fn page(command: Command, directory: &Path) -> Result<(), Error> {
    // It would be run together into one paragraph with the heading "EXTRA".
    let last = last_sections(command.get_after_help());
    let page = Man::new(command.after_help(Resettable::Reset))
        .source(format!("audit_logger {}", env!("CARGO_PKG_VERSION")))
        .manual("audit_logger");
    let path = directory.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)
        .and_then(|()| fs::write(&path, [&text[..], last.as_bytes()].concat()))
        .map_err(|error| Error::log(format!("{}: {error}", path.display())))
}

/// What a help ends with, as sections: a line that ends with a colon is a heading, and an indented one stands as it is.
fn last_sections(help: Option<&StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut page = roff::Roff::new();
    for line in help.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|line| !line.contains(':')) {
            page.control("SH", [heading.to_uppercase().as_str()]);
        } else if line.is_empty() {
            page.control("PP", []);
        } else if line.starts_with(' ') {
            page.control("nf", [])
                .text([roff::roman(line)])
                .control("fi", []);
        } else {
            page.text([roff::roman(line)]);
        }
    }
    page.to_roff()
}
