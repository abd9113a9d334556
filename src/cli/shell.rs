//! `campanile completions` and `campanile man`: what a package installs beside the program.

use super::{Cli, EXIT_FAILED, fail, print};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::{path::PathBuf, process::ExitCode};

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell that is to complete commands and flags
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Write a page for each command into this directory, instead of printing one for all
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "campanile", &mut text);
    print(String::from_utf8_lossy(&text).trim_end())
}

/// Prints the manual page, or writes that of each command.
pub(super) fn man(args: &ManArgs) -> ExitCode {
    let command = Cli::command();
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        return match clap_mangen::Man::new(command).render(&mut page) {
            Ok(()) => print(String::from_utf8_lossy(&page).trim_end()),
            Err(error) => fail(EXIT_FAILED, error),
        };
    };
    match clap_mangen::generate_to(command, dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(EXIT_FAILED, format_args!("cannot write into {}: {error}", dir.display()))
        }
    }
}
