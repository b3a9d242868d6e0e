//! The metric families of the sweep in the background, and their series. Names and counts only.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use metrics::{Counter, Gauge, counter, gauge};

use super::Activity;
use crate::sweep::{Finding, Progress, Report, Row, Stage, State, Tally};
use crate::telemetry::{Family, Kind};

/// What this room exports.
pub const FAMILIES: &[Family] = &[STATE, LOOKED_AT, WRITES, PROGRESS, FINISHED, STORED, SEEDS, MEMBERS];

const STATE: Family = Family {
    name: "etcd_encryption_proxy_sweep_state",
    kind: Kind::Gauge,
    help: "What the sweep in the background of this process does: 1 for the state that it is in, 0 for the others.",
    labels: &["state"],
};
const LOOKED_AT: Family = Family {
    name: "etcd_encryption_proxy_sweep_looked_at_total",
    kind: Kind::Counter,
    help: "Stored values that sweeps of this process have looked at, in the pass that rewrites and in the one that proves.",
    labels: &["pass"],
};
const WRITES: Family = Family {
    name: "etcd_encryption_proxy_sweep_values_total",
    kind: Kind::Counter,
    help: "What sweeps of this process did to stored values. Rewritten ones are counted at once, the others once a proof \
           is complete.",
    labels: &["outcome"],
};
const PROGRESS: Family = Family {
    name: "etcd_encryption_proxy_sweep_pass_values",
    kind: Kind::Gauge,
    help: "Values that the present pass of a sweep of this process has looked at (done), and is expected to meet (total).",
    labels: &["of"],
};
const FINISHED: Family = Family {
    name: "etcd_encryption_proxy_sweep_finished_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When a sweep of this process last came to a proof, by what the proof found.",
    labels: &["finding"],
};
const STORED: Family = Family {
    name: "etcd_encryption_proxy_stored_values",
    kind: Kind::Gauge,
    help: "Stored values by what they are under, as the latest proof that this process knows of found them. At most a \
           thousand series, those that have gone to 0 included.",
    labels: &["resource", "state", "provider", "key"],
};
const SEEDS: Family = Family {
    name: "etcd_encryption_proxy_kms_seeds",
    kind: Kind::Gauge,
    help: "Data key seeds of a KMS v2 plugin that stored values were sealed with, as the latest proof that this process knows of \
           found them. `reencrypt --all` writes everything under one.",
    labels: &["provider_name"],
};
const MEMBERS: Family = Family {
    name: "etcd_encryption_proxy_members",
    kind: Kind::Gauge,
    help: "Processes that have a record in etcd, by whether they have loaded what this one has. Looked at every few \
           seconds.",
    labels: &["agree"],
};

/// Series of [`STORED`], at most. The registry forgets none.
const MAX_STORED: usize = 1_000;

/// The words of [`Activity::word`].
const STATES: [&str; 8] = [
    "starting",
    "idle",
    "waiting",
    "elsewhere",
    "sweeping",
    "done",
    "left",
    "failing",
];

/// Handles of the series.
pub(super) struct Meters {
    states: [Gauge; STATES.len()],
    rewrite_looked_at: Counter,
    prove_looked_at: Counter,
    rewritten: Counter,
    done: Gauge,
    total: Gauge,
    /// Rows that have a series.
    stored: Mutex<BTreeSet<Row>>,
    /// Those that seeds were told of.
    plugins: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

impl Meters {
    pub(super) fn new() -> Self {
        let meters = Self {
            states: STATES.map(|state| gauge!(STATE.name, "state" => state)),
            rewrite_looked_at: counter!(LOOKED_AT.name, "pass" => "rewrite"),
            prove_looked_at: counter!(LOOKED_AT.name, "pass" => "prove"),
            rewritten: counter!(WRITES.name, "outcome" => "rewritten"),
            done: gauge!(PROGRESS.name, "of" => "done"),
            total: gauge!(PROGRESS.name, "of" => "total"),
            stored: Mutex::default(),
            plugins: Mutex::default(),
        };
        meters.doing(&Activity::Starting);
        meters
    }

    pub(super) fn doing(&self, activity: &Activity) {
        for (state, gauge) in STATES.iter().zip(&self.states) {
            gauge.set(if *state == activity.word() { 1.0 } else { 0.0 });
        }
    }

    /// `looked_at` more values were looked at, and `rewritten` more written.
    pub(super) fn progressed(&self, progress: &Progress, looked_at: u64, rewritten: u64) {
        match progress.stage {
            Stage::Rewrite => &self.rewrite_looked_at,
            Stage::Look => &self.prove_looked_at,
        }
        .increment(looked_at);
        self.rewritten.increment(rewritten);
        self.done.set(float(progress.done));
        self.total.set(float(progress.total));
    }

    pub(super) fn finished(report: &Report) {
        let counts = &report.counts;
        for (outcome, values) in [
            ("raced", counts.raced),
            ("overwritten", counts.overwritten),
            ("vanished", counts.vanished),
            ("contended", counts.contended),
            ("refused", counts.refused),
        ] {
            counter!(WRITES.name, "outcome" => outcome).increment(values);
        }
        let finding = match report.finding {
            Finding::Clean => "clean",
            Finding::Stale => "stale",
            Finding::Undecryptable => "undecryptable",
        };
        gauge!(FINISHED.name, "finding" => finding).set(UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64());
    }

    /// What a proof has found.
    pub(super) fn stored(&self, tally: &Tally) {
        let mut known = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        for row in known.iter() {
            series(row).set(0.0);
        }
        for (row, objects) in tally.rows() {
            if known.len() < MAX_STORED || known.contains(row) {
                series(row).set(float(objects));
                known.insert(row.clone());
            }
        }
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        for plugin in plugins.iter() {
            seeds(plugin).set(0.0);
        }
        for (plugin, count) in tally.seeds() {
            seeds(plugin).set(float(count));
            plugins.insert(plugin.to_owned());
        }
    }

    pub(super) fn members(agreeing: usize, all: usize) {
        for (agree, members) in [("true", agreeing), ("false", all.saturating_sub(agreeing))] {
            gauge!(MEMBERS.name, "agree" => agree).set(float(members as u64));
        }
    }
}

fn seeds(plugin: &str) -> Gauge {
    gauge!(SEEDS.name, "provider_name" => plugin.to_owned())
}

fn series(row: &Row) -> Gauge {
    let state = match row.state {
        State::Current => "current",
        State::Stale => "stale",
        State::Plaintext => "plaintext",
        State::Undecryptable => "undecryptable",
    };
    gauge!(
        STORED.name,
        "resource" => row.resource.clone(),
        "state" => state,
        "provider" => row.under.provider.to_string(),
        "key" => row.under.key.clone()
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
