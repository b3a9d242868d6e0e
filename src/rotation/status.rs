//! What `status` tells, as data: k3s's part first, then what is ours. Pure.

mod keyring;
mod parts;
mod text;

use serde::{Serialize, Serializer};

use super::facts::Facts;
use super::machine::Command;
use super::recovery::Row as UnopenableRow;
use super::refusal;
use super::stage::Stage;
use super::stores::way_on;
use crate::config::{KeyType, Provider, Writer};
use crate::managed::Time;
use crate::members::{Member, Serves, StoreId, StoreMark};
use crate::sweep::{self, Latest, Report, Row, Seeds, State, Survey, Uncovered};

pub use keyring::KeyringView;

/// Where the record of the rotation cannot be read.
const UNKNOWN: &str = "unknown";

/// All of it. As JSON the first six fields are k3s's.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// How far a rotation has come; `None` where the record of it cannot be read.
    #[serde(serialize_with = "stage")]
    stage: Option<Stage>,
    /// `AES-CBC aescbckey`; empty where nothing is encrypted.
    #[serde(rename = "activekey")]
    active_key: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    enable: bool,
    #[serde(rename = "hashmatch", skip_serializing_if = "std::ops::Not::not")]
    hash_match: bool,
    #[serde(rename = "hasherror", skip_serializing_if = "String::is_empty")]
    hash_error: String,
    #[serde(rename = "inactivekeys", skip_serializing_if = "Vec::is_empty")]
    inactive_keys: Vec<String>,
    /// SHA-256 of the configuration where its source has it.
    fingerprint: String,
    members: Vec<MemberView>,
    /// The etcd clusters that the configuration is used for, as far as that is known: this one first.
    stores: Vec<StoreView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<ObjectsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<SweepView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    underway: Option<Command>,
    /// The record of the rotation, where it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<DamagedView>,
    /// From this revision on no removed key is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    proved_from_revision: Option<i64>,
    /// Why nothing goes on by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked: Vec<String>,
    next: String,
    keys: Vec<KeyRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyring: Option<KeyringView>,
    /// What is encrypted and no rule covers; absent where that was not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncovered: Option<Uncovered>,
    /// What lies where no table has a resource, and which rules match nothing of what is stored.
    #[serde(flatten)]
    survey: Survey,
    /// Members whose clients have met values that do not open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unopened: Vec<UnopenedView>,
    /// What no key of the configuration opens, and what can be done about it; absent where that was not looked for, or nothing is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unopenable: Vec<UnopenableRow>,
    /// What a kept file has the key of, for people.
    #[serde(skip)]
    recoverable: Vec<String>,
    /// How many do not open by the count.
    #[serde(skip)]
    undecryptable: Option<u64>,
    /// When this was so.
    #[serde(skip)]
    now: Time,
}

/// A record that cannot be read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DamagedView {
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<u64>,
    is_newer: bool,
    since_revision: i64,
}

#[derive(Clone, Debug, Serialize)]
struct KeyRow {
    #[serde(rename = "isActive")]
    is_active: bool,
    #[serde(rename = "type")]
    of: &'static str,
    name: String,
    /// When it came: as the keyring in etcd says, or else its own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Time>,
}

/// A member.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberView {
    name: String,
    fingerprint: String,
    /// What it writes with, by rule: once where that is the same for all.
    writes: Vec<String>,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuses: Option<String>,
    /// Which store it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    serves: Option<Serves>,
}

/// An etcd cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreView {
    #[serde(flatten)]
    store: Option<StoreId>,
    /// `--etcd-servers`, of this command or of a process that serves it.
    #[serde(skip_serializing_if = "String::is_empty")]
    servers: String,
    /// Whether this command works on it.
    is_named: bool,
    /// What is known of one that it does not work on.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// What a member says of values that do not open.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UnopenedView {
    member: String,
    at_least: u64,
    since: String,
}

/// How many values are stored under which key.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectsView {
    /// Whether they were counted for this; else by the last sweep.
    is_counted: bool,
    /// When the sweep that counted them was started.
    since: String,
    /// Of which configuration.
    fingerprint: String,
    rows: Vec<ObjectsRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kms_seeds: Vec<Seeds>,
}

#[derive(Clone, Debug, Serialize)]
struct ObjectsRow {
    #[serde(flatten)]
    row: Row,
    objects: u64,
}

/// The sweep at work.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SweepView {
    by: String,
    scanned: u64,
    rewritten: u64,
}

impl Status {
    /// Of `facts`, what sweeps have left in etcd, what was `counted` for it, and the keyring, if the configuration lies in
    /// one; all of it `now`.
    pub fn of(
        facts: &Facts,
        latest: &Latest,
        counted: Option<&Report>,
        keyring: Option<KeyringView>,
        now: Time,
    ) -> Self {
        let record = &facts.record;
        let keys = keys(facts, keyring.as_ref());
        let named = |is_active: bool| {
            let keys = keys.iter().filter(move |key| key.is_active == is_active);
            keys.map(|key| format!("{} {}", key.of, key.name))
        };
        let mismatch = facts.mismatch();
        let mut inactive_keys: Vec<_> = named(true).skip(1).collect();
        inactive_keys.extend(named(false));
        let mut blocked: Vec<_> = facts
            .strangers
            .iter()
            .map(|user| {
                format!(
                    "the configuration is used for another etcd too ({user}). {}",
                    way_on(user)
                )
            })
            .collect();
        if let Some(mismatch) = &mismatch {
            blocked.push(mismatch.dissent.to_string());
        }
        if record.dropping
            && !facts.is_history_gone
            && let Some(proved) = &record.proved
        {
            blocked.push(format!(
                "etcd's history before revision {} still holds values under the old keys",
                proved.revision
            ));
        }
        if let Some(why) = &latest.damaged {
            let why = sweep::Error::Checkpoint { why: why.clone() };
            blocked.push(why.to_string());
        }
        Self {
            stage: Some(record.stage),
            active_key: named(true).next().unwrap_or_default(),
            enable: facts.is_enabled(),
            hash_match: mismatch.is_none(),
            hash_error: mismatch.map_or_else(String::new, |mismatch| {
                format!("hash does not match between {} and {}", mismatch.one, mismatch.other)
            }),
            inactive_keys,
            fingerprint: facts.config.fingerprint.to_string(),
            members: facts
                .roster
                .entries()
                .map(|(id, member)| match member {
                    Ok(member) => MemberView::of(member),
                    Err(why) => MemberView::unreadable(id, &format!("{why}{}", facts.roster.way_out(id))),
                })
                .collect(),
            stores: stores(facts),
            objects: objects(latest, counted),
            sweep: latest.holder.as_ref().map(|holder| {
                let work = latest.work.as_ref();
                SweepView {
                    by: holder.to_string(),
                    scanned: work.map_or(0, |work| work.scanned.iter().sum()),
                    rewritten: work.map_or(0, |work| work.rewritten),
                }
            }),
            underway: record.underway,
            damaged: None,
            proved_from_revision: record.proved.as_ref().map(|proved| proved.revision),
            blocked,
            next: next(facts),
            keys,
            keyring,
            uncovered: None,
            survey: Survey::default(),
            unopened: facts.roster.members().filter_map(UnopenedView::of).collect(),
            unopenable: Vec::new(),
            recoverable: Vec::new(),
            undecryptable: counted.map(|report| report.counts.undecryptable),
            now,
        }
    }
}

/// A stage, or that it is not known.
#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's way to ask"
)]
fn stage<S: Serializer>(stage: &Option<Stage>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.map_or(UNKNOWN, Stage::as_str))
}

fn stores(facts: &Facts) -> Vec<StoreView> {
    let own = std::iter::once((facts.store.clone(), facts.servers.clone()));
    let beside = facts
        .beside
        .iter()
        .map(|beside| (beside.store.clone(), beside.name.clone()));
    let named = own.chain(beside).map(|(store, servers)| StoreView {
        store,
        servers,
        is_named: true,
        user: None,
    });
    let others = facts.strangers.iter().map(|user| {
        let mark = user.mark.as_ref().map(|(_, mark)| mark);
        StoreView {
            store: mark.and_then(|mark| mark.store.clone()),
            servers: mark.map_or_else(String::new, StoreMark::servers),
            is_named: false,
            user: Some(user.to_string()),
        }
    });
    named.chain(others).collect()
}

/// What to run next.
fn next(facts: &Facts) -> String {
    let record = &facts.record;
    let is_at_rest = record.stage.is_rest() && record.underway.is_none();
    let text = if is_at_rest && !facts.is_enabled() {
        "`enable`"
    } else if is_at_rest && facts.config.writing_keys().is_empty() {
        "`reencrypt`, once the KMS has rotated its key"
    } else {
        refusal::next(record)
    };
    text.to_owned()
}

/// Every key and plugin, once, in the order of the document.
fn keys(facts: &Facts, keyring: Option<&KeyringView>) -> Vec<KeyRow> {
    let writers = facts.config.writers();
    let mut rows: Vec<(KeyRow, Writer)> = Vec::new();
    for provider in facts.config.entries.iter().flat_map(|entry| &entry.providers) {
        let listed: Vec<(&'static str, Writer)> = match provider {
            Provider::Kms(_) => vec![("KMS", provider.writer())],
            _ => provider
                .key_ids()
                .map(|key| (key.key_type().map_or("KMS", key_type), Writer::Key(key)))
                .collect(),
        };
        for (of, key) in listed {
            let name = match &key {
                Writer::Key(key) => key.name.as_str(),
                Writer::Kms(name) => name.as_str(),
                Writer::Identity => continue,
            };
            if rows.iter().all(|(_, other)| *other != key) {
                let since = match &key {
                    Writer::Key(key) => keyring
                        .and_then(|keyring| keyring.since(key))
                        .or_else(|| named_since(name)),
                    _ => None,
                };
                let row = KeyRow {
                    is_active: writers.contains(&key),
                    of,
                    since,
                    // A name may hold anything, and must not act on a terminal.
                    name: name.escape_debug().to_string(),
                };
                rows.push((row, key));
            }
        }
    }
    rows.into_iter().map(|(row, _)| row).collect()
}

/// The time in a key's name, where it has one as k3s, RKE2 and `prepare` put it there: `aescbckey-2021-12-10T22:54:38Z`.
fn named_since(name: &str) -> Option<Time> {
    const LEN: usize = "2021-12-10T22:54:38Z".len();
    let (before, time) = name.split_at_checked(name.len().checked_sub(LEN)?)?;
    Time::parse(time).filter(|_| before.ends_with('-'))
}

/// k3s's names of them.
fn key_type(of: KeyType) -> &'static str {
    match of {
        KeyType::AesCbc => "AES-CBC",
        KeyType::AesGcm => "AES-GCM",
        KeyType::Secretbox => "XSalsa20-POLY1305",
    }
}

impl MemberView {
    fn of(member: &Member) -> Self {
        let mut writes: Vec<String> = Vec::new();
        for rule in &member.rules {
            let key = format!("{} {}", rule.writes.provider, rule.writes.name);
            let key = key.trim_end().escape_debug().to_string();
            if !writes.contains(&key) {
                writes.push(key);
            }
        }
        Self {
            name: member.name.escape_debug().to_string(),
            fingerprint: member.loaded.configuration.escape_debug().to_string(),
            writes,
            version: member.version.escape_debug().to_string(),
            refuses: member.refused.clone(),
            serves: member.serves.clone(),
        }
    }

    fn unreadable(id: &str, why: &str) -> Self {
        Self {
            name: id.to_owned(),
            fingerprint: String::new(),
            writes: Vec::new(),
            version: String::new(),
            refuses: Some(format!("its record cannot be read: {why}")),
            serves: None,
        }
    }
}

impl UnopenedView {
    fn of(member: &Member) -> Option<Self> {
        let unopened = member.unopened.as_ref()?;
        Some(Self {
            member: member.name.escape_debug().to_string(),
            at_least: unopened.at_least,
            since: unopened.since.escape_debug().to_string(),
        })
    }
}

fn objects(latest: &Latest, counted: Option<&Report>) -> Option<ObjectsView> {
    if let Some(report) = counted {
        let rows = report.inventory.iter().map(|line| ObjectsRow {
            row: line.row.clone(),
            objects: line.objects,
        });
        return Some(ObjectsView {
            is_counted: true,
            since: report.started.clone(),
            fingerprint: report.configuration.clone(),
            rows: rows.collect(),
            kms_seeds: report.kms_seeds.clone(),
        });
    }
    let work = latest.work.as_ref()?;
    let rows = work.rows.iter().map(|(row, objects)| ObjectsRow {
        row: row.clone(),
        objects: *objects,
    });
    Some(ObjectsView {
        is_counted: false,
        since: work.started.clone(),
        fingerprint: work.configuration.clone(),
        rows: rows.collect(),
        kms_seeds: Vec::new(),
    })
}

impl ObjectsRow {
    fn state(&self) -> &'static str {
        match self.row.state {
            State::Current => "current",
            State::Stale => "stale",
            State::Plaintext => "plaintext",
            State::Undecryptable => "undecryptable",
        }
    }
}
