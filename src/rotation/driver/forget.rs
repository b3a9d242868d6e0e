//! `abort --forget`: a record that leaves no way out is given up, and a fresh one comes in its place. Which that is: a record of the
//! rotation that cannot be read; records of processes that no lease ends; an epoch that is none.
//!
//! The fresh record says that nothing is rotating, under the configuration that all members have loaded. It is written, along with
//! a new epoch, only in the place of the one that was looked at: whatever is sealed after it is sealed by a process that has read
//! it, and etcd refuses what was sealed before. Keys that may have been dropped stay barred: those that the bytes still tell,
//! those that the last readable record told, and those that are nowhere but in what was kept of earlier configurations. None of
//! these writes with what the members have loaded.

use super::{Audience, Driver, RIGHT, Site};
use crate::config::{EncryptionConfiguration, KeyId};
use crate::election::{Holder, Owner};
use crate::etcd::{CallError, Guard, Store as _, epoch};
use crate::members::Roster;
use crate::rotation::damaged::{Damaged, Told};
use crate::rotation::facts::Facts;
use crate::rotation::machine::Ask;
use crate::rotation::record::{MAX_DROPPED, MAX_NAMES, Record, key as record_key};
use crate::rotation::refusal::{Refusal, listed};
use crate::rotation::stores::Beside;
use crate::rotation::{Error, Source};
use crate::sweep::{self, Latest, OWNER};

/// Where the right to sweep and the right to take steps lie below the state prefix, and what they are.
const RIGHTS: [(&str, &str); 2] = [(RIGHT, "the right to take steps"), (OWNER, "the right to sweep")];

/// How things stand, also where a record cannot be read.
pub struct Standing {
    /// The facts; the record among them says nothing where it cannot be read.
    pub facts: Facts,
    /// The record of the first store, if it cannot be read.
    pub damaged: Option<Damaged>,
    /// What stands in the way that is no part of the facts, for people.
    pub blocked: Vec<String>,
}

/// What is to be forgotten.
struct Findings {
    /// Records of processes that no lease ends: where they lie, the revision, and whose they are.
    leaseless: Vec<(Vec<u8>, i64, String)>,
    damaged: Option<Damaged>,
    /// Why the epoch is none.
    epoch: Option<String>,
}

impl<S: Site, C: Source, A: Audience> Driver<'_, S, C, A> {
    /// How things stand, for `status`: what cannot be read is said, and is no error.
    ///
    /// # Errors
    /// The configuration or etcd is not to be had.
    pub async fn standing(&self) -> Result<Standing, Error> {
        let (store, state) = (self.site.store(), self.site.state());
        let mut blocked = Vec::new();
        let (record, damaged) = match Record::load(store, state).await? {
            Ok((record, _)) => (record, None),
            Err(damaged) => {
                let before = damaged.before(store, state).await?;
                blocked.push(format!("{}. {}", damaged.blocks(before.as_ref()), damaged.way_out()));
                (Record::default(), Some(damaged))
            }
        };
        let config = self.source.read().await?;
        let beside = match self.beside().await {
            Err(error @ Error::Record { .. }) => {
                blocked.push(error.to_string());
                self.named_beside().await?
            }
            beside => beside?,
        };
        let facts = self.facts_of(record, config, beside).await?;
        for (_, _, whose) in self.leaseless_rights().await? {
            blocked.push(format!(
                "no lease ends {whose}: `secrets-encrypt abort --forget` removes it"
            ));
        }
        if facts.dissent().is_none() {
            // Those that differ say so themselves.
            blocked.extend(facts.roster.leaseless().iter().map(|record| {
                format!(
                    "no lease ends {}, so it will be waited for though no such process may live: `secrets-encrypt abort --forget` removes it",
                    record.whose
                )
            }));
        }
        if let Err(error @ CallError::Malformed { .. }) = epoch::read(store, state).await {
            blocked.push(format!("no value is written under a rule: {error}"));
        }
        Ok(Standing {
            facts,
            damaged,
            blocked,
        })
    }

    /// The other stores, where the record of one of them cannot be read.
    async fn named_beside(&self) -> Result<Vec<Beside>, Error> {
        let mut found = Vec::new();
        for site in self.site.beside() {
            let loaded = Record::load(site.store(), site.state()).await?;
            let (record, revision) = loaded.unwrap_or_default();
            found.push(Beside {
                name: site.name(),
                store: site.identity().await?,
                record,
                revision,
                changed: 0,
            });
        }
        Ok(found)
    }

    /// Gives up what leaves no way out; what was done, a line for each. With `only_tells`, what would be done.
    ///
    /// # Errors
    /// There is nothing to give up, not all members have loaded the configuration, or etcd does not answer.
    pub async fn forget(&self, ask: &Ask, only_tells: bool) -> Result<Vec<String>, Error> {
        let found = self.findings().await?;
        let config = self.source.read().await?;
        let is_needed = found.damaged.is_some() || found.epoch.is_some();
        if is_needed {
            self.refuse_dissent(config.clone()).await?;
        } else if found.leaseless.is_empty() {
            let (record, _) = Record::load(self.site.store(), self.site.state()).await??;
            return Err(Error::Refused(Refusal::NothingToForget(record.stage)));
        }
        let mut lines = Vec::new();
        for (key, revision, whose) in &found.leaseless {
            let is_gone = only_tells || {
                let guards = [Guard::mod_revision(key, *revision)];
                self.site.store().delete_if(&guards, key).await?.is_some()
            };
            lines.push(if is_gone {
                format!("remove {whose}, which no lease ends")
            } else {
                format!("leave {whose}, which has been written anew meanwhile")
            });
        }
        if !is_needed {
            return Ok(lines);
        }
        if only_tells {
            if let Some(damaged) = &found.damaged {
                lines.extend(self.fresh(damaged, &config, ask).await?.1);
            }
            lines.push("replace the epoch in etcd, so that every process looks again".to_owned());
            return Ok(lines);
        }
        let owner = match self.acquire().await? {
            Ok(owner) => owner,
            Err(holder) if holder.is_leaseless => return Err(Error::Leaseless(Box::new(holder))),
            Err(holder) => return Err(Error::Driven(holder.to_string())),
        };
        let outcome = self.replace_record(&owner, &found, ask).await;
        owner.release(self.site.store()).await;
        lines.extend(outcome?);
        Ok(lines)
    }

    /// Writes the fresh record and the epoch, while nobody else takes steps.
    async fn replace_record(&self, owner: &Owner, found: &Findings, ask: &Ask) -> Result<Vec<String>, Error> {
        let (store, state) = (self.site.store(), self.site.state());
        // As it is now that nobody else can replace it.
        let config = self.source.read().await?;
        self.refuse_dissent(config.clone()).await?;
        let mut lines = Vec::new();
        let key = record_key(state);
        let done = if let Some(damaged) = &found.damaged {
            let (record, told) = self.fresh(damaged, &config, ask).await?;
            lines = told;
            let guards = [owner.guard(), Guard::mod_revision(&key, damaged.revision)];
            epoch::replace_with(store, state, &guards, (&key, &record.encode())).await?
        } else {
            let replaced = epoch::replace(store, state, &[owner.guard()]).await?;
            replaced.map(|epoch| epoch.revision())
        };
        let revision = done.ok_or(Error::Contended)?;
        lines.push(format!(
            "replace the epoch in etcd, at revision {revision}, so that every process looks again"
        ));
        Ok(lines)
    }

    async fn findings(&self) -> Result<Findings, Error> {
        let (store, state) = (self.site.store(), self.site.state());
        let mut leaseless = self.leaseless_rights().await?;
        let roster = Roster::read(store, state).await?;
        let records = roster.leaseless().iter();
        leaseless.extend(records.map(|record| (record.key.to_vec(), record.revision, record.whose.clone())));
        let epoch = match epoch::read(store, state).await {
            Ok(_) => None,
            Err(CallError::Malformed { why, .. }) => Some(why),
            Err(error) => return Err(error.into()),
        };
        Ok(Findings {
            leaseless,
            damaged: Record::load(store, state).await?.err(),
            epoch,
        })
    }

    /// Rights that are held by records that no lease ends.
    async fn leaseless_rights(&self) -> Result<Vec<(Vec<u8>, i64, String)>, Error> {
        let (store, state) = (self.site.store(), self.site.state());
        let mut found = Vec::new();
        for (name, what) in RIGHTS {
            let key = [state.as_bytes(), name.as_bytes()].concat();
            let (_, kv) = store.get(&key).await?;
            if let Some(kv) = kv.filter(|kv| kv.lease == 0) {
                let mut holder = Holder::found(&kv);
                // The line says what to do by itself.
                holder.is_leaseless = false;
                found.push((key, kv.mod_revision, format!("the record of {what}, held by {holder}")));
            }
        }
        Ok(found)
    }

    /// Not everybody who is alive has loaded `config`.
    async fn refuse_dissent(&self, config: EncryptionConfiguration) -> Result<(), Error> {
        let mut facts = self.facts_of(Record::default(), config, Vec::new()).await?;
        facts.roster = facts.roster.with_leases();
        match facts.mismatch() {
            None => Ok(()),
            Some(mismatch) => Err(Error::Refused(Refusal::Hash {
                one: mismatch.one,
                other: mismatch.other,
                dissent: mismatch.dissent,
            })),
        }
    }

    /// The record that comes in the place of what is `damaged`, and what there is to tell of it.
    async fn fresh(
        &self,
        damaged: &Damaged,
        config: &EncryptionConfiguration,
        ask: &Ask,
    ) -> Result<(Record, Vec<String>), Error> {
        let before = damaged.before(self.site.store(), self.site.state()).await?;
        let former = self.source.former().await?;
        let told = [Some(&damaged.told), before.as_ref().map(Told::of).as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>();
        let record = Record {
            updated: ask.now.clone(),
            by: ask.host.clone(),
            ..fresh(damaged.revision, &told, &former.keys, config)
        };
        let mut lines = vec![format!(
            "write a fresh record of the rotation in the place of one that cannot be read: {damaged}; what was under way is given up, \
             and the configuration stays as it is: {}",
            match &config.writing_keys()[..] {
                [] => "no key of it writes".to_owned(),
                keys => format!("{} writes", listed(keys)),
            }
        )];
        if before.is_none() {
            let and_this = if former.unreadable == 0 {
                String::new()
            } else {
                format!("; {} of these cannot be read here", former.unreadable)
            };
            lines.push(format!(
                "take which keys have been dropped from what its bytes still tell, and from {}{and_this}: etcd's history no longer tells \
                 what the record was before. Have no process come back with a configuration that is older than these",
                former.place
            ));
        }
        if !record.dropped.is_empty() {
            lines.push(format!(
                "go on barring {}: nobody may write with it",
                listed(&record.dropped)
            ));
        }
        let left: Vec<KeyId> = config
            .key_ids()
            .into_iter()
            .filter(|key| !config.writing_keys().contains(key))
            .collect();
        let (going, staying): (Vec<_>, Vec<_>) = left.into_iter().partition(|key| record.kept.contains(key));
        if !going.is_empty() {
            lines.push(format!(
                "leave {} as a reader: it goes with the next rotation",
                listed(&going)
            ));
        }
        if !staying.is_empty() {
            lines.push(format!(
                "leave {} as a reader: nothing tells that a rotation brought it in, so it stays",
                listed(&staying)
            ));
        }
        Ok((record, lines))
    }

    /// A record of how far a sweep has come that cannot be read would end the command, after long waits perhaps.
    pub(super) async fn refuse_checkpoint(&self) -> Result<(), Error> {
        for site in std::iter::once(self.site).chain(self.site.beside()) {
            if site.restarts() {
                continue;
            }
            let latest = Latest::read(site.store(), site.state()).await?;
            if let Some(why) = latest.damaged {
                return Err(Error::Sweep(sweep::Error::Checkpoint { why }));
            }
        }
        Ok(())
    }
}

/// A record of which nothing is under way. `told`: by what is left of the one of `revision`, and by the last that could be read.
/// `former`: keys of earlier configurations.
fn fresh(revision: i64, told: &[Told], former: &[KeyId], config: &EncryptionConfiguration) -> Record {
    let writing = config.writing_keys();
    let mut dropped: Vec<KeyId> = Vec::new();
    let mut kept: Vec<KeyId> = Vec::new();
    let add = |keys: &mut Vec<KeyId>, key: &KeyId| {
        if !writing.contains(key) && !keys.contains(key) {
            keys.push(key.clone());
        }
    };
    // What nobody reads any more; of what is read, only what is said to be going. The last ones stay longest.
    for key in former.iter().filter(|key| !config.has_key(key)) {
        add(&mut dropped, key);
    }
    for key in told.iter().flat_map(|told| &told.dropped) {
        add(&mut dropped, key);
    }
    for key in told.iter().flat_map(|told| &told.involved) {
        if config.has_key(key) {
            add(&mut kept, key);
        } else {
            add(&mut dropped, key);
        }
    }
    let mut names: Vec<String> = Vec::new();
    let of_keys = former.iter().chain(&dropped).map(|key| key.name.as_str().to_owned());
    let listed = config.key_ids().into_iter().map(|key| key.name.as_str().to_owned());
    let given = told.iter().flat_map(|told| told.names.iter().cloned());
    for name in of_keys.chain(given).chain(listed) {
        names.retain(|other| *other != name);
        names.push(name);
    }
    dropped.drain(..dropped.len().saturating_sub(MAX_DROPPED));
    names.drain(..names.len().saturating_sub(MAX_NAMES));
    // Each generation is written at a revision of its own, so no earlier one was as high as the last revision.
    let generation = told.iter().map(|told| told.generation).max().unwrap_or_default();
    Record {
        generation: generation.max(revision.unsigned_abs()) + 1,
        kept,
        dropped,
        names,
        ..Record::default()
    }
}
