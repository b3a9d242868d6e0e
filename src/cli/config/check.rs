//! `config check`: reads the documents and the flags; what is found out about them is `review`'s business.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;

use crate::cli::common::LayoutFlags;
use crate::cli::output::Output;
use crate::cli::switch::SWITCH;
use crate::config::{self, EncryptionConfiguration, Options};
use crate::files::{self, Exposure};
use crate::keyspace::KeySpace;
use crate::review::{self, Finding, RuleView, Severity};

/// What the process ends with if `--strict` is given and there are warnings.
const DOUBTFUL: u8 = 3;

/// Goes up when a field of the JSON output changes its meaning or goes; new ones may come at any time.
const FORMAT: u32 = 1;

/// Flags of `config check`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Flags {
    /// The EncryptionConfiguration; `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The configuration in use so far: say what the change from it makes unreadable
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    layout: LayoutFlags,
    /// Check by the rules for a configuration that is reloaded while it is in use, as `serve` has it
    #[arg(long, default_value_t = true, value_name = SWITCH)]
    encryption_provider_config_automatic_reload: bool,
    /// End with exit code 3 if there is anything to warn of
    #[arg(long)]
    strict: bool,
    /// How the outcome is printed, to standard output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// The outcome, as `-o json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Of this format: 1.
    pub(super) version: u32,
    /// As it was given.
    pub(super) file: String,
    pub(super) valid: bool,
    /// SHA-256 of the document, as the metrics and the log of `serve` have it; only of a valid one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fingerprint: Option<String>,
    /// Why it is not valid.
    pub(super) problems: Vec<Problem>,
    pub(super) rules: Vec<RuleView>,
    pub(super) findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// Counts from 1; absent where the problem is the document as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// In characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    message: String,
    /// Both, as `serve` would say it.
    #[serde(skip)]
    pub(super) text: String,
}

/// Checks the document and prints the outcome.
pub(super) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let layout = &flags.layout;
    let keyspace = KeySpace::new(layout.etcd_prefix.clone());
    let keyspace = keyspace.and_then(|keyspace| keyspace.with_paths(layout.resource_path.clone()));
    let keyspace = keyspace.map_err(|error| anyhow!("{}: {error}", error.flag()))?;
    let previous = match &flags.previous {
        None => None,
        // What was in use so far is held to no more than it had to be.
        Some(file) => {
            let document = read(file, false).context("--previous")?;
            Some(
                document
                    .parsed
                    .with_context(|| format!("--previous: {} is not valid", file.display()))?,
            )
        }
    };
    let document = read(&flags.file, flags.encryption_provider_config_automatic_reload)?;
    let mut report = Report {
        version: FORMAT,
        file: flags.file.display().to_string(),
        valid: document.parsed.is_ok(),
        fingerprint: None,
        problems: Vec::new(),
        rules: Vec::new(),
        findings: Vec::new(),
    };
    match document.parsed {
        Ok(config) => {
            report.fingerprint = Some(config.fingerprint.to_string());
            report.rules = review::rules(&config, &keyspace);
            report.findings = review::findings(&config, previous.as_ref(), &keyspace);
        }
        Err(error) => report.problems = error.problems().iter().map(Problem::of).collect(),
    }
    report.findings.extend(document.exposure.map(|exposure| Finding {
        severity: Severity::Warning,
        check: "exposed-file",
        at: Vec::new(),
        message: exposure.to_string(),
    }));
    flags.output.print(&report)?;
    let has = |severity| report.findings.iter().any(|finding| finding.severity == severity);
    let is_usable = report.valid && !has(Severity::Error);
    Ok(match (is_usable, has(Severity::Warning) && flags.strict) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(DOUBTFUL),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// A document that was read.
struct Document {
    parsed: Result<EncryptionConfiguration, config::Error>,
    /// Who else could have read it.
    exposure: Option<Exposure>,
}

/// Reads and parses `file`. The error is that it can't be read.
fn read(file: &Path, reload: bool) -> Result<Document, files::Error> {
    // A document that is a little too long is read, and refused as such with the other problems.
    let limit = config::MAX_DOCUMENT_BYTES + 1;
    let (bytes, exposure) = if file == Path::new("-") {
        (files::read_stream(io::stdin(), file, limit)?, None)
    } else {
        let contents = files::read(file, limit)?;
        (contents.bytes, contents.exposure)
    };
    let parsed = config::parse(&bytes, Options { reload });
    Ok(Document { parsed, exposure })
}

impl Problem {
    fn of(problem: &config::Problem) -> Self {
        Self {
            line: problem.location.map(|location| location.line),
            column: problem.location.map(|location| location.column),
            message: problem.message.clone(),
            text: problem.to_string(),
        }
    }
}
