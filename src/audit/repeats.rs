//! Holds back what comes again and again: the first is written at once, those within a minute after it are counted, and
//! told of in one line when the minute is over. Pure; the caller has the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::event::Event;

/// How long repetitions are gathered.
const WINDOW: Duration = Duration::from_secs(60);

/// How many different things are remembered at once. Beyond that new ones are written one by one: there is a bound on
/// how fast they come, the queue.
const REMEMBERED: usize = 4096;

/// What was met lately.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<(&'static str, String, String), Gathered>);

#[derive(Debug)]
struct Gathered {
    until: Instant,
    /// The latest of those not written, and how many there are.
    held: Option<(Event, u64)>,
}

impl Repeats {
    /// Whether `event` is to be written now. If not, it is counted.
    pub(super) fn admits(&mut self, event: &Event, now: Instant) -> bool {
        let Some((name, what, whom)) = event.repeats() else {
            return true;
        };
        let key = (name, what.to_owned(), whom.to_owned());
        if let Some(gathered) = self.0.get_mut(&key) {
            let count = gathered.held.take().map_or(0, |(_, count)| count);
            gathered.held = Some((event.clone(), count + 1));
            return false;
        }
        if self.0.len() < REMEMBERED {
            let until = now + WINDOW;
            self.0.insert(key, Gathered { until, held: None });
        }
        true
    }

    /// What was counted and is to be told of now: where a window is over, or everything at the `end`.
    pub(super) fn due(&mut self, now: Instant, end: bool) -> Vec<(Event, u64)> {
        let mut due = Vec::new();
        self.0.retain(|_, gathered| {
            if !end && now < gathered.until {
                return true;
            }
            // What goes on is gathered on; what has stopped is forgotten.
            gathered.until = now + WINDOW;
            let held = gathered.held.take();
            let goes_on = held.is_some();
            due.extend(held);
            goes_on
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(peer: &str, request: &str) -> Event {
        Event::AccessRefused {
            reason: "state_prefix",
            peer: peer.to_owned(),
            request: request.to_owned(),
            detail: String::new(),
        }
    }

    #[test]
    fn the_first_is_written_and_the_others_are_counted_by_the_window() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert!(repeats.admits(&refused("a", "1"), start));
        assert!(repeats.admits(&refused("b", "1"), start));
        for request in ["2", "3"] {
            assert!(!repeats.admits(&refused("a", request), start));
        }
        assert_eq!(repeats.due(start + WINDOW / 2, false), []);
        assert_eq!(repeats.due(start + WINDOW, false), [(refused("a", "3"), 2)]);
        // It goes on for one, and is news again from the other.
        assert!(!repeats.admits(&refused("a", "4"), start + WINDOW));
        assert!(repeats.admits(&refused("b", "4"), start + WINDOW));
        assert_eq!(repeats.due(start + WINDOW, true), [(refused("a", "4"), 1)]);
        let later = start + 3 * WINDOW;
        assert_eq!(repeats.due(later, false), []);
        assert!(repeats.admits(&refused("a", "5"), later));
    }

    #[test]
    fn what_comes_once_is_never_held_back_and_memory_is_bounded() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for _ in 0..3 {
            assert!(repeats.admits(&Event::EventsLost, now));
        }
        for peer in 0..2 * REMEMBERED {
            assert!(repeats.admits(&refused(&peer.to_string(), ""), now));
        }
        assert_eq!(repeats.0.len(), REMEMBERED);
    }
}
