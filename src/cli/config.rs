//! `config check` and `config key`: what can be done with a configuration without running a proxy.

mod check;
mod key;
mod text;

use std::process::ExitCode;

use clap::Subcommand;

use crate::app;

/// The verbs below `config`.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Say whether a configuration is valid, what the proxy understands by it, and what about it is doubtful
    ///
    /// Exit codes: 0 if it is valid, 1 if it is not or can't be read, 2 for wrong usage, 3 if it is valid and --strict finds
    /// something to warn of.
    Check(check::Flags),
    /// Make a new key and print it as a provider to paste into a configuration
    Key(key::Flags),
}

/// Carries out `verb`.
pub(super) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    app::forbid_dumps()?;
    match verb {
        Verb::Check(flags) => check::run(&flags),
        Verb::Key(flags) => key::run(&flags),
    }
}
