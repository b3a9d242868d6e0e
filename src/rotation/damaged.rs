//! A record of the rotation that cannot be read: what its bytes still tell, what it was before, and what that means for those who
//! write. Pure, but for the look into etcd's history.
//!
//! Nobody replaces a record that cannot be read but `abort --forget`: each writer compares with the revision of a record that it has
//! read. So the last one that could be read, which etcd's history has until it is compacted away, holds every note that a key is
//! going. It is not asked where a newer version has written the record: that one may have gone on by rules of its own.

use std::fmt;

use serde_json::Value;

use super::record::{Record, SCHEMA, key, parse};
use crate::config::KeyId;
use crate::etcd::{CallError, KeyValue, PageAsk, Store, Trouble};
use crate::types::StatePrefix;

/// The command that leads out.
pub(super) const WAY_OUT: &str = "`secrets-encrypt abort --forget`";

/// Records that cannot be read, one after the other, that are looked past.
const MAX_STEPS: u32 = 32;

/// Bytes of a record beyond which its end is not looked for where it is cut off.
const MAX_REPAIRED: usize = 1 << 20;

/// Characters of a text in the record that are shown.
const MAX_SHOWN: usize = 253;

/// The record, which cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The revision at which it was written.
    pub revision: i64,
    /// What is wrong with it.
    pub why: String,
    /// Its schema, if it tells one.
    pub schema: Option<u64>,
    /// What its bytes tell all the same.
    pub(super) told: Told,
}

/// What is told of keys, by a record or by what is left of one. Never a key's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) generation: u64,
    /// When it was written, and by which host: for people.
    pub(super) updated: String,
    pub(super) by: String,
    /// Keys that nobody may write with.
    pub(super) dropped: Vec<KeyId>,
    /// Keys that a rotation has brought in, or left to read.
    pub(super) involved: Vec<KeyId>,
    /// Names that were given to keys.
    pub(super) names: Vec<String>,
}

impl Damaged {
    /// What lies there, which is no record because of `why`.
    pub(super) fn of(kv: &KeyValue, why: String) -> Self {
        let value = value_of(&kv.value);
        Self {
            revision: kv.mod_revision,
            why: if kv.value.is_empty() {
                "it is empty".to_owned()
            } else {
                why
            },
            schema: value.get("schema").and_then(Value::as_u64),
            told: Told::of_value(&value),
        }
    }

    /// Whether a newer version wrote it.
    pub fn is_newer(&self) -> bool {
        self.schema.is_some_and(|schema| schema > u64::from(SCHEMA))
    }

    /// The last record before it that can be read; `None` where that is not known: a newer version wrote it, or etcd's history is
    /// compacted away.
    ///
    /// # Errors
    /// What etcd said.
    pub(super) async fn before<S: Store>(&self, store: &S, state: &StatePrefix) -> Result<Option<Record>, CallError> {
        let key = key(state);
        let (mut revision, mut is_newer) = (self.revision, self.is_newer());
        for _ in 0..MAX_STEPS {
            if is_newer || revision <= 1 {
                return Ok(None);
            }
            let ask = PageAsk {
                start: &key,
                end: Some(&[&key[..], &[0]].concat()),
                revision: revision - 1,
                limit: 1,
                enough: usize::MAX,
            };
            let page = match store.page(ask).await {
                Ok(page) => page,
                Err(error) if error.trouble() == Trouble::Compacted => return Ok(None),
                Err(error) => return Err(error),
            };
            let Some(kv) = page.kvs.into_iter().next() else {
                return Ok(Some(Record::default()));
            };
            match parse(&kv.value) {
                Ok(record) if kv.mod_revision < revision => return Ok(Some(record)),
                Err(why) if kv.mod_revision < revision => {
                    let earlier = Self::of(&kv, why);
                    (revision, is_newer) = (earlier.revision, earlier.is_newer());
                }
                // A store that keeps no history.
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What it means for those who write, where it is not known what the record was before.
    pub(super) fn bars(&self) -> String {
        let unknown = if self.is_newer() {
            "Only that version knows whether a key that this configuration writes with is going, so nothing is written with it"
        } else {
            "etcd's history no longer tells what it was before, so a key that this configuration writes with may be going, and \
             nothing is written with it"
        };
        format!(
            "the record of rotations in etcd cannot be read: {self}. {unknown}. {}",
            self.way_out()
        )
    }

    /// What to do.
    pub(super) fn way_out(&self) -> String {
        if self.is_newer() {
            format!(
                "Run this with the version that wrote it; or {WAY_OUT}, which gives up what that version was doing and writes a \
                 fresh record once all members have loaded the same configuration"
            )
        } else {
            format!("{WAY_OUT} writes a fresh one once all members have loaded the same configuration")
        }
    }

    /// The command that comes next.
    pub(super) fn next(&self) -> String {
        if self.is_newer() {
            format!(
                "with the version that wrote the record, `status`; or {WAY_OUT}, which gives up what that version was doing"
            )
        } else {
            format!("{WAY_OUT} (with --dry-run it says what it would do)")
        }
    }

    /// All of it for `status`, with what the record was before, if that is known.
    pub(super) fn blocks(&self, before: Option<&Record>) -> String {
        let meaning = match before {
            Some(before) => format!(
                "No command goes on, and no key is removed, until there is a fresh one. Before, its stage was {}{}; writes go on \
                 with all keys but those that it says are going, for as long as a process knows that: etcd's history tells it until \
                 that is compacted away",
                before.stage,
                before
                    .underway
                    .map_or_else(String::new, |command| format!(", with `{}` under way", command.as_str()))
            ),
            None if self.is_newer() => "Members of this version write nothing under a rule, and no command of it goes on".to_owned(),
            None => "No command goes on, and a process that does not know what the record was before writes nothing under a rule: a \
                     key that it writes with may be going"
                .to_owned(),
        };
        format!("the record of the rotation cannot be read: {self}. {meaning}")
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_newer() {
            f.write_str("a newer version wrote it: ")?;
        }
        write!(f, "{}; it has been so since revision {}", self.why, self.revision)?;
        let shown = |text: &str| {
            text.chars()
                .take(MAX_SHOWN)
                .collect::<String>()
                .escape_debug()
                .to_string()
        };
        let Told { updated, by, .. } = &self.told;
        if !updated.is_empty() {
            write!(f, ", and says that it was written {}", shown(updated))?;
            if !by.is_empty() {
                write!(f, " by {}", shown(by))?;
            }
        }
        Ok(())
    }
}

impl Told {
    /// By a record that can be read.
    pub(super) fn of(record: &Record) -> Self {
        Self {
            generation: record.generation,
            updated: record.updated.clone(),
            by: record.by.clone(),
            dropped: record.dropped.clone(),
            involved: [&record.kept[..], &record.retiring, &record.fresh].concat(),
            names: record.names.clone(),
        }
    }

    /// By whatever has fields of the same names.
    fn of_value(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let keys = |name: &str| {
            let listed = value.get(name).and_then(Value::as_array).into_iter().flatten();
            listed.filter_map(|key| serde_json::from_value::<KeyId>(key.clone()).ok())
        };
        let mut dropped: Vec<KeyId> = keys("dropped").collect();
        if value.get("dropping").and_then(Value::as_bool) == Some(true) {
            dropped.extend(keys("removed").filter(|key| !dropped.contains(key)).collect::<Vec<_>>());
        }
        let names = value.get("names").and_then(Value::as_array).into_iter().flatten();
        Self {
            generation: value.get("generation").and_then(Value::as_u64).unwrap_or_default(),
            updated: text("updated"),
            by: text("by"),
            dropped,
            involved: keys("kept").chain(keys("retiring")).chain(keys("fresh")).collect(),
            names: names.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

/// The bytes as JSON; where their end is missing, up to the last part that is whole. Null where they are none.
fn value_of(bytes: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    // The place behind the last part that is whole, and how much is open there: from then on something is only opened.
    let mut whole = None;
    let (mut open, mut is_in_text, mut is_escaped) = (Vec::new(), false, false);
    for (at, byte) in bytes.iter().enumerate().take(MAX_REPAIRED) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_text => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            _ if is_in_text => {}
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' if open.last() == Some(byte) => {
                open.pop();
                whole = Some((at + 1, open.len()));
            }
            b'}' | b']' => break,
            b',' => whole = Some((at, open.len())),
            _ => {}
        }
    }
    let repaired = whole.and_then(|(end, depth)| {
        let mut text = bytes.get(..end)?.to_vec();
        text.extend(open.get(..depth)?.iter().rev());
        serde_json::from_slice(&text).ok()
    });
    repaired.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyType;
    use crate::types::KeyName;

    fn id(name: &str) -> KeyId {
        KeyId {
            provider: KeyType::AesCbc.into(),
            name: KeyName::new(name),
        }
    }

    fn record() -> Record {
        Record {
            generation: 7,
            fresh: vec![id("new")],
            retiring: vec![id("old")],
            dropping: true,
            removed: vec![id("old")],
            dropped: vec![id("older"), id("old")],
            names: vec!["new".to_owned(), "old".to_owned()],
            ..Record::default()
        }
    }

    fn damaged(bytes: &[u8]) -> Damaged {
        let kv = KeyValue {
            key: bytes::Bytes::new(),
            value: bytes.to_vec().into(),
            create_revision: 3,
            mod_revision: 9,
            lease: 0,
        };
        let why = parse(bytes).expect_err("it is damaged");
        Damaged::of(&kv, why)
    }

    #[test]
    fn what_is_left_of_a_record_is_told() {
        let text = serde_json::to_string(&record()).unwrap();
        let newer = damaged(text.replace("\"schema\":1", "\"schema\":2,\"more\":[{}]").as_bytes());
        assert!(newer.is_newer());
        assert_eq!(newer.told, Told::of(&record()));
        assert!(
            newer
                .to_string()
                .starts_with("a newer version wrote it: its schema is 2"),
            "{newer}"
        );
        // Without the end of `names`, and of all that is behind `dropped`.
        let cut = damaged(&text.as_bytes()[..text.len() - 4]);
        assert_eq!(
            (cut.told.dropped, cut.told.names),
            (record().dropped, vec!["new".to_owned()])
        );
        let cut = damaged(&text.as_bytes()[..text.find("\"older\"").unwrap() + 9]);
        assert_eq!(
            cut.told.dropped,
            [id("older"), id("old")],
            "`removed` tells of what is going, too"
        );
        assert_eq!(
            (cut.told.generation, cut.told.involved),
            (7, vec![id("old"), id("new")])
        );
    }

    /// etcd takes a record of 1.5 MB from whoever may write there, and each process looks at it again and again.
    #[test]
    fn what_is_nested_deeply_takes_no_longer_than_it_is_long() {
        let deep = [vec![b'['; 500_000], vec![b','; 500_000]].concat();
        assert!(damaged(&deep).told.dropped.is_empty());
    }

    #[test]
    fn whatever_bytes_lie_there_are_no_more_than_damaged() {
        let text = serde_json::to_vec(&record()).unwrap();
        for end in 0..text.len() {
            let cut = damaged(&text[..end]);
            assert!(!cut.is_newer() && cut.told.dropped.len() <= 2, "{cut}");
        }
        for bytes in [
            &b"\xff\xfe\x00"[..],
            b"]]]",
            b"{\"dropped\":[1,{\"provider\":7}]",
            b"[",
            b"null",
            b"{\"schema\":-1}",
        ] {
            let found = damaged(bytes);
            assert!(found.told.dropped.is_empty() && !found.is_newer(), "{found}");
        }
        assert_eq!(damaged(b"").why, "it is empty");
    }
}
