//! One call for all who want the same at the same time. Knows nothing of what is called.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::failure::stopping;
use crate::types::KeyName;
use crate::value::{Fetch, KmsFailure};

type Outcome<T> = Result<T, KmsFailure>;
type Under<K, T> = HashMap<K, watch::Receiver<Option<Outcome<T>>>>;

/// The calls that are under way, by what they ask for.
pub(super) struct Flights<K, T>(Arc<Mutex<Under<K, T>>>);

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// What comes of the call for `key`, which is made on `runtime` unless it is under way. It goes on if nobody waits for
    /// it any more.
    pub(super) fn join<F>(&self, runtime: &Handle, provider: &KeyName, key: K, call: impl FnOnce() -> F) -> Fetch<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        let mut answer = match self.lock().entry(key) {
            Entry::Occupied(flight) => flight.get().clone(),
            Entry::Vacant(place) => {
                let (tell, answer) = watch::channel(None);
                let landing = Landing {
                    flights: Arc::clone(&self.0),
                    key: place.key().clone(),
                };
                place.insert(answer.clone());
                let call = call();
                runtime.spawn(async move {
                    let outcome = call.await;
                    // Whoever comes from here on finds what is kept of the answer.
                    drop(landing);
                    // Fails if nobody waits.
                    let _ = tell.send(Some(outcome));
                });
                answer
            }
        };
        let gone = stopping(provider);
        Box::pin(async move {
            match answer.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone().unwrap_or(Err(gone)),
                Err(_) => Err(gone),
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Under<K, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a call out of those under way, also when its task ends without an answer.
struct Landing<K: Eq + Hash, T> {
    flights: Arc<Mutex<Under<K, T>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

/// Makes a call on `runtime`, for one who waits for it alone. It goes on if nobody does.
pub(super) fn alone<T, F>(runtime: &Handle, provider: &KeyName, call: F) -> Fetch<T>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + Send + 'static,
{
    let task = runtime.spawn(call);
    let gone = stopping(provider);
    Box::pin(async move { task.await.unwrap_or(Err(gone)) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_asks_for_the_same_waits_for_one_call_which_outlives_them_all() {
        let (flights, runtime) = (Flights::new(), Handle::current());
        let (calls, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = |key: u8| {
            let (calls, gate) = (Arc::clone(&calls), Arc::clone(&gate));
            flights.join(&runtime, &KeyName::new("p"), key, move || async move {
                let number = calls.fetch_add(1, Ordering::Relaxed);
                gate.acquire().await.unwrap().forget();
                Ok(number)
            })
        };
        let (first, second, given_up) = (ask(1), ask(1), ask(2));
        tokio::task::yield_now().await;
        drop(given_up);
        gate.add_permits(2);
        assert_eq!(first.await, Ok(0));
        assert_eq!(second.await, Ok(0));
        let late = ask(2);
        gate.add_permits(1);
        assert!(late.await.is_ok_and(|number| number >= 1));
        assert!(calls.load(Ordering::Relaxed) >= 2);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_call_that_dies_is_told_and_leaves_no_trace() {
        let flights = Flights::<u8, ()>::new();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let fetch = flights.join(runtime.handle(), &KeyName::new("p"), 1, std::future::pending);
        runtime.shutdown_background();
        assert_eq!(fetch.await, Err(stopping(&KeyName::new("p"))));
        assert!(flights.lock().is_empty());
    }
}
