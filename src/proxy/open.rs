//! Opens the values of one answer without keeping the runtime from its other calls, and tells of those that do not open.

use super::fault::Fault;
use super::worker::Worker;
use crate::rewrite::{OpenJob, Progress, Undecryptable};
use crate::value::Deks;
use crate::wire::Spliced;

/// Stored bytes that are opened before other calls get their turn: some 50 µs of work.
const SLICE: usize = 256 * 1024;

/// Runs `job` to its end.
pub(super) async fn run(worker: &Worker, mut job: OpenJob) -> Result<Spliced, Fault> {
    // One keyring for the whole answer, kept over the pauses.
    let keyring = worker.keyring.snapshot();
    let mut deks = Deks::default();
    loop {
        match job.step(&worker.context(&keyring, &deks), SLICE) {
            Ok(Progress::More(rest)) => job = rest,
            Ok(Progress::Waiting(rest)) => {
                job = rest;
                deks.fetch().await;
                continue;
            }
            Ok(Progress::Done(opened)) => {
                tell(worker, &opened.undecryptable);
                return Ok(opened.message);
            }
            Err(failure) => {
                tracing::error!(%failure, cause = std::error::Error::source(&failure), "an answer of etcd was refused");
                return Err(Fault::refused_answer(&failure));
            }
        }
        tokio::task::yield_now().await;
    }
}

fn tell(worker: &Worker, undecryptable: &Undecryptable) {
    if undecryptable.count() == 0 {
        return;
    }
    worker.meters.undecryptable.increment(undecryptable.count() as u64);
    for (key, error) in undecryptable.first() {
        tracing::warn!(%key, %error, "a stored value cannot be decrypted; the client gets it as it is stored");
    }
}
