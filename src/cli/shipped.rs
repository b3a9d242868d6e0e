//! What packages ship beside the binary and is made of its flags: completions of shells, and man pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use super::output::print;

/// Flags of `completion`.
#[derive(Debug, Args)]
pub(super) struct CompletionFlags {
    /// Which shell
    #[arg(value_enum)]
    shell: ShellName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// Flags of `man-pages`.
#[derive(Debug, Args)]
pub(super) struct ManFlags {
    /// Where they are written to
    folder: PathBuf,
}

/// Prints the completions of a shell.
pub(super) fn completion(mut command: Command, flags: &CompletionFlags) -> anyhow::Result<ExitCode> {
    let shell = match flags.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let name = command.get_name().to_owned();
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut out);
    print(&String::from_utf8(out).context("completions")?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the program and for each verb.
pub(super) fn man_pages(command: Command, flags: &ManFlags) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(command, &flags.folder)
        .with_context(|| format!("{} does not take the man pages", flags.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
