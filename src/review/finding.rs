//! One doubtful thing about a configuration.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known; perhaps just what is meant.
    Note,
    /// Values are less protected than they seem, or can become unreadable.
    Warning,
    /// A proxy that runs with the configuration of before refuses it.
    Error,
}

/// One doubtful thing. Holds names and places, never key bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Which check it is of: a word that stays the same from release to release.
    pub check: &'static str,
    /// Where in the document, as in `resources[0].providers[1]`. Empty for what is no longer there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<String>,
    /// What it is, and what can be done.
    pub message: String,
}

impl Finding {
    pub(super) fn warning(check: &'static str, at: Vec<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            check,
            at,
            message: message.into(),
        }
    }

    pub(super) fn error(check: &'static str, at: Vec<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            ..Self::warning(check, at, message)
        }
    }

    pub(super) fn note(check: &'static str, at: Vec<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::warning(check, at, message)
        }
    }
}
