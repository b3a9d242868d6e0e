//! What etcd keeps of a rotation: JSON under the state prefix, replaced by compare-and-swap. Names of keys, never their
//! bytes; times are for people, nothing is decided by them.

use serde::{Deserialize, Serialize};

use super::damaged::Damaged;
use super::machine::{Command, How};
use super::stage::Stage;
use crate::config::{EncryptionConfiguration, KeyId};
use crate::etcd::{CallError, Guard, Store};
use crate::types::StatePrefix;

/// The record's version. One of another version is not touched.
pub(super) const SCHEMA: u32 = 1;

/// Where the record lies below the state prefix.
const KEY: &str = "rotation";

/// Names of keys that were made, of which the last ones are kept: no two keys may ever share one, and times alone do not
/// see to that.
pub(super) const MAX_NAMES: usize = 64;

/// Keys that are gone, of which the last ones are kept.
pub(super) const MAX_DROPPED: usize = 256;

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub(super) schema: u32,
    /// Goes up each time that it is written.
    pub generation: u64,
    /// How far the rotation has come.
    pub stage: Stage,
    /// The stage that the rotation began at, and goes back to when it is taken back.
    pub origin: Stage,
    /// When it began, RFC 3339.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub started: String,
    /// When the record was last written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub updated: String,
    /// Which host wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// What was asked for and has not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underway: Option<Command>,
    /// With which flags.
    #[serde(default)]
    pub how: How,
    /// Which command that is: the generation at which it was begun. 0 for one begun by a version that did not say.
    #[serde(default)]
    pub begun: u64,
    /// Which was the last one that came to its end.
    #[serde(default)]
    pub finished: u64,
    /// The keys that the rotation brings in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fresh: Vec<KeyId>,
    /// The keys that wrote before, in the order of those that follow them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<KeyId>,
    /// None of the keys that the rotation brings in was ever put first: nothing that is or was stored can need one. An earlier
    /// version does not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
    /// Those of `fresh` that the configuration listed before, but for keys of its own: they stay where it is taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<KeyId>,
    /// Keys of earlier rotations that were left to read; they go with the next ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeyId>,
    /// Keys out of kept configurations that `recover` lists to read with, and takes out again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovered: Vec<KeyId>,
    /// The keys that this command removes are going: nobody may write with them any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropping: bool,
    /// The proof is there, and the configuration is being replaced by one without them: nobody takes it back any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removing: bool,
    /// Keys that this command has removed, or is about to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<KeyId>,
    /// Keys that are gone, or going: whoever comes back with a configuration that writes with one must not write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<KeyId>,
    /// What is stored from this revision on needs no old key, by the proof of this configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved: Option<Proved>,
    /// Names of the last keys that were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// A proof that was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proved {
    /// SHA-256 of the configuration.
    pub configuration: String,
    /// From this revision on no old key is needed.
    pub revision: i64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            generation: 0,
            stage: Stage::Start,
            origin: Stage::Start,
            started: String::new(),
            updated: String::new(),
            by: String::new(),
            underway: None,
            how: How::default(),
            begun: 0,
            finished: 0,
            fresh: Vec::new(),
            retiring: Vec::new(),
            unused: false,
            listed: Vec::new(),
            kept: Vec::new(),
            recovered: Vec::new(),
            dropping: false,
            removing: false,
            removed: Vec::new(),
            dropped: Vec::new(),
            proved: None,
            names: Vec::new(),
        }
    }
}

impl Record {
    /// Remembers the names of keys that are about to be made.
    pub(super) fn remember(&mut self, keys: &[KeyId]) {
        let made = keys.iter().filter(|key| key.key_type().is_some());
        for name in made.map(|key| key.name.as_str()) {
            if !self.names.iter().any(|known| known == name) {
                self.names.push(name.to_owned());
            }
        }
        let surplus = self.names.len().saturating_sub(MAX_NAMES);
        self.names.drain(..surplus);
    }

    /// Notes that `keys` are going.
    pub(super) fn drop_keys(&mut self, keys: &[KeyId]) {
        (self.dropping, self.removing) = (true, false);
        self.removed = keys.to_vec();
        self.dropped.retain(|key| !keys.contains(key));
        self.dropped.extend_from_slice(keys);
        let surplus = self.dropped.len().saturating_sub(MAX_DROPPED);
        self.dropped.drain(..surplus);
    }

    /// Has this record of another store say which keys are going by `record`, where `config` is the configuration of both;
    /// whether it did not say so. What is listed and not going is wanted again.
    pub(super) fn take_dropped(&mut self, record: &Self, config: &EncryptionConfiguration) -> bool {
        let mut dropped = self.dropped.clone();
        dropped.retain(|key| !config.has_key(key) && !record.dropped.contains(key));
        dropped.extend_from_slice(&record.dropped);
        let surplus = dropped.len().saturating_sub(MAX_DROPPED);
        dropped.drain(..surplus);
        let has_changed = dropped != self.dropped;
        if has_changed {
            self.dropped = dropped;
            self.generation += 1;
        }
        has_changed
    }

    /// Whether keys are listed, or about to be, that only read what no other key opens.
    pub(super) fn is_recovering(&self) -> bool {
        !self.recovered.is_empty()
    }

    /// Each key that wrote before, with the one that follows it.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&KeyId, &KeyId)> {
        self.retiring.iter().zip(&self.fresh)
    }

    /// The record, and the revision at which it was written; 0 where there is none. Or what lies there that is no record.
    pub(super) async fn load<S: Store>(
        store: &S,
        state: &StatePrefix,
    ) -> Result<Result<(Self, i64), Damaged>, CallError> {
        let (_, found) = store.get(&key(state)).await?;
        Ok(match found {
            None => Ok((Self::default(), 0)),
            Some(kv) => match parse(&kv.value) {
                Ok(record) => Ok((record, kv.mod_revision)),
                Err(why) => Err(Damaged::of(&kv, why)),
            },
        })
    }

    /// Puts it in the place of the one of `revision`: at which revision, or `None` if somebody else was first.
    pub(super) async fn save<S: Store>(
        &self,
        store: &S,
        state: &StatePrefix,
        revision: i64,
    ) -> Result<Option<i64>, CallError> {
        let key = key(state);
        store
            .put_if(&[Guard::mod_revision(&key, revision)], &key, &self.encode(), 0)
            .await
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // No map with keys that are not text, and nothing else that JSON cannot say.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Where it lies.
pub(super) fn key(state: &StatePrefix) -> Vec<u8> {
    [state.as_bytes(), KEY.as_bytes()].concat()
}

pub(super) fn parse(record: &[u8]) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let Version { schema } = serde_json::from_slice(record).map_err(|error| error.to_string())?;
    if schema != SCHEMA {
        return Err(format!("its schema is {schema}, and this version knows {SCHEMA}"));
    }
    serde_json::from_slice(record).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyType;
    use crate::types::KeyName;

    #[test]
    fn a_record_is_read_as_it_was_written_and_none_of_another_version() {
        let mut record = Record {
            underway: Some(Command::RotateKeys),
            stage: Stage::ReencryptActive,
            fresh: vec![KeyId {
                provider: KeyType::Secretbox.into(),
                name: KeyName::new("a:b"),
            }],
            ..Record::default()
        };
        record.remember(&record.fresh.clone());
        // As an earlier version left it.
        assert!(!serde_json::to_string(&record).unwrap().contains("recovered"));
        record.recovered.clone_from(&record.fresh);
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""stage":"reencrypt_active","#), "{text}");
        assert_eq!(parse(text.as_bytes()), Ok(record));
        let why = parse(br#"{"schema":2,"anything":"else"}"#).unwrap_err();
        assert!(why.contains("schema is 2"), "{why}");
        assert!(parse(b"").is_err());
    }

    #[test]
    fn names_are_forgotten_after_a_while() {
        let mut record = Record::default();
        for index in 0..100 {
            record.remember(&[KeyId {
                provider: KeyType::AesCbc.into(),
                name: KeyName::new(index.to_string()),
            }]);
        }
        assert_eq!(record.names.len(), MAX_NAMES);
        assert_eq!(record.names.last().map(String::as_str), Some("99"));
    }
}
