//! When one call got how far, to tell what the proxy took for it from what etcd took.

use std::time::{Duration, Instant};

/// The times of a call with one request and one answer. A call of another kind leaves it unset.
#[derive(Debug, Default)]
pub(super) struct Clock {
    request_read: Option<Instant>,
    asked: Option<Instant>,
    answered: Option<Instant>,
    answer_ready: Option<Instant>,
}

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latencies {
    /// Between the request read and the answer ready, without [`Latencies::upstream`].
    pub(super) added: Duration,
    /// Between the request ready to be sent to etcd and its answer read.
    pub(super) upstream: Duration,
}

impl Clock {
    /// The client's request is here.
    pub(super) fn request_read(&mut self) {
        self.request_read = Some(Instant::now());
    }

    /// From now on etcd is waited for.
    pub(super) fn asked(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// etcd has answered.
    pub(super) fn answered(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// The client can have its answer.
    pub(super) fn answer_ready(&mut self) {
        self.answer_ready = Some(Instant::now());
    }

    /// When etcd was asked and when it had answered.
    pub(super) fn upstream(&self) -> Option<(Instant, Instant)> {
        Some((self.asked?, self.answered?))
    }

    /// `None` for a call that etcd did not answer, or of another kind.
    pub(super) fn latencies(&self) -> Option<Latencies> {
        let (asked, answered) = (self.asked?, self.answered?);
        let ready = self.answer_ready.unwrap_or(answered);
        Some(Latencies {
            added: asked.duration_since(self.request_read?) + ready.duration_since(answered),
            upstream: answered.duration_since(asked),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_took_is_not_ours() {
        let begun = Instant::now();
        let at = |millis| Some(begun + Duration::from_millis(millis));
        let clock = |answered, answer_ready| Clock {
            request_read: at(0),
            asked: at(3),
            answered,
            answer_ready,
        };
        let millis = |clock: &Clock| {
            clock
                .latencies()
                .map(|found| (found.added.as_millis(), found.upstream.as_millis()))
        };
        assert_eq!(millis(&clock(at(103), at(107))), Some((7, 100)));
        assert_eq!(millis(&clock(at(103), None)), Some((3, 100)));
        assert_eq!(millis(&clock(None, None)), None);
        assert_eq!(millis(&Clock::default()), None);
    }
}
