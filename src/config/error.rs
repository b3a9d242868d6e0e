//! Everything that is wrong with a document, in one value. Holds places, field paths and rules; never a value that
//! could be key material.

use std::fmt;

/// Problems beyond this many are counted, not kept: a document made of nothing else must not fill memory or a log.
const MAX_PROBLEMS: usize = 1_000;

/// Every problem found in one document, at least one.
///
/// Displayed one problem a line, in the order of the document's checks, without the file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    problems: Vec<Problem>,
    omitted: usize,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the document: the field, or what lacks it. `None` where the problem is the document as a whole.
    pub location: Option<Location>,
    /// What, in kube-apiserver's words where it has words for it.
    pub message: String,
}

/// A place in a document. Both count from one; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Error {
    /// The problems, in the order of the document's checks; past a thousand only their number is kept.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// A problem that leaves nothing else to look at.
    pub(super) fn single(location: impl Into<Option<Location>>, message: impl Into<String>) -> Self {
        let problem = Problem {
            location: location.into(),
            message: message.into(),
        };
        Self {
            problems: vec![problem],
            omitted: 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(problem, f)?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Location { line, column }) = self.location {
            write!(f, "{line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Location {
    /// Where the byte at `offset` of `text` stands.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: 1 + before.matches('\n').count(),
            column: 1 + before.chars().count() - before.get(..line_start).map_or(0, |lines| lines.chars().count()),
        }
    }
}

/// The problems of one stage of checks.
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    omitted: usize,
}

impl Problems {
    pub(super) fn push(&mut self, location: Location, message: impl FnOnce() -> String) {
        if self.kept.len() < MAX_PROBLEMS {
            self.kept.push(Problem {
                location: Some(location),
                message: message(),
            });
        } else {
            self.omitted += 1;
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.kept.len() + self.omitted
    }

    /// `value`, if the stage found nothing wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, Error> {
        if self.kept.is_empty() {
            Ok(value)
        } else {
            Err(Error {
                problems: self.kept,
                omitted: self.omitted,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_columns_count_characters() {
        let text = "é\r\nüx\n";
        for (offset, line, column) in [(0, 1, 1), (2, 1, 2), (4, 2, 1), (6, 2, 2), (8, 3, 1), (99, 3, 1)] {
            assert_eq!(Location::of(text, offset), Location { line, column }, "{offset}");
        }
    }

    #[test]
    fn problems_past_the_bound_are_counted() {
        let mut problems = Problems::default();
        for index in 0..=MAX_PROBLEMS + 1 {
            problems.push(Location { line: index, column: 1 }, || "x".into());
        }
        let error = problems.or(()).expect_err("there are problems");
        assert_eq!(error.problems().len(), MAX_PROBLEMS);
        assert!(error.to_string().ends_with("\n999:1: x\nand 2 more"), "{error}");
    }
}
