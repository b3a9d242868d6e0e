//! Flags of what is logged, to standard error, which every verb has that works for longer than a moment.

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::telemetry::{Format, Logging, check_level, init_logging, init_queued_logging};

/// The flags. A verb tells of what is wrong alone, unless its own flags say otherwise (`mut_arg`).
#[derive(Debug, Args)]
pub(super) struct LogFlags {
    /// error, warn, info, debug, trace or off, or a list of target=level
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_LOG_LEVEL",
        value_name = "LEVEL",
        value_parser = level,
        default_value = "warn",
        help_heading = "Operation"
    )]
    log_level: String,
    /// How log lines on standard error look
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_LOG_FORMAT",
        value_enum,
        default_value = "text",
        help_heading = "Operation"
    )]
    log_format: LogFormat,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogFlags {
    /// Sets up logging for the whole process.
    pub(super) fn init(&self) -> anyhow::Result<()> {
        init_logging(self.format(), &self.log_level).context("--log-level")
    }

    /// The same for a process that serves: until what is returned is dropped.
    pub(super) fn init_queued(&self) -> anyhow::Result<Logging> {
        init_queued_logging(self.format(), &self.log_level).context("--log-level")
    }

    fn format(&self) -> Format {
        match self.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }
}

fn level(given: &str) -> Result<String, String> {
    check_level(given).map_err(|error| error.to_string())?;
    Ok(given.to_owned())
}
