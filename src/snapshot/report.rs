//! What was found. Its JSON is described in docs/snapshot.md. Only names, counts and etcd keys.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::file::{Checksum, SnapshotFile};
use super::scope::Scope;
use super::store::Store;
use super::tally::{Objects, Row, State, Tally};
use crate::inventory::{Left, Under};

/// Version of the report's JSON. Fields may be added under the same one.
const SCHEMA: u32 = 1;

/// What is in a snapshot, and what of it opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    schema: u32,
    /// What it comes to.
    pub finding: Finding,
    /// The file that was looked at.
    pub file: File,
    /// Where etcd's store stood.
    pub store: Store,
    /// Whose keys were tried, in this order.
    pub configurations: Vec<Configuration>,
    /// Numbers of keys and values.
    pub counts: Counts,
    /// How many values of which resource are under what.
    pub inventory: Vec<Line>,
    /// Every key at hand, and how many values it opens.
    pub keys: Vec<Use>,
    /// What the values need that do not open.
    pub needs: Vec<Need>,
    /// The values of now that do not open. At most a thousand.
    pub left: Vec<Left>,
}

/// What a snapshot comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Everything opens.
    Opens,
    /// Everything of now opens; something of history does not, or could not be asked for.
    History,
    /// Everything of now opens but what a KMS would have to, which could not be asked.
    Unasked,
    /// Something of now does not open.
    Missing,
}

/// The file that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// As it was given.
    pub path: String,
    /// Whether the database is the one that was saved.
    pub checksum: Checksum,
}

/// A place that keys are from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// Its file.
    pub name: String,
    /// SHA-256 of it.
    pub fingerprint: String,
}

/// Numbers of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Keys of etcd's that there are.
    pub keys: u64,
    /// Changes that the store has: values of now, earlier ones and tombstones.
    pub revisions: u64,
    /// Changes by which a key was deleted.
    pub tombstones: u64,
    /// Values in the clear that no rule covers.
    pub no_rule: Objects,
    /// Values in the clear outside of Kubernetes' prefixes.
    pub outside: Objects,
    /// The proxy's own records.
    pub own: Objects,
}

/// One row of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// `secrets`, `deployments.apps`.
    pub resource: String,
    /// How the values stand to the keys at hand.
    pub state: State,
    /// What they are sealed with.
    #[serde(flatten)]
    pub under: Under,
    /// For KMS v2: which key of the KMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The configuration that opens them, or that has a key of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
    /// How many.
    #[serde(flatten)]
    pub count: Objects,
}

/// A key at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// Whose it is.
    pub configuration: String,
    /// Its provider and name.
    #[serde(flatten)]
    pub under: Under,
    /// How many values it opens.
    #[serde(flatten)]
    pub count: Objects,
    /// Nothing here is under it, so that this snapshot does not need it. What it could not be tried on is no such thing.
    pub is_idle: bool,
}

/// A key that values need and that is not at hand, does not fit, or could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// How it stands with it.
    pub state: State,
    /// Its provider and name.
    #[serde(flatten)]
    pub under: Under,
    /// For KMS v2: which key of the KMS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// How many values need it.
    #[serde(flatten)]
    pub count: Objects,
}

impl Report {
    pub(super) fn new(snapshot: &SnapshotFile, scope: &Scope, store: Store, counts: Counts, tally: &Tally) -> Self {
        let name = |source: usize| scope.sources.get(source).map(|source| source.name.clone());
        let line = |(row, count): (&Row, &Objects)| Line {
            resource: row.resource.clone(),
            state: row.state,
            under: row.under.clone(),
            key_id: row.key_id.clone(),
            configuration: row.source.and_then(name),
            count: *count,
        };
        Self {
            schema: SCHEMA,
            finding: finding(tally),
            file: File {
                path: snapshot.path.display().to_string(),
                checksum: snapshot.checksum,
            },
            store,
            configurations: scope
                .sources
                .iter()
                .map(|source| Configuration {
                    name: source.name.clone(),
                    fingerprint: source.keyring.fingerprint().to_string(),
                })
                .collect(),
            counts: Counts {
                no_rule: tally.no_rule,
                outside: tally.outside,
                own: tally.own,
                ..counts
            },
            inventory: tally.rows.iter().map(line).collect(),
            keys: keys(scope, tally),
            needs: needs(tally),
            left: tally.left.values().cloned().collect(),
        }
    }
}

fn finding(tally: &Tally) -> Finding {
    let lost = State::LOST.map(|state| tally.in_state(state));
    let unasked = tally.in_state(State::Unasked);
    if lost.iter().any(|lost| lost.objects > 0) {
        Finding::Missing
    } else if unasked.objects > 0 {
        Finding::Unasked
    } else if lost.iter().any(|lost| lost.history > 0) || unasked.history > 0 {
        Finding::History
    } else {
        Finding::Opens
    }
}

/// Every key of every source, used or not.
fn keys(scope: &Scope, tally: &Tally) -> Vec<Use> {
    let mut keys = Vec::new();
    for (index, source) in scope.sources.iter().enumerate() {
        let mut named: BTreeSet<Under> = BTreeSet::new();
        for provider in source.keyring.rules().iter().flat_map(|rule| rule.chain().readers()) {
            let all = provider.key_names().iter();
            named.extend(all.map(|name| Under::of(provider.kind(), name.as_str())));
        }
        for under in named {
            let opens = tally.keys.get(&index).and_then(|keys| keys.get(&under)).copied();
            keys.push(Use {
                configuration: source.name.clone(),
                under,
                count: opens.unwrap_or_default(),
                is_idle: opens.is_none(),
            });
        }
    }
    keys
}

/// What does not open, whatever its resource.
fn needs(tally: &Tally) -> Vec<Need> {
    let mut needs: BTreeMap<(State, &Under, &Option<String>), Objects> = BTreeMap::new();
    for (row, objects) in tally.rows.iter().filter(|(row, _)| row.state != State::Opens) {
        needs
            .entry((row.state, &row.under, &row.key_id))
            .or_default()
            .join(*objects);
    }
    needs
        .into_iter()
        .rev()
        .map(|((state, under, key_id), count)| Need {
            state,
            under: under.clone(),
            key_id: key_id.clone(),
            count,
        })
        .collect()
}
