//! How many client connections there may be, and how many of them that have not said yet what they want.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::families::LET_GO;
use super::ledger::LetGo;

/// Connections at once: ten times what the largest clusters are known to have.
const CONNECTIONS: usize = 10_000;

/// Of them, those whose handshakes are under way. A client that says nothing has ten seconds for them.
const HANDSHAKES: usize = 2_000;

/// From one line in the log about connections that were not taken to the next.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// The connections of the process.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    told: Mutex<Option<Instant>>,
}

/// A connection's place among them, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    is_greeting: bool,
}

impl Crowd {
    /// A place for one more, if there is one. Whoever gets none is told in the log, now and then.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let connections = self.connections.fetch_add(1, Ordering::Relaxed);
        let handshakes = self.handshakes.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            crowd: Arc::clone(self),
            is_greeting: true,
        };
        if connections < CONNECTIONS && handshakes < HANDSHAKES {
            return Some(place);
        }
        metrics::counter!(LET_GO.name, "reason" => LetGo::TooMany.name()).increment(1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= BETWEEN_LINES) {
            *told = Some(Instant::now());
            tracing::warn!(
                connections,
                handshakes,
                "client connections are not taken: there are too many"
            );
        }
        None
    }
}

impl Place {
    /// Its handshakes are over.
    pub(super) fn greeted(&mut self) {
        if std::mem::take(&mut self.is_greeting) {
            self.crowd.handshakes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.greeted();
        self.crowd.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_place_until_there_are_too_many_and_again_when_some_have_gone() {
        let crowd = Arc::new(Crowd::default());
        let mut places: Vec<_> = (0..HANDSHAKES).map(|_| crowd.place().expect("a place")).collect();
        assert!(crowd.place().is_none());
        places.iter_mut().for_each(Place::greeted);
        while places.len() < CONNECTIONS {
            let mut place = crowd.place().expect("a place");
            place.greeted();
            places.push(place);
        }
        assert!(crowd.place().is_none());
        places.pop();
        assert!(crowd.place().is_some());
        drop(places);
        assert_eq!(crowd.connections.load(Ordering::Relaxed), 0);
        assert_eq!(crowd.handshakes.load(Ordering::Relaxed), 0);
    }
}
