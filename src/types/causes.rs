//! An error for a log line or a status: what happened, and what caused it.

use std::error::Error;

/// The error and its causes, in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::num::ParseIntError;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no revision")]
    struct Outer(#[source] ParseIntError);

    #[test]
    fn what_caused_it_stands_behind_it() {
        let error = Outer("x".parse::<i64>().unwrap_err());
        assert_eq!(with_causes(&error), "no revision: invalid digit found in string");
        assert_eq!(with_causes(&error.0), "invalid digit found in string");
    }
}
