//! Which key IDs of one plugin values are sealed and opened under, as metrics. Bounded: a plugin may name ever new ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ::metrics::{Counter, Gauge, counter, gauge};
use arc_swap::ArcSwap;

use super::metrics;
use crate::telemetry::instance;
use crate::types::{Fingerprint, KeyName};

/// How many key IDs have series of their own, as in kube-apiserver. It forgets the one that was used least lately; the
/// registry here cannot forget, so all beyond share one.
pub(super) const MAX_KEY_IDS: usize = 100;

/// What those beyond share.
pub(super) const OTHER: &str = "other";

/// How key IDs are shown: they need not be secret, but may be long.
pub(super) fn hash_of(key_id: &str) -> String {
    Fingerprint::of(key_id.as_bytes()).to_string()
}

/// Now, as Unix time.
pub(super) fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// What was done to a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Sealed,
    Opened,
}

/// The key IDs of one plugin, with their series.
pub(super) struct KeyIds {
    provider: KeyName,
    known: ArcSwap<HashMap<String, Arc<Series>>>,
}

impl KeyIds {
    pub(super) fn new(provider: KeyName) -> Self {
        Self {
            provider,
            known: ArcSwap::default(),
        }
    }

    /// Counts a use of `key_id`. Takes no lock, and writes nothing that cores share, for a key ID that is known.
    pub(super) fn note(&self, key_id: &str, what: Use) {
        let known = self.known.load();
        match known.get(key_id) {
            Some(series) => series.note(what),
            None => self.introduce(key_id).note(what),
        }
    }

    /// The series of a key ID that has none yet.
    fn introduce(&self, key_id: &str) -> Arc<Series> {
        let is_full = self.known.load().len() >= MAX_KEY_IDS;
        let (entry, hash) = if is_full {
            (OTHER, OTHER.to_owned())
        } else {
            (key_id, hash_of(key_id))
        };
        // Equal series are the same series, whoever of two threads stores theirs.
        let series = Arc::new(Series::new(&self.provider, &hash));
        if !is_full {
            self.known.rcu(|known| {
                let mut known = HashMap::clone(known);
                known.insert(entry.to_owned(), Arc::clone(&series));
                known
            });
        }
        series
    }
}

/// The series of one key ID.
struct Series {
    sealed: Stamped,
    opened: Stamped,
}

impl Series {
    fn new(provider: &KeyName, hash: &str) -> Self {
        let stamped = |transformation_type: &'static str| {
            let labels = [
                ("apiserver_id_hash", instance().to_owned()),
                ("provider_name", provider.as_str().to_owned()),
                ("key_id_hash", hash.to_owned()),
                ("transformation_type", transformation_type.to_owned()),
            ];
            Stamped {
                count: counter!(metrics::KEY_ID.name, &labels),
                last: gauge!(metrics::KEY_ID_LAST.name, &labels),
                second: AtomicU64::new(0),
            }
        };
        Self {
            sealed: stamped("to_storage"),
            opened: stamped("from_storage"),
        }
    }

    fn note(&self, what: Use) {
        match what {
            Use::Sealed => self.sealed.note(),
            Use::Opened => self.opened.note(),
        }
    }
}

/// A count, and when it last grew.
struct Stamped {
    count: Counter,
    last: Gauge,
    /// What `last` shows.
    second: AtomicU64,
}

impl Stamped {
    fn note(&self) {
        self.count.increment(1);
        let now = unix_time();
        // Written once a second, not by every core for every value.
        if self.second.load(Ordering::Relaxed) != now.as_secs() {
            self.second.store(now.as_secs(), Ordering::Relaxed);
            self.last.set(now.as_secs_f64());
        }
    }
}
