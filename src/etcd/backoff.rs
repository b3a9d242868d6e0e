//! How long to wait before the next dial. Only arithmetic and a random draw.

use std::time::Duration;

use rand::RngExt;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_millis(50);
/// Wait that repeated failures grow to.
const LONGEST: Duration = Duration::from_secs(3);

/// A doubling wait with jitter, so that the proxies of a cluster do not dial a returning member in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait now due, between half and all of the current step; the step doubles.
    pub(super) fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Back to the first step, once a connection has proved itself.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| backoff.step()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[19] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.step() <= FIRST);
    }
}
