//! Gauges that tell something by their labels and always have the value 1, such as which configuration is loaded.
//!
//! Kept apart from the registry, which never lets go of a series: each time the labels changed, one more would
//! stay behind that says what is no longer so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::Family;
use super::family::labelled;

/// By the name of the family: its help text, and the labels of its one series as they are rendered.
static FAMILIES: Mutex<BTreeMap<&str, (&str, String)>> = Mutex::new(BTreeMap::new());

/// Makes `labels` those of the only series of `family`. For the whole process, as the `metrics` macros are.
pub fn set_info(family: &Family, labels: &[(&str, &str)]) {
    let rendered = labelled(labels.iter().copied());
    let mut families = FAMILIES.lock().unwrap_or_else(PoisonError::into_inner);
    families.insert(family.name, (family.help, rendered));
}

/// Appends all families in Prometheus' text format.
pub(super) fn render(out: &mut String) {
    let families = FAMILIES.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, (help, labels)) in families.iter() {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{labels}}} 1\n\n"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Kind;

    #[test]
    fn a_family_has_one_series_and_its_labels_are_escaped() {
        let family = Family {
            name: "test_info",
            kind: Kind::Gauge,
            help: "Help.",
            labels: &["hash", "other"],
        };
        set_info(&family, &[("hash", "old")]);
        set_info(&family, &[("hash", "a\"b\\c\nd"), ("other", "x")]);
        let mut out = String::new();
        render(&mut out);
        let expected =
            "# HELP test_info Help.\n# TYPE test_info gauge\ntest_info{hash=\"a\\\"b\\\\c\\nd\",other=\"x\"} 1\n";
        assert!(out.contains(expected), "{out}");
        assert_eq!(out.matches("test_info{").count(), 1);
    }
}
