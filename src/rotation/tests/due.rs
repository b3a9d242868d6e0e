//! When a key is replaced without anybody asking for it, and when not.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::printed::{cbc, facts, key};
use crate::config::KeyType;
use crate::managed::{KeyAge, Time};
use crate::rotation::machine::Command;
use crate::rotation::record::Record;
use crate::rotation::steward::{Policy, ahead, due};
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

/// The clock of the machine that made it was ten years ahead.
#[test]
fn a_key_of_a_time_to_come_is_due_so_long_after_it_was_first_seen() {
    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    let facts = facts(&[&cbc(&["k1"])], Record::default());
    let policy = Policy {
        every: Some(Duration::from_secs(20)),
        after_writes: None,
    };
    let seen = Time::of(SystemTime::UNIX_EPOCH + 5 * YEARS);
    let after = |seconds| seen.system() + Duration::from_secs(seconds);
    let ages = [KeyAge {
        provider: KeyType::AesCbc,
        name: key("k1").name,
        since: Time::of(after(0) + YEARS),
    }];
    let mut usage = Usage::default();
    assert_eq!(ahead(&facts, &ages, &usage, seen), [(key("k1"), ages[0].since)]);
    usage.count_from(&key("k1"), seen);
    assert_eq!(ahead(&facts, &ages, &usage, seen), [], "it is told once");
    let is_due = |usage: &Usage, at| due(&policy, &facts, &ages, usage, 0, at).is_some();
    assert!(!is_due(&usage, after(19)));
    assert!(is_due(&usage, after(20)));
    // Seen by a clock that was itself ahead of this one: the same again.
    let now = Time::of(after(0) - Duration::from_secs(60));
    assert_eq!(ahead(&facts, &ages, &usage, now), [(key("k1"), seen)]);
    assert!(!is_due(&usage, now.system()));
    usage.count_from(&key("k1"), now);
    assert!(is_due(&usage, after(0)));
}
