//! `flash-sale completions` and `flash-sale man`: what a shell and a package want to know of the command line, made
//! from the very flags that are parsed.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::flags::failed;

/// `completions`
pub(crate) fn command() -> Command {
    Command::new("completions")
        .about("Print the completions of a shell")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("Which shell"),
        )
        .after_help(
            "Examples:\n  \
             flash-sale completions bash > ~/.local/share/bash-completion/completions/flash-sale\n  \
             flash-sale completions zsh > ~/.zfunc/_flash-sale\n  \
             flash-sale completions fish > ~/.config/fish/completions/flash-sale.fish",
        )
}

/// `man`
pub(crate) fn man_command() -> Command {
    Command::new("man")
        .about("Write the man pages, one for each subcommand, or print the first")
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .help("Folder for all pages; without it the first is printed"),
        )
        .after_help("Examples:\n  flash-sale man | man -l -\n  flash-sale man --dir ~/.local/share/man/man1")
}

/// Prints the completions.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let Some(&shell) = flags.get_one::<Shell>("shell") else { return failed("no shell") };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::flags::command(), "flash-sale", &mut script);
    print(&script)
}

/// Prints or writes the pages.
pub(crate) fn man(flags: &ArgMatches) -> ExitCode {
    // There is no page of `help`, so none may name it.
    let command = crate::flags::command().disable_help_subcommand(true);
    match flags.get_one::<String>("dir") {
        None => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(command).render(&mut page) {
                Ok(()) => print(&page),
                Err(error) => failed(error),
            }
        }
        Some(dir) => {
            let written =
                std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, Path::new(dir)));
            match written {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(format!("{dir}: {error}; give a folder that can be written")),
            }
        }
    }
}

/// A reader that has had enough (`head`) is no failure.
fn print(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(error),
        _ => ExitCode::SUCCESS,
    }
}
