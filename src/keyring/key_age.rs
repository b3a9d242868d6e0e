//! Since when a key has existed and been loaded, for metrics. Reads names, never keys.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::Keyring;
use super::families::{KEY_CREATED, KEY_LOADED};

/// Kind of provider and name of a key.
type Label = (String, String);

/// Takes note that `keyring` is in use in place of `before`.
pub(super) fn loaded(keyring: &Keyring, before: Option<&Keyring>) {
    let (now, before) = (labels(keyring), before.map(labels).unwrap_or_default());
    let seconds = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0.0, |since| since.as_secs_f64());
    for label in now.difference(&before) {
        set(label, seconds, created(&label.1));
    }
    for gone in before.difference(&now) {
        // A series can't be taken back.
        set(gone, 0.0, created(&gone.1).map(|_| 0.0));
    }
}

fn labels(keyring: &Keyring) -> BTreeSet<Label> {
    let providers = keyring.rules().iter().flat_map(|rule| rule.chain().own_readers());
    let keys = providers.flat_map(|provider| provider.key_names().iter().map(|key| (provider.kind(), key)));
    keys.map(|(kind, key)| (kind.to_string(), key.to_string())).collect()
}

fn set((provider, key): &Label, loaded: f64, created: Option<f64>) {
    let gauge = |name: &'static str| metrics::gauge!(name, "provider" => provider.clone(), "key" => key.clone());
    gauge(KEY_LOADED.name).set(loaded);
    if let Some(created) = created {
        gauge(KEY_CREATED.name).set(created);
    }
}

/// The time that a key's name ends in, behind a dash, in seconds since 1970: k3s names keys so when it rotates them.
fn created(name: &str) -> Option<f64> {
    /// Lengths of `2026-01-02T03:04:05` and `+01:00`.
    const TIME: usize = 19;
    const OFFSET: usize = 6;
    let (rest, offset) = if let Some(rest) = name.strip_suffix('Z') {
        (rest, 0.0)
    } else {
        let (rest, offset) = name.split_at_checked(name.len().checked_sub(OFFSET)?)?;
        (rest, seconds_east(offset)?)
    };
    let (before, time) = rest.split_at_checked(rest.len().checked_sub(TIME)?)?;
    before.strip_suffix('-')?;
    let at = humantime::parse_rfc3339(&format!("{time}Z")).ok()?;
    Some(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64() - offset)
}

/// What `+01:00` adds to UTC.
fn seconds_east(offset: &str) -> Option<f64> {
    let (sign, digits) = match offset.split_at_checked(1)? {
        ("+", digits) => (1.0, digits),
        ("-", digits) => (-1.0, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let number = |text: &str| text.parse::<u8>().ok().map(f64::from);
    Some(sign * (number(hours)? * 3600.0 + number(minutes)? * 60.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ends_in_a_time_tells_when_the_key_was_made() {
        let noon = 1_767_355_200.0;
        assert_eq!(created("aescbckey-2026-01-02T12:00:00Z"), Some(noon));
        assert_eq!(created("aescbckey-2026-01-02T13:30:00+01:30"), Some(noon));
        assert_eq!(created("-2026-01-02T04:00:00-08:00"), Some(noon));
        for other in [
            "key1",
            "",
            "Z",
            "é2026-01-02T12:00:00Z",
            "2026-01-02T12:00:00Z",
            "key-2026-13-02T12:00:00Z",
            "key-2026-01-02T12:00:00",
            "key-2026-01-02T12:00:00+0100",
            "key-1960-01-02T12:00:00Z",
            "ééééééééééééééééé",
        ] {
            assert_eq!(created(other), None, "{other}");
        }
    }
}
