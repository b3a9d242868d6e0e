//! The audit log: one JSON object a line, for events that somebody may have to account for later. Off unless given a
//! place to write to.
//!
//! Telling of an event never waits: it goes into a bounded queue, which a thread of its own empties into the file. What
//! finds the queue full is lost, counted, and told of. Never holds a byte of a value or of a key.

mod event;
mod families;
mod key_use;
mod place;
mod repeats;
mod writer;

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::time::{Duration, SystemTime};

pub use event::{Rule, Rules};
pub use families::FAMILIES;
pub use key_use::KeyUse;
pub use writer::Log;

use event::{Event, Record};
use families::{EVENTS, LOST};

/// How many events may wait to be written. Each takes some hundred bytes.
const QUEUE: usize = 4096;

/// How many of them may be of a kind that a client can bring about at will. The rest is kept for what can't come often.
const QUEUE_FOR_CLIENTS: usize = QUEUE / 2;

/// How often the log looks whether its file was renamed, and whether keys were used.
const TICK: Duration = Duration::from_secs(1);

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened or made.
    #[error("the audit log {path} can't be opened")]
    Open {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system gave no thread.
    #[error("the audit log's thread can't be started")]
    Thread(#[source] std::io::Error),
}

/// Where events are told. Clones tell the same log; the default one tells nobody.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    sender: SyncSender<Message>,
    waiting: AtomicUsize,
    lost: AtomicU64,
}

/// What the writing thread is told.
#[derive(Debug)]
enum Message {
    Event(Record),
    /// Write what is there, and end.
    End,
}

/// Opens the log at `place`: a file, or `-` for standard output. Events told to the first are written until the second
/// is told to finish.
///
/// # Errors
/// The file can't be opened for appending, or made.
pub fn open(place: &Path) -> Result<(Audit, Log), Error> {
    open_every(place, TICK)
}

fn open_every(place: &Path, tick: Duration) -> Result<(Audit, Log), Error> {
    let (sender, messages) = mpsc::sync_channel(QUEUE);
    let queue = Arc::new(Queue {
        sender,
        waiting: AtomicUsize::new(0),
        lost: AtomicU64::new(0),
    });
    let log = Log::start(place, messages, Arc::clone(&queue), tick)?;
    Ok((Audit(Some(queue)), log))
}

impl Audit {
    /// The process serves.
    pub fn started(&self, version: &'static str) {
        self.tell(QUEUE, || Event::Started {
            version,
            pid: std::process::id(),
        });
    }

    /// The process has stopped serving and is about to end.
    pub fn stopped(&self, reason: &'static str) {
        self.tell(QUEUE, || Event::Stopped { reason });
    }

    /// A configuration is in use from now on, from the file (or what stands for one) that operators call `source`.
    pub fn configuration_loaded(&self, source: &str, fingerprint: &dyn Display, rules: impl FnOnce() -> Rules) {
        self.tell(QUEUE, || Event::ConfigurationLoaded {
            file: source.to_owned(),
            fingerprint: fingerprint.to_string(),
            rules: rules(),
        });
    }

    /// A changed configuration was not taken into use.
    pub fn reload_refused(&self, source: &str, reason: &dyn Display) {
        self.tell(QUEUE, || Event::ReloadRefused {
            file: source.to_owned(),
            reason: reason.to_string(),
        });
    }

    /// A stored value did not open: which one, what it says that it was sealed with, and why.
    pub fn undecryptable(&self, key: &dyn Display, sealed_by: Option<(&str, &str)>, reason: &dyn Display) {
        self.tell(QUEUE_FOR_CLIENTS, || Event::UndecryptableValue {
            key: key.to_string(),
            provider: sealed_by.map(|(provider, _)| provider.to_owned()),
            key_name: sealed_by.map(|(_, name)| name.to_owned()),
            reason: reason.to_string(),
        });
    }

    /// A client was refused something: in one word, whom, what it asked for, and what it was told.
    pub fn access_refused(&self, reason: &'static str, peer: &str, request: &str, detail: &dyn Display) {
        self.tell(QUEUE_FOR_CLIENTS, || Event::AccessRefused {
            reason,
            peer: peer.to_owned(),
            request: request.to_owned(),
            detail: detail.to_string(),
        });
    }

    /// The keys of a keyring are about to be written to a file in the clear, on this host, by this user of it.
    pub fn keyring_exported(&self, file: &dyn Display, fingerprint: &dyn Display, generation: u64, by: (&str, &str)) {
        self.tell(QUEUE, || Event::KeyringExported {
            file: file.to_string(),
            fingerprint: fingerprint.to_string(),
            generation,
            host: by.0.to_owned(),
            user: by.1.to_owned(),
        });
    }

    /// Documents are about to be removed from the archive for good, from this host, by this user of it.
    pub fn archive_purged(&self, fingerprints: impl Iterator<Item: Display>, by: (&str, &str)) {
        self.tell(QUEUE, || Event::ArchivePurged {
            fingerprints: fingerprints.map(|fingerprint| fingerprint.to_string()).collect(),
            host: by.0.to_owned(),
            user: by.1.to_owned(),
        });
    }

    /// Puts an event into the queue, if fewer than `most` are there. Nothing is made of it where nobody listens.
    fn tell(&self, most: usize, event: impl FnOnce() -> Event) {
        let Some(queue) = &self.0 else { return };
        if queue.waiting.fetch_add(1, Ordering::Relaxed) < most {
            let record = Record::new(SystemTime::now(), event());
            match queue.sender.try_send(Message::Event(record)) {
                Ok(()) => return,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        queue.waiting.fetch_sub(1, Ordering::Relaxed);
        queue.lost.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(LOST.name, "reason" => "queue_full").increment(1);
    }
}

/// Counts an event that has been written.
fn written(event: &'static str) {
    metrics::counter!(EVENTS.name, "event" => event).increment(1);
}

#[cfg(test)]
mod tests;
