//! How many data key seeds of a KMS v2 plugin are in use: each start of a process that writes has one of its own, and each that
//! a value needs is a call of the plugin for whoever reads it.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seeds of a plugin that are told apart; more count as these.
const MAX_SEEDS: usize = 100_000;

/// Seeds of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seeds {
    /// Of a part of the store that another process looked at; it may have met the same ones.
    carried: u64,
    /// By the beginnings of their digests.
    seen: BTreeSet<u64>,
}

impl Seeds {
    pub(super) fn add(&mut self, seed: u64) {
        if self.seen.len() < MAX_SEEDS {
            self.seen.insert(seed);
        }
    }

    /// How many; somewhat too many where a pass was interrupted and gone on with.
    pub(super) fn count(&self) -> u64 {
        self.carried.saturating_add(self.seen.len() as u64)
    }
}

impl Serialize for Seeds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.count())
    }
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self {
            carried: u64::deserialize(from)?,
            seen: BTreeSet::new(),
        })
    }
}
