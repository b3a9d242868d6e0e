//! When something happened by the clock of whoever made it. For people and for ages; nothing else is decided by it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The last second that RFC 3339 can write.
const LAST: u64 = 253_402_300_799;

/// A second, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// Now, by this machine's clock.
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    /// The second of `time`; the nearest that can be written, if it is none of those.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(since.as_secs().min(LAST))
    }

    /// Reads what is displayed, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let time = humantime::parse_rfc3339(text).map(Self::of).ok()?;
        // One way to write each, so that nobody can write it otherwise.
        (time.to_string() == text).then_some(time)
    }

    /// The same, to be counted with.
    pub fn system(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)
    }

    pub(super) fn seconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(self.system()).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time like 2026-01-01T00:00:00Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_one_way_and_no_clock_is_too_strange() {
        let read = |text: &str| serde_json::from_str::<Time>(&format!("{text:?}")).ok();
        let time = read("2026-01-01T00:00:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(Time::of(time.system()), time);
        for broken in [
            "2026-01-01T00:00:00.5Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00+00:00",
            "",
            "0",
        ] {
            assert_eq!(read(broken), None, "{broken}");
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Time::of(before).to_string(), "1970-01-01T00:00:00Z");
        let after = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST + 1);
        assert_eq!(Time::of(after).to_string(), "9999-12-31T23:59:59Z");
    }
}
