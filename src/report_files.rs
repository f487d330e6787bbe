//! Where reports go: the flags, and the files of them.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, value_parser};
use loadgen::Report;
use loadgen::output::{self, Form};

use crate::flags::{FAILED, failed};

/// For `--help` of whatever writes reports.
pub(crate) const HELP: &str = "The verdict is printed before any file is written. A file is whole or not there; when one \
                               cannot be written the others still are, and the exit code is 1 whatever the verdict is.";

/// A flag for each form.
pub(crate) fn flags() -> impl Iterator<Item = Arg> {
    Form::ALL.into_iter().map(|form| {
        Arg::new(form.name())
            .long(form.name())
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(form.help())
    })
}

/// Says, before a run is spent on it, that a file cannot be put where it should go.
pub(crate) fn probe(flags: &ArgMatches) -> Result<(), ExitCode> {
    let mut faults = asked(flags).filter_map(|(form, path)| output::probe(form, path).err()).peekable();
    if faults.peek().is_none() {
        return Ok(());
    }
    for fault in faults {
        eprintln!("flash-sale: {fault}");
    }
    Err(ExitCode::from(FAILED))
}

/// Prints the verdict, then writes the files; the exit code of it all.
pub(crate) fn deliver(report: &Report, flags: &ArgMatches, has_colours: bool) -> ExitCode {
    let mut is_delivered = print(&report.table(has_colours));
    for (form, path) in asked(flags) {
        match output::write(report, form, path) {
            Ok(files) => {
                for file in files {
                    is_delivered &= print(&format!("{} report: {}", form.name(), file.display()));
                }
            }
            Err(fault) => {
                eprintln!("flash-sale: {fault}");
                is_delivered = false;
            }
        }
    }
    ExitCode::from(if is_delivered { report.verdict.exit_code() } else { FAILED })
}

/// A line on standard output, which may be a full disk as well; false when it could not be written.
pub(crate) fn print(text: &str) -> bool {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) => {
            failed(format!("standard output cannot be written: {error}"));
            false
        }
    }
}

/// Not every command has every form.
fn asked(flags: &ArgMatches) -> impl Iterator<Item = (Form, &PathBuf)> {
    Form::ALL.into_iter().filter_map(|form| {
        let path = flags.try_get_one::<PathBuf>(form.name()).ok().flatten()?;
        Some((form, path))
    })
}
