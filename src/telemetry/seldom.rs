//! Log lines that others decide the number of: one of a kind in a while, with how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One kind of log line.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// One line in `every`.
    pub const fn new(every: Duration) -> Self {
        let state = State {
            last: None,
            left_out: 0,
        };
        Self {
            every,
            state: Mutex::new(state),
        }
    }

    /// Whether a line is to be written now; and if so, how many were not since the one before.
    pub fn now(&self) -> Option<u64> {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < self.every) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_says_how_many_were_left_out() {
        let (seldom, start) = (Seldom::new(Duration::from_secs(1)), Instant::now());
        let at = |ms| seldom.at(start + Duration::from_millis(ms));
        assert_eq!(at(0), Some(0));
        assert_eq!([at(1), at(500), at(999)], [None; 3]);
        assert_eq!(at(1000), Some(3));
        assert_eq!(at(5000), Some(0));
    }
}
