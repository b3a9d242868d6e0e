//! What has to hold for a write of our own to happen: a condition on one key, as a transaction's compare.

use super::KeyValue;
use crate::types::Epoch;
use crate::wire::etcd::{compare, txn_request};
use crate::wire::{put_bytes, put_varint};

/// A condition on one key for a write of our own records.
#[derive(Clone, Copy, Debug)]
pub struct Guard<'a> {
    key: &'a [u8],
    condition: Condition<'a>,
}

/// What a key has to be.
#[derive(Clone, Copy, Debug)]
enum Condition<'a> {
    /// Last written at this revision; 0: absent.
    Mod(i64),
    /// Created at this revision; 0: absent.
    Create(i64),
    /// Present, with this value.
    Value(&'a [u8]),
}

impl<'a> Guard<'a> {
    /// The key was last written at `revision`; 0: it does not exist.
    pub fn mod_revision(key: &'a [u8], revision: i64) -> Self {
        let condition = Condition::Mod(revision);
        Self { key, condition }
    }

    /// The key came to be at `revision`.
    pub fn create_revision(key: &'a [u8], revision: i64) -> Self {
        let condition = Condition::Create(revision);
        Self { key, condition }
    }

    /// The epoch, whose key this is, is still `epoch`.
    pub fn epoch(key: &'a [u8], epoch: &'a Epoch) -> Self {
        let condition = epoch.nonce().map_or(Condition::Create(0), Condition::Value);
        Self { key, condition }
    }

    /// Whether it holds for what lies under its key, as etcd decides it.
    pub fn holds(&self, found: Option<&KeyValue>) -> bool {
        match self.condition {
            Condition::Mod(revision) => found.map_or(0, |kv| kv.mod_revision) == revision,
            Condition::Create(revision) => found.map_or(0, |kv| kv.create_revision) == revision,
            Condition::Value(value) => found.is_some_and(|kv| kv.value == value),
        }
    }

    /// The key that it is about.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The key, and at which revision it is demanded to have been last written, where that is the only guard and of the key `written`.
    pub(super) fn alone(guards: &[Self], written: Option<&[u8]>) -> Option<(&'a [u8], i64)> {
        match guards {
            [guard] if Some(guard.key) == written => match guard.condition {
                Condition::Mod(revision) => Some((guard.key, revision)),
                Condition::Create(_) | Condition::Value(_) => None,
            },
            _ => None,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut message = Vec::with_capacity(self.key.len() + 24);
        // EQUAL is 0, which is left out.
        let target = match self.condition {
            Condition::Create(_) => compare::TARGET_CREATE,
            Condition::Mod(_) => compare::TARGET_MOD,
            Condition::Value(_) => compare::TARGET_VALUE,
        };
        put_varint(&mut message, compare::TARGET, u64::from(target.cast_unsigned()));
        put_bytes(&mut message, compare::KEY, self.key);
        match self.condition {
            Condition::Create(revision) => {
                put_varint(&mut message, compare::CREATE_REVISION, revision.cast_unsigned());
            }
            Condition::Mod(revision) => put_varint(&mut message, compare::MOD_REVISION, revision.cast_unsigned()),
            Condition::Value(value) => put_bytes(&mut message, compare::VALUE, value),
        }
        put_bytes(out, txn_request::COMPARE, &message);
    }
}
