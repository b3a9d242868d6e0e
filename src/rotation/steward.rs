//! What a member does about rotations of the keyring in etcd by itself: goes on with a command whose process is gone, and
//! begins a rotation when the key that writes is old, or has sealed much.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::driver::{Decided, right};
use super::machine::{Ask, Command, How};
use super::managed::ManagedConfig;
use super::record::Record;
use super::usage::{Tally, Usage};
use super::{Audience, Driver, Error, Facts, Limits, Site};
use crate::config::KeyId;
use crate::election::Owner;
use crate::managed::{KeyAge, Time};
use crate::sweep::Latest;
use crate::types::{Backoff, with_causes};

/// Between two looks for a command that nobody carries out.
const EVERY: Duration = Duration::from_secs(2);

/// Between two looks whether a key is due.
const DUE_EVERY: Duration = Duration::from_secs(10);

/// After a command that ended before its end; longer each time.
const RETRY: Duration = Duration::from_secs(60);
const MAX_RETRY: Duration = Duration::from_secs(15 * 60);

/// When a key is replaced without anybody asking for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// When it is so old.
    pub every: Option<Duration>,
    /// When all members together have sealed so many values with it.
    pub after_writes: Option<u64>,
}

/// A command that nobody carries out.
struct Left {
    command: Command,
    how: How,
    /// Of the record that says so.
    revision: i64,
}

/// A member's part in rotations.
pub struct Steward<'a, S: Site, A> {
    /// etcd.
    pub site: &'a S,
    /// The keyring there.
    pub source: &'a ManagedConfig<S::Store>,
    /// Who is told.
    pub audience: &'a A,
    /// When a rotation begins by itself.
    pub policy: Policy,
    /// How many values each key has sealed in this process.
    pub counted: &'a dyn Fn() -> BTreeMap<KeyId, u64>,
    /// How long one wait of a command may last.
    pub limits: Limits,
    /// This host's name.
    pub host: String,
    /// Set when the process is to end.
    pub stop: watch::Receiver<bool>,
}

impl<S: Site, A: Audience> Steward<'_, S, A>
where
    S::Store: Clone,
{
    /// Works until it is told to stop.
    pub async fn run(&self) {
        let mut tally = Tally::default();
        let mut looked: Option<Instant> = None;
        let mut idle = None;
        let mut retry = Backoff::new(RETRY, MAX_RETRY);
        loop {
            let outcome = match self.left_behind().await {
                Ok(Some(left)) if idle == Some(left.revision) => {
                    idle = None;
                    self.carry_out(left.command, left.how).await
                }
                // Whoever has just begun it may be about to go on.
                Ok(Some(left)) => {
                    idle = Some(left.revision);
                    Ok(())
                }
                Ok(None) if looked.is_none_or(|looked| looked.elapsed() >= DUE_EVERY) => {
                    looked = Some(Instant::now());
                    retry.reset();
                    self.begin_if_due(&mut tally).await
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            let pause = match outcome {
                Err(Error::Stopped) => return,
                Err(Error::Call(error)) if error.trouble().is_passing() => EVERY,
                // Or somebody else wants something else, and has noted that.
                Ok(()) | Err(Error::Overtaken(_)) => EVERY,
                Err(error) => {
                    tracing::warn!(
                        error = with_causes(&error),
                        "the rotation does not go on; it is tried again"
                    );
                    retry.step()
                }
            };
            let mut stop = self.stop.clone();
            tokio::select! {
                () = sleep(pause) => {}
                _ = stop.wait_for(|stops| *stops) => return,
            }
        }
    }

    /// A command that is under way, and that nobody carries out.
    async fn left_behind(&self) -> Result<Option<Left>, Error> {
        let (store, state) = (self.site.store(), self.site.state());
        let (record, revision) = Record::load(store, state).await??;
        let Some(command) = record.underway else {
            return Ok(None);
        };
        let right = right(state);
        let holder = Owner::holder(store, &right).await?;
        if let Some(holder) = holder.clone().filter(|holder| holder.is_leaseless) {
            return Err(Error::Leaseless(Box::new(holder)));
        }
        Ok(holder.is_none().then_some(Left {
            command,
            how: record.how,
            revision,
        }))
    }

    async fn carry_out(&self, command: Command, how: How) -> Result<(), Error> {
        tracing::info!(command = command.as_str(), "going on with what nobody carries out");
        self.driver().run(&self.ask(command, how)).await?;
        tracing::info!(command = command.as_str(), "done");
        Ok(())
    }

    async fn begin_if_due(&self, tally: &mut Tally) -> Result<(), Error> {
        if self.policy == Policy::default() {
            return Ok(());
        }
        // First: whatever is looked at below may be later.
        let (facts, revision) = self.driver().facts().await?;
        let (store, state) = (self.site.store(), self.site.state());
        let listed = facts.config.key_ids();
        tally.add(store, state, (self.counted)(), &listed).await?;
        let ages = self.source.current().await?.keys;
        let usage = self.settle_ages(&facts, &ages).await?;
        let latest = Latest::read(store, state).await?;
        let stored = latest
            .work
            .map_or(0, |work| work.rows.iter().map(|(_, objects)| objects).sum());
        let Some(why) = due(&self.policy, &facts, &ages, &usage, stored, SystemTime::now()) else {
            return Ok(());
        };
        tracing::info!(why, "rotating keys");
        self.driver()
            .run_decided(
                &self.ask(Command::RotateKeys, How::default()),
                Decided::by(&facts, revision),
            )
            .await?;
        tracing::info!("keys rotated, reencryption finished");
        Ok(())
    }

    /// The usage, in which the age of each key that writes counts from a time that is past. A key whose time is still to come was
    /// made by a clock that was ahead, or this one is behind: without this it would not be due before that time.
    async fn settle_ages(&self, facts: &Facts, ages: &[KeyAge]) -> Result<Usage, Error> {
        let (store, state) = (self.site.store(), self.site.state());
        let (mut usage, revision) = Usage::load(store, state).await?;
        let now = Time::now();
        let ahead = ahead(facts, ages, &usage, now);
        for (key, _) in &ahead {
            usage.count_from(key, now);
        }
        // Else somebody else was first, and it is looked at again.
        if !ahead.is_empty() && usage.save(store, state, revision).await? {
            for (key, since) in ahead {
                tracing::warn!(
                    %key,
                    %since,
                    %now,
                    "the time of this key lies ahead: the clock of the machine that made it was wrong, or the one here is. For \
                     --rotate-every it counts as made now"
                );
            }
        }
        Ok(usage)
    }

    fn driver(&self) -> Driver<'_, S, ManagedConfig<S::Store>, A> {
        Driver {
            site: self.site,
            source: self.source,
            audience: self.audience,
            limits: self.limits.clone(),
            stop: self.stop.clone(),
        }
    }

    fn ask(&self, command: Command, how: How) -> Ask {
        Ask {
            command,
            how,
            wait: true,
            now: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            host: self.host.clone(),
        }
    }
}

/// Why a key that writes is to be replaced now, if it is, where so many values are `stored`.
pub(super) fn due(
    policy: &Policy,
    facts: &Facts,
    ages: &[KeyAge],
    usage: &Usage,
    stored: u64,
    now: SystemTime,
) -> Option<String> {
    let record = &facts.record;
    // A rotation writes everything with the new key. Were that key due by this alone, there would be no end of rotations.
    let after_writes = policy
        .after_writes
        .map(|most| most.max(stored.saturating_add(stored / 2)));
    if !record.stage.is_rest() || record.underway.is_some() || facts.dissent().is_some() {
        return None;
    }
    facts.config.writing_keys().iter().find_map(|key| {
        let is_it = |age: &&KeyAge| age.provider == key.provider && age.name == key.name;
        let since = ages.iter().find(is_it).map(|age| age.since.system());
        let since = usage.since(key).map(Time::system).or(since);
        // A time to come counts as now, which is noted before anything is decided by it.
        let age = since.map(|since| now.duration_since(since).unwrap_or_default());
        match (policy.every, age, after_writes) {
            (Some(every), Some(age), _) if age >= every => {
                let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
                Some(format!("{key} is {age} old"))
            }
            (_, _, Some(most)) if usage.of(key) >= most => Some(format!("{key} has sealed {} values", usage.of(key))),
            _ => None,
        }
    })
}

/// The keys that write whose age counts from a time which is still to come, and that time.
pub(super) fn ahead(facts: &Facts, ages: &[KeyAge], usage: &Usage, now: Time) -> Vec<(KeyId, Time)> {
    let since = |key: &KeyId| {
        let mut ages = ages.iter();
        let age = ages.find(|age| age.provider == key.provider && age.name == key.name);
        usage.since(key).or(age.map(|age| age.since))
    };
    let writing = facts.config.writing_keys().into_iter();
    let all = writing.filter_map(|key| since(&key).map(|since| (key, since)));
    all.filter(|(_, since)| *since > now).collect()
}
