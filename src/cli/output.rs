//! What a verb prints to standard output: text for people, or JSON for programs.

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

/// The flag of a verb whose outcome is a report.
#[derive(Debug, Args)]
pub(super) struct OutputFlags {
    /// How the report is printed, to standard output
    #[arg(
        short,
        long,
        env = "ETCD_ENCRYPTION_PROXY_OUTPUT",
        value_enum,
        default_value = "text",
        help_heading = "Operation"
    )]
    pub(super) output: Output,
}

/// `--output`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    Text,
    Json,
}

impl Output {
    /// Prints `report` as was asked for.
    pub(super) fn print(self, report: &(impl Display + Serialize)) -> anyhow::Result<()> {
        match self {
            Self::Text => print(&report.to_string()),
            Self::Json => print(&(serde_json::to_string_pretty(report)? + "\n")),
        }
    }
}

/// Prints `text` as it stands.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    io::stdout().write_all(text.as_bytes()).context("standard output")
}
