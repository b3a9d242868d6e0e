//! What a room says about a metric family of its own, as data: the registry describes it, and tests hold the dashboard,
//! the alerts and the scrape against it. Records nothing.

use std::fmt::Write as _;

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name, unit and all.
    pub name: &'static str,
    /// Which kind of numbers it has.
    pub kind: Kind,
    /// What it counts, for people: a sentence.
    pub help: &'static str,
    /// The labels of each of its series, none more and none less.
    pub labels: &'static [&'static str],
}

/// The kinds of family, as Prometheus has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How many of what was measured lie below which bound.
    Histogram(Buckets),
}

impl Kind {
    /// Prometheus' word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The bounds of a histogram, each so many times the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    /// The lowest bound.
    pub start: f64,
    /// What a bound is multiplied by to make the next.
    pub factor: f64,
    /// How many bounds; the one at infinity is not counted.
    pub count: usize,
}

impl Buckets {
    /// The bounds, rising.
    pub fn bounds(self) -> Vec<f64> {
        std::iter::successors(Some(self.start), |bound| Some(bound * self.factor))
            .take(self.count)
            .collect()
    }
}

/// Labels and their values as the text format has them between braces.
pub(super) fn labelled<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (label, value) in labels {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{label}=\"{}\"", escaped(value));
    }
    text
}

/// A label's value with `\`, `"` and line ends escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_or_a_line_is_escaped() {
        assert_eq!(labelled([]), "");
        let labels = [("a", r#"q"uote"#), ("b", r"back\slash\\"), ("c", "line\nend\\\n")];
        let expected = r#"a="q\"uote",b="back\\slash\\\\",c="line\nend\\\n""#;
        assert_eq!(labelled(labels), expected);
    }
}
