//! Opens the values of one answer without keeping the runtime from its other calls, and tells of those that do not open.

use super::fault::Fault;
use super::responder::Responder;
use super::worker::Worker;
use crate::rewrite::{EscapedKey, OpenFailure, OpenJob, Progress, Undecryptable, Unopened};
use crate::value::{Deks, OpenError, SealedBy};
use crate::wire::Spliced;

/// Stored bytes that are opened before other calls get their turn: some 50 µs of work.
const SLICE: usize = 256 * 1024;

/// Runs `job` to its end, or until the client is gone: a KMS may take its time, and what nobody waits for must not pile up
/// meanwhile.
pub(super) async fn run(worker: &Worker, mut job: OpenJob, respond: &mut Responder) -> Result<Spliced, Fault> {
    // One keyring for the whole answer, kept over the pauses.
    let keyring = worker.keyring.snapshot();
    let mut deks = Deks::default();
    loop {
        match job.step(&worker.context(&keyring, &deks), SLICE) {
            Ok(Progress::More(rest)) => job = rest,
            Ok(Progress::Waiting(rest)) => {
                job = rest;
                let fetch = async {
                    deks.fetch().await;
                    Ok(())
                };
                respond.unless_gone(fetch).await?;
                continue;
            }
            Ok(Progress::Done(opened)) => {
                tell(worker, &opened.undecryptable);
                return Ok(opened.message);
            }
            Err(failure) => {
                if let OpenFailure::Value { key, sealed_by, source } = &failure {
                    audit(worker, key, sealed_by.as_deref(), source);
                }
                tracing::error!(%failure, cause = std::error::Error::source(&failure), "an answer of etcd was refused");
                return Err(Fault::refused_answer(&failure));
            }
        }
        tokio::task::yield_now().await;
    }
}

fn tell(worker: &Worker, undecryptable: &Undecryptable) {
    if undecryptable.first().is_empty() {
        return;
    }
    worker.meters.undecryptable.increment(undecryptable.count() as u64);
    worker.meters.unavailable.increment(undecryptable.unavailable() as u64);
    for Unopened { key, sealed_by, error } in undecryptable.first() {
        tracing::warn!(%key, %error, "a stored value cannot be decrypted; the client gets it as it is stored");
        audit(worker, key, sealed_by.as_ref(), error);
    }
}

fn audit(worker: &Worker, key: &EscapedKey, sealed_by: Option<&SealedBy>, error: &OpenError) {
    // A KMS that is away says nothing about the value.
    if error.is_transient() {
        return;
    }
    let sealed_by = sealed_by.map(|by| (by.provider.as_str(), by.key.as_str()));
    worker.config.audit.undecryptable(&key.unquoted(), sealed_by, error);
}
