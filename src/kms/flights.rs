//! One call for all who want the same at the same time. Knows nothing of what is called.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
        let (mut answer, is_mine) = match self.lock().entry(key.clone()) {
            Entry::Occupied(flight) => (flight.get().clone(), None),
            Entry::Vacant(place) => {
                let (tell, answer) = watch::channel(None);
                place.insert(answer.clone());
                (answer, Some(tell))
            }
        };
        // Not under the lock: a runtime that has ended drops what it is given, and the landing takes the lock.
        if let Some(tell) = is_mine {
            let landing = Landing {
                flights: Arc::clone(&self.0),
                key,
            };
            let call = call();
            runtime.spawn(async move {
                let outcome = call.await;
                // Whoever comes from here on finds what is kept of the answer.
                drop(landing);
                // Fails if nobody waits.
                let _ = tell.send(Some(outcome));
            });
        }
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

/// Makes a call on `runtime`, for one who waits for it alone. It ends when nobody does: else a client that gives up one
/// write after the other would leave a plugin with a line of calls that are of no use to anybody.
pub(super) fn alone<T, F>(runtime: &Handle, provider: &KeyName, call: F) -> Fetch<T>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + Send + 'static,
{
    let mut task = Abandoned(runtime.spawn(call));
    let gone = stopping(provider);
    Box::pin(async move { (&mut task.0).await.unwrap_or(Err(gone)) })
}

/// A task that ends when this is dropped.
struct Abandoned<T>(JoinHandle<T>);

impl<T> Drop for Abandoned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
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

    #[tokio::test]
    async fn a_runtime_that_has_ended_is_told() {
        let flights = Flights::<u8, ()>::new();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let fetch = flights.join(&handle, &KeyName::new("p"), 1, std::future::pending);
        assert_eq!(fetch.await, Err(stopping(&KeyName::new("p"))));
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_call_for_one_ends_with_whoever_wanted_it() {
        let (here, call) = tokio::sync::oneshot::channel::<()>();
        let fetch = alone(&Handle::current(), &KeyName::new("p"), async move {
            let _call = call;
            std::future::pending::<Outcome<()>>().await
        });
        tokio::task::yield_now().await;
        drop(fetch);
        // Closed when the call is dropped.
        let mut here = here;
        here.closed().await;
    }
}
