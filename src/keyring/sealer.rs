//! What covers a key: its rule's chain, and the meter of its resource. Decides nothing about what to do with a value that
//! does not open.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::meter::Meter;
use crate::config::ResourceSelector;
use crate::keyspace::builtins;
use crate::types::StorageKey;
use crate::value::{Chain, Deks, OpenError, Opened, SealError, Writer};

/// Seals and opens the values of one resource, and counts it.
#[derive(Clone, Copy, Debug)]
pub struct Sealer<'a> {
    chain: &'a Chain,
    meter: &'a Meter,
}

impl<'a> Sealer<'a> {
    /// As [`Chain::to_storage`].
    pub fn to_storage(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let begun = Instant::now();
        let outcome = self.chain.to_storage(key, plaintext, deks, out);
        self.meter.sealed(&outcome, begun.elapsed());
        outcome
    }

    /// As [`Chain::to_storage_batch`].
    pub fn to_storage_batch(&self, values: &[(StorageKey<'_>, &[u8])], deks: &Deks) -> Result<Vec<Vec<u8>>, SealError> {
        let begun = Instant::now();
        let outcome = self.chain.to_storage_batch(values, deks);
        // Each took its part of the time.
        let elapsed = begun.elapsed() / u32::try_from(values.len().max(1)).unwrap_or(u32::MAX);
        let each = outcome.as_ref().map(drop).map_err(Clone::clone);
        for _ in values {
            self.meter.sealed(&each, elapsed);
        }
        outcome
    }

    /// Whether the values of both are sealed, and counted, the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self.chain, other.chain) && std::ptr::eq(self.meter, other.meter)
    }

    /// As [`Chain::from_storage`]; counted as [`Self::from_storage_in_place`] is. For single values: it copies each.
    pub fn from_storage(
        &self,
        key: StorageKey<'_>,
        stored: &[u8],
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<Opened, OpenError> {
        let mut place = stored.to_vec();
        let (opened, at) = self.from_storage_in_place(key, &mut place, deks, &mut Vec::new(), &mut Lap::default())?;
        out.extend_from_slice(place.get(at).unwrap_or_default());
        Ok(opened)
    }

    /// As [`Chain::from_storage_in_place`]. What is counted as its time is that since the last value of `lap`.
    pub fn from_storage_in_place(
        &self,
        key: StorageKey<'_>,
        stored: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
        lap: &mut Lap,
    ) -> Result<(Opened, Range<usize>), OpenError> {
        lap.begin();
        let outcome = self.chain.from_storage_in_place(key, stored, deks, spare);
        let elapsed = lap.end();
        // What a value says of its provider and key stands before what is opened.
        self.meter
            .opened(self.chain, stored, outcome.as_ref().map(|(opened, _)| opened), elapsed);
        outcome
    }

    /// The chain itself, for looking at values that no client has asked for: nothing is counted.
    pub fn chain(&self) -> &'a Chain {
        self.chain
    }

    /// As [`Chain::is_pending`].
    pub fn is_pending(&self, stored: &[u8], deks: &Deks) -> bool {
        self.chain.is_pending(stored, deks)
    }

    /// As [`Chain::writer`].
    pub fn writer(&self) -> Writer<'a> {
        self.chain.writer()
    }
}

/// As the chain is shown.
impl fmt::Display for Sealer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.chain, f)
    }
}

/// The time that values take one behind the other: the end of one is the beginning of the next, for to ask the clock is not
/// so much quicker than to open a small value.
#[derive(Debug, Default)]
pub struct Lap(Option<Instant>);

impl Lap {
    /// What is done next is no part of a value's time.
    pub fn pause(&mut self) {
        self.0 = None;
    }

    fn begin(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    fn end(&mut self) -> Duration {
        let now = Instant::now();
        let begun = self.0.replace(now);
        begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun))
    }
}

/// A chain with the meters of all resources that its rule is about.
#[derive(Debug)]
pub(super) struct Metered {
    chain: Arc<Chain>,
    /// Built-in resources by group and name, sorted; none where the rule names one resource.
    by_resource: Vec<((&'static str, &'static str), Meter)>,
    /// All else. Custom resources are not told apart: who may make them could make any number.
    rest: Meter,
}

impl Metered {
    pub(super) fn new(selector: &ResourceSelector, chain: &Arc<Chain>, retired_reads: &Arc<AtomicU64>) -> Self {
        let is_covered = |group: &str| match selector {
            ResourceSelector::Exact(_) => false,
            ResourceSelector::Group(covered) => group == covered,
            ResourceSelector::All => true,
        };
        let covered = builtins().filter(|builtin| is_covered(builtin.group));
        let meter = |builtin: crate::keyspace::BuiltIn| {
            let id = (builtin.group, builtin.resource);
            (id, Meter::new(builtin.to_string(), chain, retired_reads))
        };
        let mut by_resource: Vec<_> = covered.map(meter).collect();
        by_resource.sort_unstable_by_key(|(id, _)| *id);
        Self {
            chain: Arc::clone(chain),
            by_resource,
            rest: Meter::new(selector.to_string(), chain, retired_reads),
        }
    }

    /// For values of a resource, or of none that is known.
    pub(super) fn sealer(&self, resource: Option<(&str, &str)>) -> Sealer<'_> {
        let known = resource.and_then(|wanted| {
            let found = self
                .by_resource
                .binary_search_by(|((group, name), _)| (*group, *name).cmp(&wanted));
            self.by_resource.get(found.ok()?)
        });
        Sealer {
            chain: &self.chain,
            meter: known.map_or(&self.rest, |(_, meter)| meter),
        }
    }
}
