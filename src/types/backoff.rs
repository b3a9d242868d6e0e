//! How long to wait before what failed is tried again. Only arithmetic: who waits together with others adds the chance.

use std::time::Duration;

/// A wait that doubles up to a bound.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// The wait now due; the next one is twice as long.
    pub fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.longest);
        wait
    }

    /// Back to the first one.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(1000));
        let waits: Vec<_> = (0..20).map(|_| backoff.step().as_millis()).collect();
        assert_eq!(waits[..4], [5, 10, 20, 40]);
        assert_eq!(waits[18..], [1_000_000, 1_000_000]);
        backoff.reset();
        assert_eq!(backoff.step().as_millis(), 5);
    }
}
