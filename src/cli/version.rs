//! `version`: which build this is.

use std::fmt;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::OutputFlags;

/// What `--version` prints after the name.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BUILD_COMMIT"),
    "\nrustc: ",
    env!("BUILD_RUSTC"),
    "\ntarget: ",
    env!("BUILD_TARGET"),
    "\nfeatures: ",
    env!("BUILD_FEATURES"),
);

/// Flags of `version`.
#[derive(Debug, Args)]
pub(super) struct Flags {
    #[command(flatten)]
    output: OutputFlags,
}

/// The build, as it is printed.
#[derive(Debug, Serialize)]
struct Build {
    version: &'static str,
    /// `unknown` where the build was not told.
    commit: &'static str,
    rustc: &'static str,
    target: &'static str,
    features: Vec<&'static str>,
}

impl fmt::Display for Build {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "etcd-encryption-proxy {LONG}")
    }
}

/// Prints it.
pub(super) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let build = Build {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("BUILD_COMMIT"),
        rustc: env!("BUILD_RUSTC"),
        target: env!("BUILD_TARGET"),
        features: env!("BUILD_FEATURES")
            .split(',')
            .filter(|name| *name != "none")
            .collect(),
    };
    flags.output.output.print(&build)?;
    Ok(ExitCode::SUCCESS)
}
