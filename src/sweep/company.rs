//! Whether anybody else writes to etcd, told by its revisions: each write makes one, and those that were not made here were
//! made by others. Who only reads is not seen. Only arithmetic.

use std::time::Duration;

use tokio::time::Instant;

/// How long is looked before anything is concluded.
const LOOK: Duration = Duration::from_secs(2);
/// So few writes a second are nobody who would mind: a small cluster's node leases and events.
const FEW: f64 = 20.0;

/// What is known of others.
#[derive(Debug)]
pub(super) struct Company {
    /// The first revision that a write of ours made; 0 before it.
    first: i64,
    /// The newest one.
    newest: i64,
    /// How many of those behind the first are ours.
    ours: i64,
    /// When the present look began, and how many were others' then.
    look: Option<(Instant, i64)>,
    is_alone: bool,
}

impl Company {
    /// Nothing is known, so somebody is there.
    pub(super) fn new() -> Self {
        Self {
            first: 0,
            newest: 0,
            ours: 0,
            look: None,
            is_alone: false,
        }
    }

    /// Whether next to nobody else writes.
    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// A write of ours made `revision`.
    pub(super) fn wrote(&mut self, revision: i64, now: Instant) {
        if self.first == 0 {
            self.first = revision;
            self.newest = revision;
        }
        // Answers overtake one another: what was made before the first that was seen is not among those that are counted.
        if revision > self.first {
            self.ours += 1;
            self.newest = self.newest.max(revision);
        }
        // Revisions come over the network.
        let others = self.newest.saturating_sub(self.first).saturating_sub(self.ours);
        let (began, before) = *self.look.get_or_insert((now, others));
        let elapsed = now - began;
        if elapsed >= LOOK {
            let rate = Duration::from_secs(1).div_duration_f64(elapsed) * to_f64(others.saturating_sub(before));
            self.is_alone = rate < FEW;
            self.look = Some((now, others));
        }
    }

    /// etcd is in trouble: as long as it is not clear why, somebody minds.
    pub(super) fn doubt(&mut self) {
        self.is_alone = false;
        self.look = None;
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn to_f64(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes 1,000 times a second for some seconds, beside others who write so many times between any two.
    fn write(company: &mut Company, clock: &mut Instant, revision: &mut i64, seconds: u32, others: &[i64]) {
        for index in 0..seconds * 1_000 {
            *clock += Duration::from_millis(1);
            let turn = index as usize % others.len();
            *revision += 1 + others[turn];
            company.wrote(*revision, *clock);
        }
    }

    #[tokio::test]
    async fn others_are_seen_by_the_revisions_that_they_make() {
        let (mut company, mut clock, mut revision) = (Company::new(), Instant::now(), 1_000_000);
        let mut few = vec![0; 100];
        write(&mut company, &mut clock, &mut revision, 1, &few);
        assert!(!company.is_alone(), "one second is not enough to know");
        write(&mut company, &mut clock, &mut revision, 3, &few);
        assert!(company.is_alone());
        few[0] = 1;
        write(&mut company, &mut clock, &mut revision, 5, &few);
        assert!(company.is_alone(), "ten a second are few");
        write(&mut company, &mut clock, &mut revision, 5, &[1, 0, 0, 0]);
        assert!(!company.is_alone());
        write(&mut company, &mut clock, &mut revision, 5, &few);
        assert!(company.is_alone());
        company.doubt();
        assert!(!company.is_alone());
        write(&mut company, &mut clock, &mut revision, 3, &few);
        assert!(company.is_alone());
    }

    #[tokio::test]
    async fn answers_that_overtake_one_another_are_no_company() {
        let (mut company, start) = (Company::new(), Instant::now());
        for index in 0..10_000_i64 {
            // Of each hundred the last is answered first.
            let revision = 1_000 + index / 100 * 100 + (99 - index % 100);
            let at = start + Duration::from_millis(u64::try_from(index).unwrap());
            company.wrote(revision, at);
        }
        assert!(company.is_alone());
    }
}
