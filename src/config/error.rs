//! Everything that is wrong with a document, in one value. Holds places, field paths and rules; never a value that
//! could be key material.

use std::fmt;

/// Every problem found in one document, at least one.
///
/// Displayed one problem a line, in the order of the document's checks, without the file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Problem>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the document; `None` where the problem is what is absent, or the whole.
    pub location: Option<Location>,
    /// What, in kube-apiserver's words where it has words for it.
    pub message: String,
}

/// A place in a document. Both count from one; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl Error {
    /// The problems, in the order of the document's checks.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if let Some(Location { line, column }) = problem.location {
                write!(f, "{line}:{column}: ")?;
            }
            f.write_str(&problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
