//! How many values each key has sealed, by all members, since it came: added up in etcd, so that a key can be replaced after
//! so many. What a member has counted and not yet added is lost where it dies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::KeyId;
use crate::etcd::{CallError, Guard, Store};
use crate::managed::Time;
use crate::types::StatePrefix;

/// Where the counts lie below the state prefix.
const KEY: &str = "usage";

/// The record's version.
const SCHEMA: u32 = 1;

/// Keys that are counted; those that no longer write are forgotten first.
const MAX_KEYS: usize = 256;

/// The counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    schema: u32,
    keys: Vec<Count>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    #[serde(flatten)]
    key: KeyId,
    writes: u64,
    /// From when on its age is counted, where its own time lay ahead of the clock of the member that looked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    since: Option<Time>,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            keys: Vec::new(),
        }
    }
}

impl Usage {
    /// What was counted so far, and the revision at which that was written. What cannot be read counts as nothing.
    pub(super) async fn load<S: Store>(store: &S, state: &StatePrefix) -> Result<(Self, i64), CallError> {
        let (_, found) = store.get(&key(state)).await?;
        Ok(found.map_or_else(
            || (Self::default(), 0),
            |kv| {
                let usage = serde_json::from_slice(&kv.value).ok();
                let usage = usage.filter(|usage: &Self| usage.schema == SCHEMA && usage.keys.len() <= MAX_KEYS);
                if usage.is_none() {
                    tracing::warn!(
                        key = %kv.key.escape_ascii(),
                        revision = kv.mod_revision,
                        "the record of how many values each key has sealed cannot be read: counting begins anew, so \
                         --rotate-after-writes comes later than it would have"
                    );
                }
                (usage.unwrap_or_default(), kv.mod_revision)
            },
        ))
    }

    /// How many `key` has sealed.
    pub(super) fn of(&self, key: &KeyId) -> u64 {
        self.keys
            .iter()
            .find(|count| count.key == *key)
            .map_or(0, |count| count.writes)
    }

    /// From when on the age of `key` is counted, if not from its own time.
    pub(super) fn since(&self, key: &KeyId) -> Option<Time> {
        self.keys.iter().find(|count| count.key == *key)?.since
    }

    /// Notes that the age of `key` is counted from `now` on.
    pub(super) fn count_from(&mut self, key: &KeyId, now: Time) {
        match self.keys.iter_mut().find(|count| count.key == *key) {
            Some(count) => count.since = Some(now),
            None => self.keys.push(Count {
                key: key.clone(),
                writes: 0,
                since: Some(now),
            }),
        }
    }

    /// Adds what a member has counted, and forgets keys that are not `listed`.
    pub(super) fn add(&mut self, counted: &BTreeMap<KeyId, u64>, listed: &[KeyId]) {
        for (key, writes) in counted {
            match self.keys.iter_mut().find(|count| count.key == *key) {
                Some(count) => count.writes = count.writes.saturating_add(*writes),
                None => self.keys.push(Count {
                    key: key.clone(),
                    writes: *writes,
                    since: None,
                }),
            }
        }
        self.keys.retain(|count| listed.contains(&count.key));
        self.keys.truncate(MAX_KEYS);
    }

    /// Puts it in the place of the one of `revision`, unless somebody else was first.
    pub(super) async fn save<S: Store>(
        &self,
        store: &S,
        state: &StatePrefix,
        revision: i64,
    ) -> Result<bool, CallError> {
        let key = key(state);
        let record = serde_json::to_vec(self).unwrap_or_default();
        let guard = [Guard::mod_revision(&key, revision)];
        Ok(store.put_if(&guard, &key, &record, 0).await?.is_some())
    }
}

fn key(state: &StatePrefix) -> Vec<u8> {
    [state.as_bytes(), KEY.as_bytes()].concat()
}

/// One member's counts, since it began and since they were last added.
#[derive(Debug, Default)]
pub(super) struct Tally {
    added: BTreeMap<KeyId, u64>,
}

impl Tally {
    /// Adds to etcd what was `counted` since the last time. The usage then; as it was, if somebody else was first.
    pub(super) async fn add<S: Store>(
        &mut self,
        store: &S,
        state: &StatePrefix,
        counted: BTreeMap<KeyId, u64>,
        listed: &[KeyId],
    ) -> Result<Usage, CallError> {
        let (mut usage, revision) = Usage::load(store, state).await?;
        let mut new = counted.clone();
        for (key, writes) in &mut new {
            *writes = writes.saturating_sub(self.added.get(key).copied().unwrap_or_default());
        }
        new.retain(|_, writes| *writes > 0);
        if new.is_empty() {
            return Ok(usage);
        }
        let before = usage.clone();
        usage.add(&new, listed);
        if usage.save(store, state, revision).await? {
            self.added = counted;
            return Ok(usage);
        }
        Ok(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyType;
    use crate::types::KeyName;

    fn key(name: &str) -> KeyId {
        KeyId {
            provider: KeyType::AesGcm.into(),
            name: KeyName::new(name),
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let text = r#"{"schema":1,"keys":[{"provider":"aesgcm","name":"a","writes":7}]}"#;
        let mut usage: Usage = serde_json::from_str(text).unwrap();
        assert_eq!((usage.of(&key("a")), usage.since(&key("a"))), (7, None));
        assert_eq!(serde_json::to_string(&usage).unwrap(), text);
        let now = Time::now();
        usage.count_from(&key("a"), now);
        usage.count_from(&key("b"), now);
        usage.add(&BTreeMap::from([(key("b"), 1)]), &[key("a"), key("b")]);
        let read: Usage = serde_json::from_str(&serde_json::to_string(&usage).unwrap()).unwrap();
        assert_eq!(read, usage);
        assert_eq!((read.since(&key("a")), read.of(&key("a"))), (Some(now), 7));
        assert_eq!((read.since(&key("b")), read.of(&key("b"))), (Some(now), 1));
    }

    #[test]
    fn counts_add_up_and_those_of_keys_that_are_gone_are_forgotten() {
        let mut usage = Usage::default();
        usage.add(&BTreeMap::from([(key("a"), 2)]), &[key("a")]);
        usage.add(&BTreeMap::from([(key("a"), 3), (key("b"), 1)]), &[key("a"), key("b")]);
        assert_eq!((usage.of(&key("a")), usage.of(&key("b"))), (5, 1));
        usage.add(&BTreeMap::from([(key("b"), u64::MAX)]), &[key("b")]);
        assert_eq!((usage.of(&key("a")), usage.of(&key("b"))), (0, u64::MAX));
        let text = serde_json::to_string(&usage).unwrap();
        assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage);
    }
}
