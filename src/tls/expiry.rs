//! When to remind the operator that a certificate ends. Only arithmetic.

/// Seconds.
const DAY: i64 = 24 * 60 * 60;

/// How long before its end a certificate is spoken of, and how long before it that becomes an error. Certificates that
/// kubeadm makes last a year, and its own renewal happens at upgrades.
const SOON: i64 = 30 * DAY;
const URGENT: i64 = 7 * DAY;

/// Something to say about a certificate's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reminder {
    /// Less than 30 days are left.
    Soon { days: i64 },
    /// Less than 7 days are left.
    Urgent { days: i64 },
    /// It has ended.
    Over,
}

/// What has been said of one certificate.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// The certificate's end, and when something was said.
    said: Option<(i64, i64)>,
}

impl Expiry {
    /// What to say `now` of a certificate that is valid up to `not_after`, both in Unix time: something once a day, and at
    /// once of another certificate.
    pub(super) fn due(&mut self, not_after: i64, now: i64) -> Option<Reminder> {
        let left = not_after.saturating_sub(now);
        let days = left / DAY;
        let reminder = match left {
            ..0 => Reminder::Over,
            0..URGENT => Reminder::Urgent { days },
            URGENT..SOON => Reminder::Soon { days },
            _ => return None,
        };
        if let Some((of, at)) = self.said
            && of == not_after
            && now.saturating_sub(at) < DAY
        {
            return None;
        }
        self.said = Some((not_after, now));
        Some(reminder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_come_once_a_day_and_grow_urgent() {
        let mut expiry = Expiry::default();
        let end = 100 * DAY;
        let days = |days: i64| end - days * DAY;
        assert_eq!(expiry.due(end, days(30)), None);
        assert_eq!(expiry.due(end, days(30) + 1), Some(Reminder::Soon { days: 29 }));
        assert_eq!(expiry.due(end, days(30) + DAY), None, "not a day later yet");
        assert_eq!(expiry.due(end, days(29) + 1), Some(Reminder::Soon { days: 28 }));
        assert_eq!(expiry.due(end, days(7)), Some(Reminder::Soon { days: 7 }));
        assert_eq!(expiry.due(end, days(6)), Some(Reminder::Urgent { days: 6 }));
        assert_eq!(expiry.due(end, end + 1), Some(Reminder::Over));
        // A new certificate that ends as soon is worth a word at once; one that lasts, none.
        assert_eq!(expiry.due(end + DAY, end + 1), Some(Reminder::Urgent { days: 0 }));
        assert_eq!(expiry.due(end + 365 * DAY, end + 2), None);
    }
}
