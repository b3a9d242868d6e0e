//! What is in use, and whether something newer was refused: for health checks and whoever else asks.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

/// The state of something that is made of files; `T` says what was made.
#[derive(Debug)]
pub struct Status<T>(ArcSwap<State<T>>);

/// One moment of a [`Status`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State<T> {
    /// What is in use.
    pub loaded: T,
    /// Since when.
    pub loaded_at: SystemTime,
    /// Why what the files hold now is not; `None` if it is.
    pub failure: Option<Failure>,
}

/// Why the files cannot be taken into use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong with them now. Names files and places in them, never what they hold.
    pub text: String,
    /// When something was wrong first since they were last in order.
    pub since: SystemTime,
    /// How often they were tried since.
    pub attempts: u64,
}

impl<T: Clone> Status<T> {
    /// Begins with what was loaded just now.
    pub fn new(loaded: T) -> Self {
        Self(ArcSwap::from_pointee(State {
            loaded,
            loaded_at: SystemTime::now(),
            failure: None,
        }))
    }

    /// How it is now.
    pub fn snapshot(&self) -> Arc<State<T>> {
        self.0.load_full()
    }

    /// Notes that `loaded` is in use from now on.
    pub fn loaded(&self, loaded: T) {
        self.0.store(Arc::new(State {
            loaded,
            loaded_at: SystemTime::now(),
            failure: None,
        }));
    }

    /// Notes that the files hold what is in use. Gives what was wrong before.
    pub fn unchanged(&self) -> Option<Failure> {
        let now = self.snapshot();
        if now.failure.is_some() {
            self.0.store(Arc::new(State {
                failure: None,
                ..State::clone(&now)
            }));
        }
        now.failure.clone()
    }

    /// Notes that the files cannot be used. True where that is news: nothing was wrong before, or something else.
    pub fn failed(&self, text: String) -> bool {
        let now = self.snapshot();
        let before = now.failure.as_ref();
        let is_news = before.is_none_or(|failure| failure.text != text);
        let failure = Failure {
            text,
            since: before.map_or_else(SystemTime::now, |failure| failure.since),
            attempts: before.map_or(0, |failure| failure.attempts) + 1,
        };
        self.0.store(Arc::new(State {
            failure: Some(failure),
            ..State::clone(&now)
        }));
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lasts_until_something_is_in_order_and_is_news_once() {
        let status = Status::new(1);
        assert_eq!(status.unchanged(), None);
        assert!(status.failed("first".to_owned()));
        let since = status.snapshot().failure.clone().unwrap().since;
        assert!(!status.failed("first".to_owned()));
        assert!(status.failed("second".to_owned()));
        let failure = status.snapshot().failure.clone().unwrap();
        assert_eq!((failure.since, failure.attempts), (since, 3));
        assert_eq!(status.snapshot().loaded, 1, "what is in use stays");
        assert_eq!(status.unchanged(), Some(failure));
        assert_eq!(status.snapshot().failure, None);
        status.failed("third".to_owned());
        status.loaded(2);
        assert_eq!((status.snapshot().loaded, status.snapshot().failure.clone()), (2, None));
    }
}
