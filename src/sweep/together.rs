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
            kms_seeds,
            left,
            revisions: _,
            survey,
            defragmented,
        } = other;
        self.survey.join(survey);
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
        for other in kms_seeds {
            match self.kms_seeds.iter_mut().find(|own| own.provider == other.provider) {
                Some(own) => own.seeds += other.seeds,
                None => self.kms_seeds.push(other),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::report::{Line, Revisions};
    use super::super::survey::Survey;
    use super::super::tally::{Row, State};
    use super::*;
    use crate::inventory::{Left, Under};
    use crate::value::ProviderKind;

    fn line(state: State, before: Option<u64>, objects: u64) -> Line {
        let row = Row {
            resource: "secrets".to_owned(),
            state,
            under: Under::of(ProviderKind::AesCbc, "k"),
        };
        Line { row, before, objects }
    }

    fn report(finding: Finding, scanned: u64, inventory: Vec<Line>, revision: i64) -> Report {
        let counts = Counts {
            scanned,
            rewritten: 2 * scanned,
            raced: 3 * scanned,
            overwritten: 4 * scanned,
            vanished: 5 * scanned,
            contended: 6 * scanned,
            refused: 7 * scanned,
            undecryptable: 8 * scanned,
        };
        let left = Left::new(
            b"/registry/secrets/a",
            "secrets".to_owned(),
            Under::identity(),
            "why".to_owned(),
        );
        Report {
            schema: 1,
            finding,
            is_dry_run: false,
            is_partial: false,
            configuration: "one".to_owned(),
            kms: BTreeMap::new(),
            started: "then".to_owned(),
            finished: "now".to_owned(),
            seconds: 2.0,
            rewritten_per_second: 0.0,
            counts,
            inventory,
            kms_seeds: Vec::new(),
            left: vec![left; 600],
            revisions: Revisions {
                written_until: None,
                rewrite_from: Some(revision),
                first_write: None,
                last_write: None,
                epoch: Some(revision + 1),
                proof_from: revision + 2,
                proof_to: revision + 3,
                overtaken: 0,
                old_keys_needed_before: Some(revision + 3),
                is_compacted: Some(false),
            },
            survey: Survey::default(),
            defragmented: Vec::new(),
        }
    }

    #[test]
    fn counts_are_added_row_by_row_and_revisions_are_not_mixed() {
        let (fresh, stale) = (State::Current, State::Stale);
        let mut all = report(Finding::Clean, 1, vec![line(fresh, Some(1), 10)], 100);
        let first = all.revisions;
        all.join(report(
            Finding::Clean,
            100,
            vec![line(fresh, Some(2), 20), line(stale, Some(5), 0)],
            7,
        ));
        assert_eq!(all.inventory, [line(fresh, Some(3), 30), line(stale, Some(5), 0)]);
        let Counts {
            scanned,
            rewritten,
            raced,
            overwritten,
            vanished,
            contended,
            refused,
            undecryptable,
        } = all.counts;
        let sums = [
            scanned,
            rewritten,
            raced,
            overwritten,
            vanished,
            contended,
            refused,
            undecryptable,
        ];
        assert_eq!(sums, [101, 202, 303, 404, 505, 606, 707, 808]);
        assert_eq!((all.revisions, all.is_partial), (first, false));
        assert_eq!((all.seconds, all.rewritten_per_second), (4.0, 50.5));
        assert_eq!(all.left.len(), MAX_LEFT);
    }

    #[test]
    fn it_is_as_good_as_the_worst_and_partial_if_one_is() {
        use Finding::{Clean, Stale, Undecryptable};
        let of = |finding| report(finding, 1, Vec::new(), 1);
        for (one, other, both) in [
            (Clean, Clean, Clean),
            (Clean, Undecryptable, Undecryptable),
            (Undecryptable, Clean, Undecryptable),
            (Stale, Undecryptable, Stale),
            (Undecryptable, Stale, Stale),
            (Clean, Stale, Stale),
        ] {
            let mut all = of(one);
            all.join(of(other));
            assert_eq!((all.finding, all.is_partial), (both, false));
        }
        let changes: [fn(&mut Report); 3] = [
            |report| report.is_partial = true,
            |report| report.configuration = "other".to_owned(),
            |report| drop(report.kms.insert("plugin".to_owned(), "key ID".to_owned())),
        ];
        for change in changes {
            let (mut all, mut other) = (of(Clean), of(Clean));
            change(&mut other);
            all.join(other);
            assert!(all.is_partial);
        }
    }
}
