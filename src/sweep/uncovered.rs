//! Values that need a key, but that no sweep brings under another one: no rule of the configuration covers them, or they
//! lie outside of Kubernetes' prefixes. Before a key goes, everything that etcd holds is looked at for them, the proxy's own
//! records excepted. Reads only, and remembers counts and a few etcd keys.
//!
//! Invariant: what is found to be clear was read at one revision, or, where compaction overtook that, at later ones.

mod judge;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use super::everything::Everything;
use super::{Error, Observer, Options, Scope};
use crate::config::KeyId;
use crate::etcd::{KeyValue, Store};
use crate::inventory::Under;
use crate::types::Fingerprint;
use judge::{Found, Judge};

pub(super) use judge::folder;

/// Rows that are told apart, at most: names of keys and resources are read out of etcd, so whoever writes there could make
/// any number.
pub(super) const MAX_ROWS: usize = 100;
/// etcd keys that are named of each row.
const MAX_EXAMPLES: usize = 3;
/// Bytes of an etcd key that are shown.
pub(super) const MAX_SHOWN: usize = 256;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The keys: values under a rule count too, unless they are as it writes them.
    pub keys: Vec<KeyId>,
    /// Whether encrypted values count that no rule covers, whatever they are under.
    pub others: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uncovered {
    /// Of which configuration.
    #[serde(skip)]
    pub(crate) configuration: Fingerprint,
    /// The keys that were looked for.
    #[serde(skip)]
    keys: Vec<KeyId>,
    /// The revision of the first page.
    pub(crate) revision: i64,
    /// The revision of the first page in each other store, in the order of the stores.
    #[serde(skip)]
    revisions_beside: Vec<i64>,
    /// Whether keys outside of `--etcd-prefix` could be read, too.
    is_whole: bool,
    rows: Vec<Row>,
}

/// How many values of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    kind: Kind,
    objects: u64,
    /// The first of their etcd keys, with what is no printable ASCII escaped.
    examples: Vec<String>,
    /// Where they are, if it is not in the store that the command was given first.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    elsewhere: Option<Elsewhere>,
}

/// Another store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Elsewhere {
    /// What operators call it.
    servers: String,
    /// The revision of its first page.
    revision: i64,
}

/// What values of one row have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    /// `secrets`, or the beginning of the path where it is of nothing that has a name.
    resource: String,
    cover: Cover,
    /// What they say that they are under.
    #[serde(flatten)]
    under: Under,
    /// Whether a key of the configuration opens them.
    opens: bool,
    /// Whether they may need one of the keys that were looked for.
    #[serde(skip)]
    needs: bool,
}

/// What covers a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Cover {
    /// No rule.
    None,
    /// No rule can: it lies below no `--etcd-prefix`.
    Outside,
    /// A rule, and it is not as that writes it.
    Rule,
}

impl Uncovered {
    /// Whether every one of `keys` was looked for under this configuration, at `revision` or later, and in each other store at
    /// its one of `beside` or later.
    pub(crate) fn is_of(&self, configuration: Fingerprint, keys: &[KeyId], revision: i64, beside: &[i64]) -> bool {
        let mut both = self.revisions_beside.iter().zip(beside);
        self.configuration == configuration
            && self.revision >= revision
            && self.revisions_beside.len() == beside.len()
            && both.all(|(looked, wanted)| looked >= wanted)
            && keys.iter().all(|key| self.keys.contains(key))
    }

    /// Adds what was found in one more store, `servers`, in the same look: the same keys, under the same configuration.
    pub(crate) fn join(&mut self, servers: &str, other: Self) {
        self.revisions_beside.push(other.revision);
        self.is_whole &= other.is_whole;
        let elsewhere = Elsewhere {
            servers: servers.to_owned(),
            revision: other.revision,
        };
        self.rows.extend(other.rows.into_iter().map(|row| Row {
            elsewhere: Some(elsewhere.clone()),
            ..row
        }));
    }

    /// The same, of what may need one of the keys that were looked for; `None` where nothing does.
    pub fn in_the_way(&self) -> Option<Self> {
        let rows: Vec<Row> = self.rows.iter().filter(|row| row.kind.needs).cloned().collect();
        (!rows.is_empty()).then(|| Self { rows, ..self.clone() })
    }

    /// The same, without what no key of the configuration opens. A key that was listed to read such values, and has opened none of
    /// these, is not what they need.
    pub(crate) fn opened_in_the_way(&self) -> Option<Self> {
        let found = self.in_the_way()?;
        let rows: Vec<Row> = found.rows.into_iter().filter(|row| row.kind.opens).collect();
        (!rows.is_empty()).then(|| Self { rows, ..self.clone() })
    }

    /// Whether any of it opens with no key of the configuration.
    pub fn has_unopened(&self) -> bool {
        self.rows.iter().any(|row| !row.kind.opens)
    }

    /// Whether rules cover all of it: then another sweep helps.
    pub(crate) fn is_covered(&self) -> bool {
        self.rows.iter().all(|row| row.kind.cover == Cover::Rule)
    }
}

/// Looks at everything that etcd holds but the proxy's own records, for values that bear the headers of the keys that are
/// `wanted`. `scope` has the rules, and the keys.
///
/// # Errors
/// It did not come to its end.
pub async fn uncovered<S: Store>(
    store: &S,
    scope: &Scope,
    wanted: Wanted,
    options: &Options,
    observer: Arc<dyn Observer>,
    stop: watch::Receiver<bool>,
) -> Result<Uncovered, Error> {
    let judge = Judge::of(scope, &wanted);
    let everything = Everything::new(store, scope, options, &observer, stop);
    let add = |rows: &mut Rows, kv: &KeyValue| {
        if let Some(found) = judge.found(&kv.key, &kv.value) {
            rows.add(&kv.key, found);
        }
    };
    let read = everything.read(add).await?;
    Ok(Uncovered {
        configuration: scope.keyring.fingerprint(),
        keys: wanted.keys,
        revision: read.revision,
        revisions_beside: Vec::new(),
        is_whole: read.is_whole,
        rows: read.found.into_rows(),
    })
}

/// Rows as they are counted.
#[derive(Default)]
struct Rows(BTreeMap<Kind, (u64, Vec<String>)>);

impl Rows {
    fn add(&mut self, key: &[u8], found: Found) {
        let mut kind = found.0;
        if self.0.len() >= MAX_ROWS && !self.0.contains_key(&kind) {
            kind = Kind {
                resource: "(others)".to_owned(),
                under: Under::others(),
                ..kind
            };
        }
        let (objects, examples) = self.0.entry(kind).or_default();
        *objects += 1;
        if examples.len() < MAX_EXAMPLES {
            let shown = key.get(..MAX_SHOWN).unwrap_or(key);
            examples.push(shown.escape_ascii().to_string());
        }
    }

    fn into_rows(self) -> Vec<Row> {
        let row = |(kind, (objects, examples))| Row {
            kind,
            objects,
            examples,
            elsewhere: None,
        };
        self.0.into_iter().map(row).collect()
    }
}
