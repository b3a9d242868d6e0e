//! Opens the values of one answer without keeping the runtime from its other calls, and tells of those that do not open.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::responder::Responder;
use super::worker::Worker;
use crate::keyring::Keyring;
use crate::rewrite::{EscapedKey, OpenFailure, OpenJob, Opened, Progress, Undecryptable, Unopened};
use crate::value::{Deks, OpenError, SealedBy};
use crate::wire::Spliced;

/// Stored bytes that are opened before other calls get their turn: some 50 µs of work.
const SLICE: usize = 256 * 1024;

/// From one line about a KMS that could not be asked to the next, on each core.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Runs `job` to its end, or until the client is gone: a KMS may take its time, and what nobody waits for must not pile up
/// meanwhile.
pub(super) async fn run(worker: &Worker, job: OpenJob, respond: &mut Responder) -> Result<Spliced, Fault> {
    let deks = Deks::default();
    let in_use = worker.keyring.load();
    match step(worker, job, &in_use, &deks)? {
        Progress::Done(opened) => done(worker, opened),
        progress => {
            // One keyring for the whole answer, kept over the pauses; where there is none, its count of holders, which is
            // shared by all cores, is left alone.
            let keyring = Arc::clone(&in_use);
            drop(in_use);
            // On the heap: few calls come here, and each would have room for it.
            Box::pin(go_on(worker, progress, &keyring, deks, respond)).await
        }
    }
}

async fn go_on(
    worker: &Worker,
    mut progress: Progress,
    keyring: &Keyring,
    mut deks: Deks,
    respond: &mut Responder,
) -> Result<Spliced, Fault> {
    loop {
        let rest = match progress {
            Progress::Done(opened) => return done(worker, opened),
            Progress::More(rest) => {
                tokio::task::yield_now().await;
                rest
            }
            Progress::Waiting(rest) => {
                let fetch = async {
                    deks.fetch().await;
                    Ok(())
                };
                respond.unless_gone(fetch).await?;
                rest
            }
        };
        progress = step(worker, rest, keyring, &deks)?;
    }
}

fn step(worker: &Worker, job: OpenJob, keyring: &Keyring, deks: &Deks) -> Result<Progress, Fault> {
    job.step(&worker.context(keyring, deks), SLICE).map_err(|failure| {
        if let OpenFailure::Value { key, sealed_by, source } = &failure {
            if !source.is_transient() {
                worker.meters.undecryptable.increment(1);
                if sealed_by.is_some() {
                    worker.config.unopened.note(&[key.digest()]);
                }
            }
            audit(worker, key, sealed_by.as_deref(), source);
        }
        if !failure.is_transient() || worth_a_line() {
            let cause = std::error::Error::source(&failure);
            tracing::error!(%failure, cause, "an answer of etcd was refused");
        }
        Fault::refused_answer(&failure)
    })
}

fn done(worker: &Worker, opened: Opened) -> Result<Spliced, Fault> {
    let undecryptable = &opened.undecryptable;
    // Not to be blamed on the value: this process may have slept through a rotation.
    if undecryptable.may_fail() && !worker.config.tenure.holds() {
        return Err(Fault::may_be_outdated());
    }
    tell(worker, undecryptable);
    Ok(opened.message)
}

fn tell(worker: &Worker, undecryptable: &Undecryptable) {
    if undecryptable.first().is_empty() {
        return;
    }
    worker.meters.undecryptable.increment(undecryptable.count() as u64);
    worker.config.unopened.note(undecryptable.sealed());
    worker.meters.unavailable.increment(undecryptable.unavailable() as u64);
    for Unopened { key, sealed_by, error } in undecryptable.first() {
        if !error.is_transient() || worth_a_line() {
            tracing::warn!(%key, %error, "a stored value cannot be decrypted; the client gets it as it is stored");
        }
        audit(worker, key, sealed_by.as_ref(), error);
    }
}

/// Whether to say in the log that a KMS could not be asked for a value. While it is away that is so for each that is read,
/// thousands a second; that it is away is told by whoever watches over it.
fn worth_a_line() -> bool {
    thread_local! {
        static TOLD: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    TOLD.with(|told| is_due(told, Instant::now()))
}

fn is_due(told: &Cell<Option<Instant>>, now: Instant) -> bool {
    let is_due = told
        .get()
        .is_none_or(|at| now.saturating_duration_since(at) >= BETWEEN_LINES);
    if is_due {
        told.set(Some(now));
    }
    is_due
}

fn audit(worker: &Worker, key: &EscapedKey, sealed_by: Option<&SealedBy>, error: &OpenError) {
    // A KMS that is away says nothing about the value.
    if error.is_transient() {
        return;
    }
    let sealed_by = sealed_by.map(|by| (by.provider.as_str(), by.key.as_str()));
    worker.config.audit.undecryptable(&key.unquoted(), sealed_by, error);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_now_and_then() {
        let (told, begun) = (Cell::new(None), Instant::now());
        assert!(is_due(&told, begun));
        assert!(!is_due(&told, begun + BETWEEN_LINES / 2));
        assert!(is_due(&told, begun + BETWEEN_LINES));
        assert!(!is_due(&told, begun + BETWEEN_LINES));
    }
}
