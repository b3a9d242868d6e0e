//! What `secrets-encrypt` prints: k3s's lines to standard output, ours behind them, progress to standard error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize as _;
use serde_json::ser::PrettyFormatter;

use crate::cli::output::{Output, print};
use crate::cli::sweep::progress::{Display, display};
use crate::rotation::{Audience, Command, Error, Outcome, Status};
use crate::sweep::{Observer, Progress, Stage, Work};
use crate::types::with_causes;

/// Has a terminal go to its upper left corner.
const HOME: &str = "\x1b[H";
/// And forget the rest of the line, or all that is below.
const TO_END_OF_LINE: &str = "\x1b[K";
const BELOW: &str = "\x1b[J";

/// Who tells the operator.
pub(super) struct Voice {
    display: Arc<Display>,
    /// How a status is drawn.
    output: Output,
    /// What was drawn last.
    drawn: Mutex<String>,
}

impl Voice {
    pub(super) fn new() -> Self {
        Self::watching(Output::Text)
    }

    /// The same, with a status drawn like this.
    pub(super) fn watching(output: Output) -> Self {
        Self {
            display: display(),
            output,
            drawn: Mutex::default(),
        }
    }

    fn draw(&self, text: String) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        // What can't be written there can't be written anywhere.
        let _ = if io::stdout().is_terminal() {
            let lines = text.replace('\n', &format!("{TO_END_OF_LINE}\n"));
            let clears = if drawn.is_empty() { BELOW } else { "" };
            print(&format!("{HOME}{clears}{lines}{BELOW}"))
        } else if *drawn == text {
            Ok(())
        } else {
            print(&text)
        };
        *drawn = text;
    }

    /// Takes the bar off the screen.
    pub(super) fn finish(&self) {
        self.display.finish();
    }
}

impl Observer for Voice {
    fn notice(&self, text: &str) {
        self.display.notice(text);
    }

    fn progress(&self, progress: &Progress) {
        self.display.progress(progress);
    }
}

impl Audience for Voice {
    fn says(&self, line: &str) {
        // What can't be written there can't be written anywhere.
        let _ = print(&format!("{line}\n"));
    }

    fn notice(&self, text: &str) {
        self.display.notice(text);
    }

    fn stands(&self, status: Result<&Status, &Error>) {
        self.draw(match (status, self.output) {
            (Ok(status), Output::Text) => status.to_string(),
            (Ok(status), Output::Json) => json(status).unwrap_or_default(),
            (Err(error), _) => return self.display.notice(&with_causes(error)),
        });
    }

    fn follows(&self, work: &Work) {
        let [looked, proved] = work.scanned;
        let (stage, done) = if proved > 0 {
            (Stage::Look, proved)
        } else {
            (Stage::Rewrite, looked)
        };
        self.display.progress(&Progress {
            stage,
            done,
            // The other's goal is not known; the first pass met about as many as the proof will.
            total: looked,
            rewritten: work.rewritten,
        });
    }
}

/// As k3s prints it: indented by tabs.
pub(super) fn json(status: &Status) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    status.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

/// The command's success, in k3s's words, and then what came of it.
pub(super) fn done(command: Command, outcome: &Outcome) -> String {
    let mut text = String::new();
    let first = match command {
        Command::Prepare => "prepare completed successfully",
        Command::Rotate => "rotate completed successfully",
        // Its own line came when it started.
        Command::Reencrypt => "reencryption finished",
        Command::RotateKeys => "keys rotated, reencryption finished",
        Command::Enable => "secrets-encryption enabled",
        Command::Disable => "secrets-encryption disabled",
        Command::Migrate => "migrated, reencryption finished",
        Command::Abort => "rotation aborted",
        Command::Recover if !outcome.recovered.is_empty() => "recovery finished",
        Command::Recover if outcome.left.is_empty() => {
            return "nothing needs recovering: a key of the configuration opens every value that is stored\n"
                .to_owned();
        }
        Command::Recover => return "nothing could be recovered\n".to_owned(),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{first}");
    if let Some(report) = &outcome.report {
        let counts = &report.counts;
        let _ = writeln!(
            text,
            "{} values looked at, {} rewritten by this command",
            counts.scanned, counts.rewritten
        );
        if counts.undecryptable > 0 {
            let _ = writeln!(
                text,
                "{} values do not open and were left as they are",
                counts.undecryptable
            );
        }
    }
    for key in &outcome.recovered {
        let _ = writeln!(text, "recovered with {key}");
    }
    for key in &outcome.removed {
        let _ = writeln!(text, "removed {key}");
    }
    if let Some(revision) = outcome.needed_before {
        let _ = writeln!(
            text,
            "what was stored before revision {revision}, in snapshots for instance, still needs it"
        );
    }
    let _ = match command {
        Command::Disable => writeln!(
            text,
            "what is stored stays encrypted until it is written again: `reencrypt --force --skip` stores all of it in the clear"
        ),
        Command::Enable => writeln!(
            text,
            "what is stored in the clear stays so until it is written again: `reencrypt --force --skip` encrypts all of it"
        ),
        _ => Ok(()),
    };
    let _ = match outcome.members {
        0 => writeln!(text, "no member is there: nobody had to load the configuration"),
        members => writeln!(text, "members: {members}"),
    };
    text
}

/// What was given up.
pub(super) fn forgotten(lines: &[String]) -> String {
    let mut text = "what left no way out is forgotten\n".to_owned();
    for line in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {line}");
    }
    text
}

/// What would be done.
pub(super) fn plan(command: Command, forgets: bool, lines: &[String]) -> String {
    let flag = if forgets { " --forget" } else { "" };
    let mut text = format!("`{}{flag}` would\n", command.as_str());
    for (line, number) in lines.iter().zip(1..) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{number}. {line}");
    }
    text
}
