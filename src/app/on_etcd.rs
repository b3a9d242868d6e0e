//! A thread for work straight on etcd. Connections belong to the thread that they were made on, and what it waits for keeps
//! no client waiting.

use std::io;
use std::sync::Arc;
use std::thread::{Builder as Thread, JoinHandle};

use tokio::runtime::{Builder, LocalOptions};

use super::build::Dialers;
use super::sweep::client_and_reachability;
use crate::etcd::{Client, Reachability};
use crate::transport::Flusher;

/// What such work has.
pub(super) struct OnEtcd {
    pub(super) members: Dialers,
    pub(super) client: Client,
    pub(super) flusher: Flusher,
    /// Of that client's connection.
    pub(super) reachability: Arc<Reachability>,
}

/// Runs `work` on a thread called `name`, on a runtime of its own, with connections to `members`.
///
/// # Errors
/// The system gives no thread; or, from the thread, no event queue.
pub(super) fn spawn<T, F>(name: &str, members: Dialers, work: F) -> io::Result<JoinHandle<io::Result<T>>>
where
    T: Send + 'static,
    F: AsyncFnOnce(OnEtcd) -> T + Send + 'static,
{
    Thread::new().name(name.to_owned()).spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        Ok(runtime.block_on(async {
            let flusher = Flusher::default();
            tokio::task::spawn_local(flusher.clone().run());
            let (client, reachability) = client_and_reachability(members.clone(), &flusher);
            work(OnEtcd {
                members,
                client,
                flusher,
                reachability,
            })
            .await
        }))
    })
}
