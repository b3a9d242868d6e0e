//! `secrets-encrypt status`: once, or for as long as somebody watches.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::output::{Voice, json};
use super::{SharedFlags, failed, settings};
use crate::app::{RotationError, RotationReport, RotationWork, rotation};
use crate::cli::output::{Output, print};
use crate::rotation::Error;

/// How long etcd may be in trouble while values are counted.
const WAIT: Duration = Duration::from_secs(30);

/// Flags of `status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StatusFlags {
    #[command(flatten)]
    shared: SharedFlags,
    /// How it is printed, to standard output
    #[arg(short, long, value_enum, default_value = "text", help_heading = "Status")]
    output: Output,
    /// Read every value and count what is under which key, rather than tell what the last sweep found
    #[arg(long, help_heading = "Status")]
    count: bool,
    /// Look every second until Ctrl-C, and draw it anew; where standard output is no terminal, print it again when it has
    /// changed
    #[arg(short, long, conflicts_with = "count", help_heading = "Status")]
    watch: bool,
}

/// Carries it out.
pub(super) fn run(flags: StatusFlags) -> anyhow::Result<ExitCode> {
    let settings = settings(flags.shared, WAIT, None)?;
    let voice = Arc::new(Voice::watching(flags.output));
    let work = if flags.watch {
        RotationWork::Watch
    } else {
        RotationWork::Status { count: flags.count }
    };
    let outcome = rotation(&settings, work, &voice);
    voice.finish();
    let text = match (outcome, flags.output) {
        (Ok(RotationReport::Status(status)), Output::Text) => status.to_string(),
        (Ok(RotationReport::Status(status)), Output::Json) => json(&status)?,
        (Err(RotationError::Rotation(Error::NoFile(_))), Output::Text) => {
            "Encryption Status: Disabled, no configuration file found\n".to_owned()
        }
        (Err(RotationError::Rotation(Error::NoFile(_))), Output::Json) => {
            "{\n\t\"stage\": \"\",\n\t\"activekey\": \"\"\n}\n".to_owned()
        }
        (Err(error), _) => return failed(error),
        (
            Ok(
                RotationReport::Done(_)
                | RotationReport::Plan(_)
                | RotationReport::Forgotten(_)
                | RotationReport::Watched,
            ),
            _,
        ) => String::new(),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
