//! What a sweep found, did and proved. Its JSON is described in docs/sweep.md. Only names, counts and etcd keys.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::checkpoint::Checkpoint;
use super::scope::Scope;
use super::survey::Survey;
use super::tally::{Row, State, Tally};
use crate::inventory::Left;
use crate::members::Loaded;

/// Version of the report's JSON. Fields may be added under the same one.
const SCHEMA: u32 = 1;

/// A finished sweep, or an inventory.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub(super) schema: u32,
    /// What the values at the end are.
    pub finding: Finding,
    /// Whether values were to be rewritten, or only looked at.
    pub is_dry_run: bool,
    /// Whether only some resources or keys were looked at. Such a report proves nothing of the others.
    #[serde(skip)]
    pub is_partial: bool,
    /// SHA-256 of the configuration.
    pub configuration: String,
    /// By KMS v2 plugin: SHA-256 of the key ID that counted as the present one.
    #[serde(skip)]
    pub kms: BTreeMap<String, String>,
    /// When the sweep was first started, RFC 3339.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// Seconds spent on it, by all processes that had it.
    pub seconds: f64,
    /// Values that were rewritten in each of them.
    pub rewritten_per_second: f64,
    /// What was found, and what of it was done.
    pub counts: Counts,
    /// How many objects of which resource are under what.
    pub inventory: Vec<Line>,
    /// How many data key seeds of each KMS v2 plugin are in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kms_seeds: Vec<Seeds>,
    /// Values that were left: those that do not open, and those that cannot be written. At most a thousand.
    pub left: Vec<Left>,
    /// Where all this lies in etcd's history.
    pub revisions: Revisions,
    /// What lies where no table has a resource, and which rules match nothing of what is stored.
    #[serde(flatten)]
    pub survey: Survey,
    /// What became of each member of the cluster, where they were to be defragmented.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub defragmented: Vec<Defragmented>,
}

/// Seeds of a KMS v2 plugin that stored values were sealed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seeds {
    /// The plugin's name.
    pub provider: String,
    /// How many; somewhat too many where a pass was interrupted and gone on with.
    pub seeds: u64,
}

/// As many as a handful of proxies have without anything being amiss.
const FEW_SEEDS: u64 = 8;

impl Seeds {
    /// What an operator should know of them, where there are more than a few.
    pub fn told(&self) -> Option<String> {
        let Self { provider, seeds } = self;
        (*seeds > FEW_SEEDS).then(|| {
            format!(
                "{seeds} data key seeds of KMS v2 provider {provider:?} are in use, one for each start of a process that wrote. A \
                 reader has the plugin unwrap each of them. `secrets-encrypt reencrypt --all` writes every value under one"
            )
        })
    }
}

/// A member of etcd that was to give its free pages back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Defragmented {
    /// Its URL, as it was given, or its name and its own URLs.
    pub member: String,
    /// Why it was not; absent where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What the values at the end are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Every value is as its rule writes it.
    Clean,
    /// Some should be written again.
    Stale,
    /// The others are as their rules write them, but some do not open.
    Undecryptable,
}

/// Numbers of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Looked at.
    pub scanned: u64,
    /// Written again.
    pub rewritten: u64,
    /// Writes that lost against somebody else's, and were decided anew.
    pub raced: u64,
    /// Made fresh by somebody else before they could be written.
    pub overwritten: u64,
    /// Deleted, or ended with their lease, before they could be written.
    pub vanished: u64,
    /// Given up after too many lost races.
    pub contended: u64,
    /// That cannot be written.
    pub refused: u64,
    /// That do not open.
    pub undecryptable: u64,
}

/// One row of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Of which resource, in which state, under which provider and key.
    #[serde(flatten)]
    pub row: Row,
    /// How many when the sweep met them; absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// How many at the end.
    pub objects: u64,
}

/// Revisions of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revisions {
    /// What was written up to this one counts as stale; absent where only what is not as its rule writes it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_until: Option<i64>,
    /// The first page of the rewrite was read at this one; absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite_from: Option<i64>,
    /// The first write made this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_write: Option<i64>,
    /// The last write made this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_write: Option<i64>,
    /// The epoch was replaced at this one, before the proof: what was sealed earlier etcd refuses from here on. Absent in a dry
    /// run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The proof's (or the inventory's) first page was read at this one.
    pub proof_from: i64,
    /// And its last page at this one. It is the same unless compaction overtook it, or it was interrupted.
    pub proof_to: i64,
    /// How often compaction overtook a scan.
    pub overtaken: u32,
    /// What was written from this revision on needs no key but the ones that are written with now. Present where the proof
    /// is clean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_keys_needed_before: Option<i64>,
    /// Whether all that is older has been compacted away; until then it can be read, and needs the old keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_compacted: Option<bool>,
}

impl Report {
    /// Of a pass that only looked.
    pub(super) fn inventory(record: &Checkpoint, scope: &Scope) -> Self {
        let revisions = Revisions {
            written_until: scope.written_until,
            rewrite_from: None,
            first_write: None,
            last_write: None,
            epoch: None,
            proof_from: record.prove_from,
            proof_to: record.prove_from,
            overtaken: record.overtaken,
            old_keys_needed_before: None,
            is_compacted: None,
        };
        let inventory = record.after.rows().map(|(row, objects)| Line {
            row: row.clone(),
            before: None,
            objects,
        });
        Self {
            is_dry_run: true,
            counts: counts(&record.after),
            inventory: inventory.collect(),
            left: record.after.left.clone(),
            revisions,
            ..Self::of(record, scope)
        }
    }

    /// Of a sweep whose proof is complete.
    pub(super) fn sweep(record: &Checkpoint, scope: &Scope, is_compacted: bool) -> Self {
        let report = Self::of(record, scope);
        let is_clean = report.finding == Finding::Clean;
        let written = |revision: i64| (revision != 0).then_some(revision);
        let revisions = Revisions {
            written_until: scope.written_until,
            rewrite_from: Some(record.rewrite_from),
            first_write: written(record.before.first_write),
            last_write: written(record.before.last_write),
            epoch: Some(record.epoch),
            proof_from: record.prove_from,
            proof_to: record.prove_to,
            overtaken: record.overtaken,
            old_keys_needed_before: is_clean.then_some(record.prove_to),
            is_compacted: is_clean.then_some(is_compacted),
        };
        Self {
            is_dry_run: false,
            counts: Counts {
                // The proof is what counts: some may have come or gone since they were met.
                undecryptable: record.after.undecryptable,
                ..counts(&record.before)
            },
            inventory: side_by_side(&record.before, &record.after),
            left: all_left(&record.before, &record.after),
            revisions,
            ..report
        }
    }

    fn of(record: &Checkpoint, scope: &Scope) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds and counts far below 2^52")]
        let (seconds, rewritten) = (record.spent_ms as f64 / 1e3, record.before.rewritten as f64);
        Self {
            schema: SCHEMA,
            finding: finding(&record.after),
            is_dry_run: false,
            is_partial: !scope.is_everything(),
            configuration: scope.keyring.fingerprint().to_string(),
            kms: Loaded::of(&scope.keyring).kms,
            started: record.started.clone(),
            finished: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            seconds,
            rewritten_per_second: if seconds > 0.0 {
                (rewritten / seconds).round()
            } else {
                0.0
            },
            counts: counts(&record.before),
            inventory: Vec::new(),
            kms_seeds: record
                .after
                .seeds()
                .map(|(provider, seeds)| Seeds {
                    provider: provider.to_owned(),
                    seeds,
                })
                .collect(),
            left: Vec::new(),
            revisions: Revisions {
                written_until: scope.written_until,
                rewrite_from: None,
                first_write: None,
                last_write: None,
                epoch: None,
                proof_from: 0,
                proof_to: 0,
                overtaken: 0,
                old_keys_needed_before: None,
                is_compacted: None,
            },
            survey: Survey::default(),
            defragmented: Vec::new(),
        }
    }
}

/// What the values in `tally` are.
pub(super) fn finding(tally: &Tally) -> Finding {
    if tally.objects(State::Stale) + tally.objects(State::Plaintext) > 0 {
        Finding::Stale
    } else if tally.objects(State::Undecryptable) > 0 {
        Finding::Undecryptable
    } else {
        Finding::Clean
    }
}

fn counts(tally: &Tally) -> Counts {
    Counts {
        scanned: tally.scanned,
        rewritten: tally.rewritten,
        raced: tally.raced,
        overwritten: tally.overwritten,
        vanished: tally.vanished,
        contended: tally.contended,
        refused: tally.refused,
        undecryptable: tally.undecryptable,
    }
}

/// Every row that either has.
fn side_by_side(before: &Tally, after: &Tally) -> Vec<Line> {
    let mut lines: Vec<Line> = before
        .rows()
        .map(|(row, objects)| Line {
            row: row.clone(),
            before: Some(objects),
            objects: after.inventory.get(row).copied().unwrap_or(0),
        })
        .collect();
    let new = after.rows().filter(|(row, _)| !before.inventory.contains_key(row));
    lines.extend(new.map(|(row, objects)| Line {
        row: row.clone(),
        before: Some(0),
        objects,
    }));
    lines.sort_by(|a, b| a.row.cmp(&b.row));
    lines
}

/// What does not open at the end, and what could not be written.
fn all_left(before: &Tally, after: &Tally) -> Vec<Left> {
    let mut left = after.left.clone();
    let is_new = |one: &&Left| !after.left.iter().any(|other| other.etcd_key == one.etcd_key);
    let refused = before.left.iter().filter(is_new).filter(|_| before.refused > 0);
    left.extend(refused.cloned());
    left
}
