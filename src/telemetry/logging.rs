//! Sends log events to standard error, as text or as JSON lines.

use std::fmt::Write as _;
use std::io;
use std::sync::OnceLock;

use thiserror::Error;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{Family, Kind};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// No level is given.
    #[error("the log level is empty: expected error, warn, info, debug, trace or off, or target=level pairs")]
    Empty,
    /// A part of it is no level, and would be taken for a target of which everything is logged, and of all others nothing.
    #[error("{0:?} is no log level: expected error, warn, info, debug, trace or off, or target=level pairs")]
    Level(String),
    /// The filter is not understood.
    #[error("not a log filter: expected error, warn, info, debug, trace or off, or target=level pairs")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging is already set up in this process.
    #[error("logging is already set up")]
    Twice,
}

/// What the HTTP/2 library warns of is what peers send, as often as they care to send it: a hostile client could fill the
/// disk with it. A directive of the operator's own goes before this one.
const QUIET: &str = "h2=error";

/// Lines that may wait to be written; what comes beyond is lost, and counted.
const QUEUE: usize = 8 * 1024;

/// What this module tells.
pub const FAMILIES: &[Family] = &[LOST];

const LOST: Family = Family {
    name: "etcd_encryption_proxy_log_lines_lost_total",
    kind: Kind::Counter,
    help: "Log lines that were not written, because nothing reads standard error or it takes them too slowly.",
    labels: &[],
};

/// Counts the lines that were lost, where they are queued.
static LOST_LINES: OnceLock<ErrorCounter> = OnceLock::new();

/// Writes what is queued when it is dropped, for a second at most.
#[must_use = "nothing that is queued is written once this is dropped"]
pub struct Logging(#[expect(dead_code, reason = "held for its end")] WorkerGuard);

/// Sets up logging for the whole process. Who logs waits until the line is written: nothing is lost.
///
/// `level` is a level name or a comma-separated list of `target=level`.
///
/// # Errors
/// [`LoggingError`].
pub fn init_logging(format: Format, level: &str) -> Result<(), LoggingError> {
    init(format, level, io::stderr)
}

/// The same for a process that serves: lines are queued, and nobody waits for who reads them.
///
/// # Errors
/// [`LoggingError`].
pub fn init_queued_logging(format: Format, level: &str) -> Result<Logging, LoggingError> {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let lost = writer.error_counter();
    init(format, level, writer)?;
    // Nobody else can have set it: logging is set up once.
    let _ = LOST_LINES.set(lost);
    Ok(Logging(guard))
}

/// Refuses what would turn logging off without anybody wanting that.
///
/// # Errors
/// [`LoggingError`], which names the part that is no level.
pub fn check_level(level: &str) -> Result<(), LoggingError> {
    if level.trim().is_empty() {
        return Err(LoggingError::Empty);
    }
    // Within brackets stand spans and fields, which may have commas of their own.
    let mut depth = 0;
    let directives = level.split(|char| {
        depth += match char {
            '[' | '{' => 1,
            ']' | '}' => -1,
            _ => 0,
        };
        char == ',' && depth == 0
    });
    for directive in directives {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if level.trim().parse::<LevelFilter>().is_err() || level.trim().is_empty() {
            return Err(LoggingError::Level(directive.trim().to_owned()));
        }
    }
    Ok(())
}

fn init<W>(format: Format, level: &str, writer: W) -> Result<(), LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    check_level(level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(format!("{QUIET},{level}"))?)
        .with_writer(writer);
    let set = match format {
        Format::Text => builder.with_ansi(false).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| LoggingError::Twice)
}

/// Appends what was lost in Prometheus' text format; nothing where lines are not queued.
pub(super) fn render(out: &mut String) {
    let Some(lost) = LOST_LINES.get() else { return };
    let (name, kind, lost) = (LOST.name, LOST.kind.as_str(), lost.dropped_lines());
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {lost}\n\n",
        LOST.help
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_turn_logging_off_is_refused_by_name() {
        for level in [
            "info",
            "WARN",
            "off",
            "trace",
            "h2=debug,info",
            "a[b{c=1,d=2}]=info,warn",
        ] {
            assert!(check_level(level).is_ok(), "{level}");
        }
        assert!(matches!(check_level(" "), Err(LoggingError::Empty)));
        for (level, named) in [
            ("warning", "warning"),
            ("info,debgu", "debgu"),
            ("h2=warning", "h2=warning"),
            ("info,", ""),
            ("h2=", "h2="),
        ] {
            let error = check_level(level).unwrap_err();
            assert!(
                matches!(&error, LoggingError::Level(part) if part == named),
                "{level}: {error}"
            );
        }
    }
}
