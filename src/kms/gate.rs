//! How many calls of one plugin may be under way, and that those behind a plugin which answers nobody do not wait in line
//! only to wait for the whole timeout each.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::failure::CallError;

/// The door to one plugin.
pub(super) struct Gate {
    places: Semaphore,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// When the last answer came.
    answer: Option<Instant>,
    /// When a call had waited in vain, with no answer to any other in the meantime.
    silence: Option<(Instant, CallError)>,
}

impl Gate {
    /// Lets `places` calls through at once, at least one.
    pub(super) fn new(places: usize) -> Self {
        Self {
            places: Semaphore::new(places.max(1)),
            heard: Mutex::default(),
        }
    }

    /// Whether the next call would not have to wait.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Makes `call` when there is a place.
    pub(super) async fn pass<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let came = Instant::now();
        // Never closed.
        let _place = self.places.acquire().await;
        if let Some((at, error)) = &self.heard.lock().unwrap_or_else(PoisonError::into_inner).silence
            && *at > came
        {
            return Err(error.clone());
        }
        let began = Instant::now();
        let outcome = call.await;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match &outcome {
            Err(error) if error.is_silence() => {
                if heard.answer.is_none_or(|at| at < began) {
                    heard.silence = Some((Instant::now(), error.clone()));
                }
            }
            _ => {
                heard.answer = Some(Instant::now());
                heard.silence = None;
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    async fn in_vain() -> Result<(), CallError> {
        tokio::time::sleep(TIMEOUT).await;
        Err(CallError::Deadline(TIMEOUT))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_line_in_front_of_a_dead_plugin_waits_one_timeout() {
        let (gate, began) = (Gate::new(4), Instant::now());
        let outcomes = join_all((0..100).map(|_| gate.pass(in_vain()))).await;
        assert!(outcomes.iter().all(Result::is_err));
        assert_eq!(began.elapsed(), TIMEOUT);
        assert_eq!(
            gate.pass(async { Ok(()) }).await,
            Ok(()),
            "who comes later is let through"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_in_vain_is_not_everybodys_as_long_as_others_are_answered() {
        let gate = Gate::new(2);
        let quick = |_| {
            gate.pass(async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(())
            })
        };
        let (slow, rest) = tokio::join!(gate.pass(in_vain()), join_all((0..60).map(quick)));
        assert!(slow.is_err());
        assert!(rest.iter().all(Result::is_ok));
    }
}
