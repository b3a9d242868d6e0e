//! The other stores of a command: their facts, their sweeps, and which keys they are told are going. What is proved of them is
//! kept by this process alone; where it is not, they are swept again.

use super::run::Run;
use super::{Audience, Driver, Site};
use crate::config::EncryptionConfiguration;
use crate::etcd::{Store as _, Trouble};
use crate::members::{Roster, StoreId};
use crate::rotation::damaged::Damaged;
use crate::rotation::facts::Facts;
use crate::rotation::record::Record;
use crate::rotation::stores::{Beside, User};
use crate::rotation::{Error, Source};
use crate::sweep::Report;

/// The record of another store cannot be read.
fn record_of<S: Site>(site: &S, damaged: Damaged) -> Error {
    Error::Record {
        damaged: Box::new(damaged),
        servers: site.name(),
    }
}

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    /// The other stores, but for who serves them.
    pub(super) async fn beside(&self) -> Result<Vec<Beside>, Error> {
        let mut found: Vec<Beside> = Vec::new();
        let own = self.site.identity().await?;
        for site in self.site.beside() {
            let loaded = Record::load(site.store(), site.state()).await?;
            let (record, revision) = loaded.map_err(|damaged| record_of(site, damaged))?;
            let (name, store) = (site.name(), site.identity().await?);
            let mut known = std::iter::once(&own).chain(found.iter().map(|beside| &beside.store));
            if store.is_some() && known.any(|other| *other == store) {
                return Err(Error::SameStore { name });
            }
            found.push(Beside {
                name,
                store,
                record,
                revision,
                changed: 0,
            });
        }
        Ok(found)
    }

    /// Their members are waited for as those of the first store are.
    pub(super) async fn join_rosters(&self, roster: &mut Roster, beside: &mut [Beside]) -> Result<(), Error> {
        for (site, beside) in self.site.beside().iter().zip(beside) {
            let theirs = Roster::read(site.store(), site.state()).await?;
            beside.changed = theirs.changed();
            roster.join(theirs);
        }
        Ok(())
    }

    /// Who else uses the configuration. Asked after it was read: whoever leaves a mark later looks at it later.
    pub(super) async fn strangers(&self, own: Option<&StoreId>, beside: &[Beside]) -> Result<Vec<User>, Error> {
        let mut users = self.source.users().await?;
        let known = own
            .into_iter()
            .chain(beside.iter().filter_map(|beside| beside.store.as_ref()));
        let known: Vec<_> = known.map(StoreId::number).collect();
        users.retain(|user| !known.contains(&user.store));
        Ok(users)
    }

    /// Brings what is known of the other stores together with the facts. True where they have to be looked at again.
    pub(super) async fn look_beside(&self, run: &mut Run<'_>, facts: &mut Facts) -> Result<bool, Error> {
        let (unknown, known): (Vec<_>, Vec<_>) = facts.strangers.iter().partition(|user| user.store.is_unknown());
        if known.is_empty() && !unknown.is_empty() {
            let source_name = facts.source.clone();
            let text = format!("waiting for a process that uses {source_name} to reach its etcd");
            if !run.ask.wait {
                return Err(Error::Unplaced { source_name });
            }
            self.wait(run, "user", &text, || Error::Unplaced { source_name })
                .await?;
            return Ok(true);
        }
        let mut proofs = facts.beside.iter().zip(&run.session.beside);
        // As with the first store: whoever is there has been as they say since before the proof's first page was read.
        let is_over = proofs.any(|(beside, report)| beside.changed > report.revisions.proof_from);
        if is_over || run.session.beside.len() != facts.beside.len() {
            run.session.report = None;
        }
        if facts.is_history_gone {
            for (site, report) in self.site.beside().iter().zip(&run.session.beside) {
                if !site.store().is_compacted_before(report.revisions.proof_to).await? {
                    facts.is_history_gone = false;
                }
            }
        }
        Ok(false)
    }

    /// Notes in each other store which keys are going, as `record` says it, which the first store has at `revision`: whoever comes
    /// back there with an old configuration asks that store alone. To be done before the store is swept.
    ///
    /// In this order: the other store's record is read; the first one's is seen to be the same still; the other one is replaced if
    /// it is the one that was read. So whoever stops in between, and goes on when the first store has come further, takes nothing
    /// back that was noted meanwhile: a note is left in the first store before it is left in another.
    pub(super) async fn note_beside(
        &self,
        record: &Record,
        revision: i64,
        config: &EncryptionConfiguration,
    ) -> Result<(), Error> {
        for site in self.site.beside() {
            let loaded = Record::load(site.store(), site.state()).await?;
            let (mut theirs, read_at) = loaded.map_err(|damaged| record_of(site, damaged))?;
            if !theirs.take_dropped(record, config) {
                continue;
            }
            theirs.by.clone_from(&record.by);
            let is_same = self.is_at(self.site, revision).await?;
            if !is_same || theirs.save(site.store(), site.state(), read_at).await?.is_none() {
                return Err(Error::Changed);
            }
        }
        Ok(())
    }

    /// Whether every store has the record that the facts were gathered with, the first one's at `revision`.
    pub(super) async fn is_unchanged(&self, facts: &Facts, revision: i64) -> Result<bool, Error> {
        for (site, beside) in self.site.beside().iter().zip(&facts.beside) {
            if !self.is_at(site, beside.revision).await? {
                return Ok(false);
            }
        }
        // Last: whoever takes the rotation back writes here.
        self.is_at(self.site, revision).await
    }

    async fn is_at(&self, site: &S, revision: i64) -> Result<bool, Error> {
        let loaded = Record::load(site.store(), site.state()).await?;
        Ok(loaded.is_ok_and(|(_, now)| now == revision))
    }

    /// Sweeps each other store as the first one was, of which `first` is the report. All reports as one, which is as good as the
    /// worst of them; none where another command took over.
    pub(super) async fn sweep_beside(
        &self,
        run: &mut Run<'_>,
        facts: &Facts,
        first: Option<Report>,
    ) -> Result<Option<Report>, Error> {
        run.session.beside.clear();
        let Some(mut all) = first else { return Ok(None) };
        let mut reports = Vec::new();
        for site in self.site.beside() {
            self.audience.notice(&format!("now the etcd {}", site.name()));
            let Some(report) = self.sweep_site(run, site, facts).await? else {
                return Ok(None);
            };
            all.join(report.clone());
            reports.push(report);
        }
        run.session.beside = reports;
        Ok(Some(all))
    }

    /// Lets go of the history of each other store that its proof needs gone.
    pub(super) async fn compact_beside(&self, run: &Run<'_>) -> Result<(), Error> {
        for (site, report) in self.site.beside().iter().zip(&run.session.beside) {
            match site.compact(report.revisions.proof_to).await {
                // Somebody else has compacted further.
                Err(error) if error.trouble() == Trouble::Compacted => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}
