//! The thread that writes: takes events from the queue, holds back repetitions, and looks from time to time whether its
//! file is still where it was and which keys have been used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::event::{Event, Record};
use super::families::LOST;
use super::place::Place;
use super::repeats::Repeats;
use super::{Error, Message, Queue, key_use, written};

/// How often a key that is in use is said to be so. Whoever wants to know whether a key can go wants the day, not the
/// minute.
const LAST_USED_EVERY: Duration = Duration::from_secs(3600);

/// How long the end of the process waits for the last lines to be written.
const LONGEST_END: Duration = Duration::from_secs(5);

/// The open log. Events are written for as long as the process lives, or until [`Log::finish`].
#[derive(Debug)]
pub struct Log {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl Log {
    pub(super) fn start(
        place: &Path,
        messages: Receiver<Message>,
        queue: Arc<Queue>,
        tick: Duration,
    ) -> Result<Self, Error> {
        let writer = Writer {
            place: Place::open(place).map_err(|source| Error::Open {
                path: place.display().to_string(),
                source,
            })?,
            queue: Arc::clone(&queue),
            repeats: Repeats::default(),
            keys: BTreeMap::new(),
            last_told: Instant::now(),
            is_failing: false,
        };
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&messages, tick))
            .map_err(Error::Thread)?;
        Ok(Self { queue, thread })
    }

    /// Writes what is in the queue and when each key was last used, and ends. Blocks until that is done, at most for some
    /// seconds: whoever reads the log, or the system beneath it, may have stopped for good. Whether nothing was lost since a
    /// line last said so.
    pub fn finish(self) -> bool {
        self.finish_within(LONGEST_END)
    }

    fn finish_within(self, bound: Duration) -> bool {
        let until = Instant::now() + bound;
        let mut is_asked = false;
        while !self.thread.is_finished() {
            // Where there is no room for it, the thread makes some.
            is_asked = is_asked || self.queue.sender.try_send(Message::End).is_ok();
            if Instant::now() >= until {
                tracing::error!("the audit log takes nothing: its last events are lost");
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        if self.thread.join().is_err() {
            tracing::error!("the audit log's thread panicked");
            return false;
        }
        self.queue.lost.load(Ordering::Relaxed) == 0
    }
}

struct Writer {
    place: Place,
    queue: Arc<Queue>,
    repeats: Repeats,
    /// Each key that was ever used, since when that is known, and whether that has been told.
    keys: BTreeMap<(String, String), (SystemTime, bool)>,
    last_told: Instant,
    is_failing: bool,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>, tick: Duration) {
        let mut next_tick = Instant::now() + tick;
        loop {
            match messages.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Message::Event(record)) => {
                    self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
                    if self.repeats.admits(&record.event, Instant::now()) {
                        self.write(&record);
                    }
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return self.tick(true),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_tick {
                self.tick(false);
                next_tick = Instant::now() + tick;
            }
        }
    }

    fn tick(&mut self, end: bool) {
        if let Err(error) = self.place.follow() {
            self.failed(&error);
        }
        for (event, count) in self.repeats.due(Instant::now(), end) {
            self.write(&Record::counting(SystemTime::now(), event, count));
        }
        self.look_at_keys();
        if end || self.last_told.elapsed() >= LAST_USED_EVERY {
            self.tell_last_used();
        }
        let lost = self.queue.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            self.write(&Record::counting(SystemTime::now(), Event::EventsLost, lost));
        }
    }

    fn look_at_keys(&mut self) {
        let now = SystemTime::now();
        for (provider, key) in key_use::used() {
            let known = self.keys.insert((provider.clone(), key.clone()), (now, false));
            if known.is_none() {
                self.write(&Record::new(now, Event::KeyFirstUsed { provider, key }));
            }
        }
    }

    fn tell_last_used(&mut self) {
        self.last_told = Instant::now();
        let untold = self.keys.iter_mut().filter(|(_, (_, told))| !told);
        let events: Vec<_> = untold
            .map(|((provider, key), (at, told))| {
                *told = true;
                Event::KeyLastUsed {
                    provider: provider.clone(),
                    key: key.clone(),
                    last_used: humantime::format_rfc3339_seconds(*at).to_string(),
                }
            })
            .collect();
        for event in events {
            self.write(&Record::new(SystemTime::now(), event));
        }
    }

    fn write(&mut self, record: &Record) {
        // There is nothing in a record that JSON could not hold.
        let Ok(mut line) = serde_json::to_vec(record) else {
            return;
        };
        line.push(b'\n');
        match self.place.write(&line) {
            Ok(()) => {
                self.is_failing = false;
                written(record.event.name());
            }
            Err(error) => {
                self.failed(&error);
                // Told of when it can be written again.
                self.queue.lost.fetch_add(record.count, Ordering::Relaxed);
                metrics::counter!(LOST.name, "reason" => "write_failed").increment(1);
            }
        }
    }

    /// Says once that the log can't be written, until it can be again.
    fn failed(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "the audit log cannot be written; its events are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_log_that_takes_nothing_does_not_hold_up_the_end() {
        let (sender, _messages) = sync_channel(0);
        let queue = Arc::new(Queue {
            sender,
            waiting: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        });
        let stuck = thread::spawn(|| {
            loop {
                thread::park();
            }
        });
        assert!(!Log { queue, thread: stuck }.finish_within(Duration::ZERO));
    }
}
