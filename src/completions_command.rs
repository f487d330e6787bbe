//! `flash-sale completions` and `flash-sale man`: shell completions and man pages, generated from the definitions that also
//! parse the command line.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::flags::failed;

/// `completions`
pub(crate) fn command() -> Command {
    Command::new("completions")
        .about("Print shell completions")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("Shell to generate completions for"),
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
        .about("Write the man pages, one per subcommand, or print the main page")
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .help("Write all pages to this directory (default: print the main page)"),
        )
        .after_help("Examples:\n  flash-sale man | man -l -\n  flash-sale man --dir ~/.local/share/man/man1")
}

/// Prints the completions of `command`, the whole command line.
pub(crate) fn run(flags: &ArgMatches, mut command: Command) -> ExitCode {
    let Some(&shell) = flags.get_one::<Shell>("shell") else { return failed("no shell") };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "flash-sale", &mut script);
    print(&script)
}

/// Prints or writes the man pages of `command`, the whole command line.
pub(crate) fn man(flags: &ArgMatches, command: Command) -> ExitCode {
    // The `help` subcommand has no page, so no page may refer to it.
    let command = command.disable_help_subcommand(true);
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
                Err(error) => failed(format!("{dir}: {error}; give a writable directory")),
            }
        }
    }
}

/// A closed pipe (as by `head`) is not an error.
fn print(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => failed(error),
        _ => ExitCode::SUCCESS,
    }
}
