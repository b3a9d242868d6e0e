//! When a key is replaced without anybody asking for it, and when not.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::printed::{cbc, facts, key};
use crate::rotation::machine::Command;
use crate::rotation::record::Record;
use crate::rotation::steward::{Policy, due};
use crate::rotation::usage::Usage;

fn is_due_after_writes(most: u64, sealed: u64, stored: u64, record: Record) -> bool {
    let policy = Policy {
        every: None,
        after_writes: Some(most),
    };
    let mut usage = Usage::default();
    usage.add(&BTreeMap::from([(key("k1"), sealed)]), &[key("k1")]);
    let facts = facts(&[&cbc(&["k1"])], record);
    due(&policy, &facts, &[], &usage, stored, SystemTime::now()).is_some()
}

#[test]
fn a_key_is_due_after_so_many_writes_when_nothing_is_under_way() {
    assert!(!is_due_after_writes(100, 99, 0, Record::default()));
    assert!(is_due_after_writes(100, 100, 0, Record::default()));
    let busy = Record {
        underway: Some(Command::Prepare),
        ..Record::default()
    };
    assert!(!is_due_after_writes(100, 1_000, 0, busy));
}

/// It has sealed each of them once: the key after it would, too, and there would be no end of rotations.
#[test]
fn a_key_that_has_just_sealed_everything_anew_is_not_due_by_that() {
    for (stored, at) in [(60, 100), (100, 150), (20_000, 30_000)] {
        assert!(!is_due_after_writes(100, at - 1, stored, Record::default()), "{stored}");
        assert!(is_due_after_writes(100, at, stored, Record::default()), "{stored}");
    }
}

#[test]
fn nothing_is_due_where_nothing_was_asked_for() {
    let facts = facts(&[&cbc(&["k1"])], Record::default());
    let later = SystemTime::now() + Duration::from_secs(1 << 32);
    assert_eq!(due(&Policy::default(), &facts, &[], &Usage::default(), 0, later), None);
}
