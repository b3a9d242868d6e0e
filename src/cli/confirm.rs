//! Asks the operator before something that cannot be taken back: on a terminal, or not at all.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;

use clap::Args;

use crate::app::Confirm;

/// The flag of verbs that ask.
#[derive(Debug, Args)]
pub(super) struct YesFlags {
    /// Go on without asking; needed where standard input is no terminal
    #[arg(short, long, help_heading = "Operation")]
    yes: bool,
}

impl YesFlags {
    /// Who answers: the operator, or the flag. `None` where neither can.
    pub(super) fn confirm(&self) -> Option<Confirm> {
        if self.yes {
            return Some(Arc::new(|_| Ok(true)));
        }
        io::stdin().is_terminal().then(|| Arc::new(ask) as Confirm)
    }
}

/// For verbs that do nothing to be asked about.
pub(super) fn never() -> Confirm {
    Arc::new(|_| Ok(true))
}

/// Anything but a yes is a no.
fn ask(question: &str) -> io::Result<bool> {
    let mut terminal = io::stderr();
    write!(terminal, "{question} [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
