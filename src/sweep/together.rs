//! Reports of several stores as one.

use super::report::{Counts, Finding, Report};

/// Values that were left and are named, at most: as in one report.
const MAX_LEFT: usize = 1_000;

impl Report {
    /// Adds what was found in another store, of the same configuration. It is as good as the worse of the two. Revisions stay those
    /// of this one: those of two stores have nothing to do with one another.
    pub fn join(&mut self, other: Self) {
        // All fields by name, so that one which comes is thought of here.
        let Self {
            schema: _,
            finding,
            is_dry_run: _,
            is_partial,
            configuration,
            kms,
            started: _,
            finished,
            seconds,
            rewritten_per_second: _,
            counts,
            inventory,
            left,
            revisions: _,
            defragmented,
        } = other;
        self.finding = worse(self.finding, finding);
        // What is of something else proves nothing here.
        self.is_partial |= is_partial || configuration != self.configuration || kms != self.kms;
        self.finished = finished;
        self.seconds += seconds;
        self.counts = added(self.counts, counts);
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        if self.seconds > 0.0 {
            self.rewritten_per_second = self.counts.rewritten as f64 / self.seconds;
        }
        for line in inventory {
            match self.inventory.iter_mut().find(|own| own.row == line.row) {
                Some(own) => {
                    own.objects += line.objects;
                    own.before = own.before.zip(line.before).map(|(own, other)| own + other);
                }
                None => self.inventory.push(line),
            }
        }
        self.defragmented.extend(defragmented);
        self.left.extend(left);
        self.left.truncate(MAX_LEFT);
    }
}

fn worse(one: Finding, other: Finding) -> Finding {
    let rank = |finding| match finding {
        Finding::Clean => 0,
        Finding::Undecryptable => 1,
        Finding::Stale => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}

fn added(one: Counts, other: Counts) -> Counts {
    Counts {
        scanned: one.scanned + other.scanned,
        rewritten: one.rewritten + other.rewritten,
        raced: one.raced + other.raced,
        overwritten: one.overwritten + other.overwritten,
        vanished: one.vanished + other.vanished,
        contended: one.contended + other.contended,
        refused: one.refused + other.refused,
        undecryptable: one.undecryptable + other.undecryptable,
    }
}
