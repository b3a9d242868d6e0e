//! Writes one key: one transaction at a time, until it is clear what became of it. Never writes over what it has not
//! looked at, never makes a key that is gone, and never touches a second key.

use tokio::time::Instant;

use super::decide::Verdict;
use super::pace::Pace;
use super::renew::{Fault, Renewed, Step, renew};
use super::scope::Scope;
use super::tally::{Outcome, Record};
use super::too_large::too_large;
use super::{Error, Observer};
use crate::election::Term;
use crate::etcd::{Attempts, CallError, Guard, KeyValue, Patience, Replaced, Store, Trouble};

/// Lost races after which a key is left to those who write it. The proof tells how they left it.
const MAX_RACES: u32 = 16;
/// How often a write is tried for which etcd knows the key but not its lease. In etcd itself both end together.
const MAX_WITHOUT_LEASE: u32 = 8;

/// What every part of a pass works with.
pub(super) struct Tools<'a, S> {
    pub(super) store: &'a S,
    pub(super) scope: &'a Scope,
    /// Where the scope's epoch lies.
    pub(super) epoch_key: &'a [u8],
    pub(super) pace: &'a Pace,
    pub(super) reads: &'a Patience,
    pub(super) writes: &'a Patience,
    pub(super) term: &'a Term,
    pub(super) observer: &'a dyn Observer,
}

impl<S: Store> Tools<'_, S> {
    /// [`renew`], once its KMS answers.
    pub(super) async fn renew(&self, batch: Vec<KeyValue>, seals: bool) -> Result<Vec<Renewed>, Error> {
        let mut attempts = Attempts::default();
        loop {
            // Values are slices of their page, so a second copy of a batch costs next to nothing.
            match renew(self.scope, batch.clone(), seals).await {
                Ok(renewed) => return Ok(renewed),
                Err(Fault::Kms(why)) => self.reads.wait(&why, &mut attempts).await?,
                Err(Fault::Seal(why)) => return Err(Error::Seal { why }),
            }
        }
    }

    /// What is under `key` now.
    async fn look(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        let (_, found) = self.reads.call(|| self.store.get(key)).await?;
        Ok(found)
    }

    /// Puts `value` in the place of what `kv` holds, or learns why it is not needed any more.
    pub(super) async fn settle(&self, mut kv: KeyValue, verdict: Verdict, mut value: Vec<u8>) -> Result<Record, Error> {
        let resource = self.scope.resource(&kv.key);
        let mut races = 0;
        let outcome = loop {
            match self.write(&kv, &value).await? {
                Written::Done(outcome) => break outcome,
                Written::Lost(now) => {
                    races += 1;
                    if races > MAX_RACES {
                        break Outcome::Contended;
                    }
                    let Some(renewed) = self.renew(vec![now], true).await?.pop() else {
                        break Outcome::Contended;
                    };
                    match (renewed.step, renewed.verdict) {
                        (Step::Write(again), _) => value = again,
                        (Step::Refuse(why), _) | (Step::Keep, Verdict::Undecryptable { why, .. }) => {
                            break Outcome::Refused(why);
                        }
                        (Step::Keep, _) => break Outcome::Overwritten,
                    }
                    kv = renewed.kv;
                }
            }
        };
        Ok(Record {
            resource,
            verdict,
            outcome,
            races,
            seed: None,
        })
    }

    /// One key, one value, until etcd has said what is under it.
    async fn write(&self, kv: &KeyValue, value: &[u8]) -> Result<Written, Error> {
        let mut attempts = Attempts::default();
        let mut without_lease = 0;
        // Whether an earlier attempt may have happened.
        let mut is_unsure = false;
        loop {
            self.term.passed().await;
            let sent = Instant::now();
            let fence = Guard::epoch(self.epoch_key, &self.scope.epoch);
            let replaced = self.store.replace(&kv.key, kv.mod_revision, value, kv.lease, fence);
            let found = match replaced.await {
                Ok(answer) => {
                    self.pace.answered(sent.elapsed());
                    self.writes.worked();
                    match answer {
                        Replaced::Done(revision) => {
                            self.pace.wrote(revision);
                            return Ok(Written::Done(Outcome::Rewritten(revision)));
                        }
                        Replaced::Lost(found) => found,
                        Replaced::Fenced => return Err(Error::Fenced),
                    }
                }
                Err(error) => match error.trouble() {
                    Trouble::TooLarge => return Ok(Written::Done(Outcome::Refused(too_large(kv, value, fence)))),
                    Trouble::LeaseNotFound if without_lease >= MAX_WITHOUT_LEASE => {
                        let why = "its lease has ended, and yet it is there";
                        return Ok(Written::Done(Outcome::Refused(why.to_owned())));
                    }
                    trouble => {
                        without_lease += u32::from(trouble == Trouble::LeaseNotFound);
                        is_unsure |= may_have_happened(&error);
                        self.back_off(error, &mut attempts).await?;
                        self.look(&kv.key).await?
                    }
                },
            };
            match found {
                None => return Ok(Written::Done(Outcome::Vanished)),
                // Nothing has happened to it: the same again. All of it is compared, for a store that was restored from a
                // snapshot counts revisions anew.
                Some(now) if now == *kv => {}
                // The attempt whose answer was lost.
                Some(now) if is_unsure && now.value == *value => {
                    return Ok(Written::Done(Outcome::Rewritten(now.mod_revision)));
                }
                Some(now) => return Ok(Written::Lost(now)),
            }
        }
    }

    async fn back_off(&self, error: CallError, attempts: &mut Attempts) -> Result<(), Error> {
        if error.trouble() == Trouble::LeaseNotFound {
            return Ok(self.writes.wait(&error.to_string(), attempts).await?);
        }
        self.pace.troubled();
        Ok(self.writes.after(error, attempts).await?)
    }
}

/// What one value's write came to.
enum Written {
    /// The key needs no more.
    Done(Outcome),
    /// Somebody else wrote it; this is what is there.
    Lost(KeyValue),
}

fn may_have_happened(error: &CallError) -> bool {
    match error {
        CallError::Unreachable(_) => false,
        CallError::Lost { .. }
        | CallError::Timeout { .. }
        | CallError::NotTaken { .. }
        | CallError::Malformed { .. } => true,
        CallError::Status { .. } => !matches!(
            error.trouble(),
            Trouble::NoSpace | Trouble::TooManyRequests | Trouble::LeaseNotFound
        ),
    }
}
