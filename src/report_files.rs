//! Report output: the flags that select report files, and writing the files.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, value_parser};
use report::Report;
use report::output::{self, Format};

use crate::flags::{FAILED, failed};

/// Part of `--help` for every command that writes reports.
pub(crate) const HELP: &str = "The verdict is printed before any file is written. A file is complete or absent; when one \
                               cannot be written, the others still are, and the exit code is 1 whatever the verdict is.";

/// One flag per report format.
pub(crate) fn flags() -> impl Iterator<Item = Arg> {
    Format::ALL.into_iter().map(|form| {
        Arg::new(form.name())
            .long(form.name())
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(form.help())
    })
}

/// Checks before a run that each report file can be written.
pub(crate) fn probe(flags: &ArgMatches) -> Result<(), ExitCode> {
    let mut faults = requested(flags).filter_map(|(form, path)| output::probe(form, path).err()).peekable();
    if faults.peek().is_none() {
        return Ok(());
    }
    for fault in faults {
        eprintln!("flash-sale: {fault}");
    }
    Err(ExitCode::from(FAILED))
}

/// Prints the verdict, then writes the files; returns the exit code.
pub(crate) fn deliver(report: &Report, flags: &ArgMatches, has_colours: bool) -> ExitCode {
    let mut is_delivered = print(&report.table(has_colours));
    for (form, path) in requested(flags) {
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

/// Prints a line to standard output; false if that failed, for example on a full disk.
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

/// The report files that were requested. Not every command has a flag for every format.
fn requested(flags: &ArgMatches) -> impl Iterator<Item = (Format, &PathBuf)> {
    Format::ALL.into_iter().filter_map(|form| {
        let path = flags.try_get_one::<PathBuf>(form.name()).ok().flatten()?;
        Some((form, path))
    })
}
