//! The door to one plugin: how many calls of it may be under way and how fast they follow each other, both learnt from what it
//! answers, and that those behind a plugin which answers nobody do not wait in line only to wait for the whole timeout each.
//!
//! A plugin that says that it is asked too often is asked less often, and the same is asked again: a list of values that KMS v1 has
//! sealed needs a call for each, and would fail for ever if one of them did. How long a call waits here has no bound but its
//! caller's as long as the plugin answers others; it fails where none was answered for as long as one call may take.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until};

use super::failure::CallError;
use super::load::Load;

/// The first pause of a call that was refused, and what it doubles to.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(320);

/// The door to one plugin.
pub(super) struct Gate {
    places: Semaphore,
    load: Mutex<Load>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// When the last answer came that was not that the plugin is busy.
    answer: Option<Instant>,
    /// When a call had waited in vain, with no answer to any other in the meantime.
    silence: Option<(Instant, CallError)>,
}

impl Gate {
    /// Lets `places` calls through at once, at least one, once the plugin has shown that it bears so many.
    pub(super) fn new(places: usize) -> Self {
        let load = Load::new(places.max(1));
        Self {
            places: Semaphore::new(load.places()),
            load: Mutex::new(load),
            heard: Mutex::default(),
        }
    }

    /// Whether the next call would not have to wait.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Makes `call` when there is a place, and again for as long as the plugin is busy, at most for `timeout` after it last was
    /// not.
    pub(super) async fn pass<T, F>(&self, timeout: Duration, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let came = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.attempt(came, &call).await {
                Err(error) if error.is_busy() => error,
                outcome => return outcome,
            };
            if let Some(told) = self.in_vain(came) {
                return Err(told);
            }
            if self.is_over(came, timeout, &error) {
                return Err(error);
            }
            // Calls that were refused together must not come back together.
            let jitter = rand::rng().random_range(0.5..1.5);
            sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn attempt<T, F>(&self, came: Instant, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let _place = self.place().await;
        if let Some(error) = self.in_vain(came) {
            return Err(error);
        }
        let turn = self.load().turn();
        if let Some(turn) = turn {
            sleep_until(turn).await;
            if let Some(error) = self.in_vain(came) {
                return Err(error);
            }
        }
        let began = Instant::now();
        let outcome = call().await;
        self.note(began, outcome.as_ref().err());
        outcome
    }

    /// What a call had waited for in vain that ended after `came`.
    fn in_vain(&self, came: Instant) -> Option<CallError> {
        let heard = self.heard();
        let (at, error) = heard.silence.as_ref()?;
        (*at > came).then(|| error.clone())
    }

    fn note(&self, began: Instant, error: Option<&CallError>) {
        let now = Instant::now();
        let mut heard = self.heard();
        match error {
            Some(error) if error.is_silence() => {
                if heard.answer.is_none_or(|at| at < began) {
                    heard.silence = Some((now, error.clone()));
                }
            }
            Some(error) if error.is_busy() => {}
            _ => {
                heard.answer = Some(now);
                heard.silence = None;
            }
        }
        drop(heard);
        let change = match error {
            None => self.load().answered(now - began),
            Some(error) if error.is_busy() => self.load().refused(),
            // It says nothing of how much the plugin bears.
            Some(_) => return,
        };
        if change > 0 {
            self.places.add_permits(change.unsigned_abs());
        } else if change < 0 {
            // Those that are taken go when they are given back.
            let gone = self.places.forget_permits(change.unsigned_abs());
            self.load().owe(change.unsigned_abs() - gone);
        }
    }

    /// Whether to give up, since the plugin has been busy for `timeout`, whoever asked; then those in line need not ask.
    fn is_over(&self, came: Instant, timeout: Duration, error: &CallError) -> bool {
        let now = Instant::now();
        let mut heard = self.heard();
        let since = heard.answer.map_or(came, |at| at.max(came));
        let is_over = now - since >= timeout;
        if is_over {
            heard.silence = Some((now, error.clone()));
        }
        is_over
    }

    async fn place(&self) -> Place<'_> {
        Place {
            gate: self,
            // Never closed.
            permit: self.places.acquire().await.ok(),
        }
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the door, given back when dropped, unless there are to be fewer.
struct Place<'a> {
    gate: &'a Gate,
    permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.gate.load().pays()
        {
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    async fn in_vain() -> Result<(), CallError> {
        sleep(TIMEOUT).await;
        Err(CallError::Deadline(TIMEOUT))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_line_in_front_of_a_dead_plugin_waits_one_timeout() {
        let (gate, began) = (Gate::new(4), Instant::now());
        let outcomes = join_all((0..100).map(|_| gate.pass(TIMEOUT, in_vain))).await;
        assert!(outcomes.iter().all(Result::is_err));
        assert_eq!(began.elapsed(), TIMEOUT);
        assert_eq!(
            gate.pass(TIMEOUT, async || Ok(())).await,
            Ok(()),
            "who comes later is let through"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_in_vain_is_not_everybodys_as_long_as_others_are_answered() {
        let gate = Gate::new(2);
        let quick = |_| {
            gate.pass(TIMEOUT, async || {
                sleep(Duration::from_millis(100)).await;
                Ok(())
            })
        };
        let (slow, rest) = tokio::join!(gate.pass(TIMEOUT, in_vain), join_all((0..60).map(quick)));
        assert!(slow.is_err());
        assert!(rest.iter().all(Result::is_ok));
    }
}
