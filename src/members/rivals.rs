//! Which of two members writes that hold one key's name with other bytes: values name the key that sealed them and nothing else, so
//! neither reads what the other writes. A reload that would bring that about is refused; copies of a file that differ from the
//! beginning are met here, by the records of members.
//!
//! The newcomer yields, and says so in its record, so that the one who was there may stop and come back meanwhile. Of two that came
//! at once both yield first, and then the one whose record is older writes. Reads only; decides nothing by a clock that is set.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::presence::MemberId;
use super::record::{Key, Member};
use super::roster::{Roster, shown};
use crate::etcd::lease::TTL;
use crate::etcd::{CallError, Store};
use crate::keyring::Keyring;
use crate::types::{BootInstant, Fingerprint, StatePrefix};

/// How long a rival has to be gone before this process takes its place: longer than a restart takes.
const GONE: Duration = Duration::from_secs(60);

/// How long one that writes bears with an older record that holds its key's name otherwise, and does not say that it yields: its
/// process may just have loaded that, and is about to look.
const BEARS: Duration = TTL;

/// What is known of rivals. Clones know the same.
#[derive(Clone, Debug)]
pub struct Rivals {
    id: String,
    known: Arc<Mutex<Known>>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The configuration that it is known of.
    of: Option<Fingerprint>,
    /// This process found that it may write with it.
    holds: bool,
    /// Why it may not.
    why: Option<Arc<str>>,
    /// A rival to which it yields, or did.
    met: Option<Met>,
    /// When everybody's records were last read.
    looked: Option<BootInstant>,
    /// Since when there has been an older one that does not yield, though this process holds.
    borne: Option<BootInstant>,
}

#[derive(Clone, Debug)]
struct Met {
    why: Arc<str>,
    /// Since when every look has found it gone. A time without a look, as when etcd does not answer, tells nothing: its record may have
    /// ended in it as this process's did.
    gone: Option<BootInstant>,
}

impl Rivals {
    /// Of the process with this record. None is known yet.
    pub fn of(id: MemberId) -> Self {
        Self {
            id: id.to_string(),
            known: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Sees a change whenever [`Rivals::yields`] is another one.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether this process leaves writing to another: what its record is to say.
    pub fn yields(&self) -> bool {
        self.known().why.is_some()
    }

    /// This process's record is gone: others may have taken it for dead, so that it comes as a newcomer.
    pub fn is_gone(&self) {
        self.known().holds = false;
    }

    /// Why `keyring` may not be written with, by what is known of it.
    pub fn met_by(&self, keyring: &Keyring) -> Option<Arc<str>> {
        let known = self.known();
        known.why.clone().filter(|_| known.of == Some(keyring.fingerprint()))
    }

    /// Looks who holds the names of the keys that `keyring` writes with. Gives why it may not be written with, if so.
    ///
    /// # Errors
    /// etcd gave no usable answer.
    pub async fn look<S: Store>(
        &self,
        store: &S,
        state: &StatePrefix,
        keyring: &Keyring,
    ) -> Result<Option<Arc<str>>, CallError> {
        let writes = Key::written(keyring);
        // Without a key that could be held otherwise nobody has to be asked.
        let roster = if writes.is_empty() {
            Roster::default()
        } else {
            Roster::read(store, state).await?
        };
        let mut known = self.known();
        let did_yield = known.why.is_some();
        known.judge(&self.id, keyring.fingerprint(), &writes, &roster, BootInstant::now());
        let why = known.why.clone();
        drop(known);
        if did_yield != why.is_some() {
            self.changed.send_replace(());
        }
        Ok(why)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether the member `own` may write with `writes` of the configuration `of`, by everybody's records.
    fn judge(&mut self, own: &str, of: Fingerprint, writes: &[Key], roster: &Roster, now: BootInstant) {
        if self.of != Some(of) {
            // Whoever loads something else is a newcomer with it. Whether it yields is said until that is found out.
            (self.of, self.holds, self.met, self.borne) = (Some(of), false, None, None);
        }
        let passed = |since: BootInstant| now.since_boot().saturating_sub(since.since_boot());
        let own_age = roster.created(own);
        let says_so = roster
            .entries()
            .any(|(id, member)| id == own && member.is_ok_and(|member| member.yields));
        // A third one keeps it from writing, so that it is in nobody's way: a process that has ended, say, whose record has not.
        let is_held_up = |yielding: &Member| {
            let writes = yielding.written();
            let mut others = roster.entries().filter(|(id, _)| *id != own);
            others.any(|(_, other)| other.is_ok_and(|other| !other.yields && other.holds_otherwise(&writes).is_some()))
        };
        let mut rival = None;
        let (mut is_borne, mut is_anybody) = (false, false);
        for (id, member) in roster.entries() {
            let Ok(member) = member else { continue };
            let Some(key) = member.holds_otherwise(writes).filter(|_| id != own) else {
                continue;
            };
            is_anybody = true;
            let is_older = match (roster.created(id), own_age) {
                (Some(other), Some(own)) => other < own,
                // Who has no record has yet to come.
                _ => true,
            };
            let wins = match (member.yields, self.holds) {
                (false, false) => true,
                (false, true) if is_older => {
                    is_borne = true;
                    let since = *self.borne.get_or_insert(now);
                    passed(since) >= BEARS
                }
                (false, true) => false,
                (true, _) => says_so && is_older && !is_held_up(member),
            };
            if wins && rival.is_none() {
                rival = Some(met(key, member));
            }
        }
        if !is_borne {
            self.borne = None;
        }
        let looked = self.looked.replace(now);
        let has_looked = looked.is_some_and(|looked| passed(looked) < TTL);
        if let Some(why) = rival {
            let why_too = Arc::clone(&why);
            (self.holds, self.why, self.met) = (
                false,
                Some(why),
                Some(Met {
                    why: why_too,
                    gone: None,
                }),
            );
            return;
        }
        if let Some(met) = self.met.as_mut().filter(|_| !is_anybody) {
            let gone = met.gone.filter(|_| has_looked).unwrap_or(now);
            met.gone = Some(gone);
            if passed(gone) < GONE {
                let text = format!(
                    "{}. That member is gone now; it may be about to come back, and is waited for until it has been gone for {} s",
                    met.why,
                    GONE.as_secs()
                );
                self.why = Some(Arc::from(text));
                return;
            }
        }
        (self.holds, self.why, self.met) = (true, None, None);
    }
}

/// Why this process yields, and what to do.
fn met(key: &Key, member: &Member) -> Arc<str> {
    let who = format!("{} ({})", member.name, member.urls.join(", "));
    let text = format!(
        "the {} key {:?} has OTHER BYTES here than in the configuration of the member {who}, which was there before: neither of the two \
         reads what the other writes. Give this process the configuration of the others, and start it anew, for a reload gives no name other \
         bytes; or, if its own is the right one, stop {who}",
        key.provider, key.name
    );
    Arc::from(shown(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::record::RuleKeys;
    use crate::members::record::tests::member;

    fn key(print: &str) -> Key {
        Key {
            provider: "aescbc".to_owned(),
            name: "key1".to_owned(),
            print: serde_json::from_str(&format!("\"{print}\"")).unwrap(),
        }
    }

    /// A member whose record came at `created`, and which has these bytes of key1, the first of which writes.
    fn record(id: &str, created: i64, prints: &[&str], yields: bool) -> (String, i64, Member) {
        let reads: Vec<_> = prints.iter().map(|print| key(print)).collect();
        let mut member = member(id, "sha256:1").yielding(yields);
        member.rules = vec![RuleKeys {
            resources: "secrets".to_owned(),
            writes: reads[0].clone(),
            reads,
        }];
        (id.to_owned(), created, member)
    }

    fn after(seconds: u64) -> BootInstant {
        BootInstant::now().after(Duration::from_secs(seconds))
    }

    fn judged(known: &mut Known, own: &str, print: &str, roster: &[(String, i64, Member)], now: BootInstant) -> bool {
        let of = Fingerprint::of(print.as_bytes());
        known.judge(own, of, &[key(print)], &Roster::with_ages(roster), now);
        known.why.is_none()
    }

    #[test]
    fn the_newcomer_yields_and_whoever_was_there_does_not() {
        let now = after(0);
        let (mut old, mut new) = (Known::default(), Known::default());
        let alone = [record("a", 5, &["11"], false)];
        assert!(judged(&mut old, "a", "11", &alone, now));
        let both = [record("a", 5, &["11"], false), record("b", 9, &["22"], false)];
        assert!(!judged(&mut new, "b", "22", &both, now));
        let why = new.why.clone().unwrap();
        assert!(
            why.contains("aescbc key \"key1\" has OTHER BYTES") && why.contains("the member a (http"),
            "{why}"
        );
        assert!(judged(&mut old, "a", "11", &both, now));
        // With the right bytes it is no rival; one that lists both reads what the other writes.
        let right = [record("a", 5, &["11"], false), record("b", 9, &["11"], true)];
        assert!(judged(&mut new, "b", "11", &right, now));
        let mut lists = Known::default();
        let both_listed = [record("a", 5, &["22", "11"], false), record("b", 9, &["11"], false)];
        assert!(judged(&mut lists, "b", "11", &both_listed, now));
    }

    #[test]
    fn the_one_that_was_there_may_be_started_anew_or_lose_its_record() {
        let now = after(0);
        let mut wrong = Known::default();
        let both = [record("a", 5, &["11"], false), record("b", 9, &["22"], false)];
        assert!(!judged(&mut wrong, "b", "22", &both, now));
        // It has stopped.
        let gone = [record("b", 9, &["22"], true)];
        for seconds in [30, 40, 50, 60] {
            assert!(!judged(&mut wrong, "b", "22", &gone, after(seconds)));
        }
        assert!(wrong.why.as_ref().unwrap().contains("is waited for"));
        // It is back, with a record that is younger.
        let back = [record("a2", 12, &["11"], false), record("b", 9, &["22"], true)];
        let mut right = Known::default();
        assert!(judged(&mut right, "a2", "11", &back, after(70)));
        assert!(!judged(&mut wrong, "b", "22", &back, after(70)));
        // etcd was not there for ten minutes, and both records have ended.
        assert!(!judged(&mut wrong, "b", "22", &gone, after(80)));
        assert!(!judged(&mut wrong, "b", "22", &gone, after(680)));
        let again = [record("a2", 20, &["11"], false), record("b", 19, &["22"], true)];
        right.holds = false;
        assert!(judged(&mut right, "a2", "11", &again, after(690)));
        assert!(!judged(&mut wrong, "b", "22", &again, after(690)));
        // It has gone for good.
        for seconds in (700..=750).step_by(10) {
            assert!(!judged(&mut wrong, "b", "22", &gone, after(seconds)), "{seconds}");
        }
        assert!(judged(&mut wrong, "b", "22", &gone, after(760)));
        // The one that was there comes back after all, and was only stopped: now it is the newcomer.
        right.holds = false;
        let late = [record("a2", 30, &["11"], false), record("b", 19, &["22"], false)];
        assert!(!judged(&mut right, "a2", "11", &late, after(770)));
        assert!(judged(&mut wrong, "b", "22", &late, after(770)));
    }

    #[test]
    fn of_two_that_come_at_once_the_older_record_writes_in_the_end() {
        let now = after(0);
        let (mut one, mut other) = (Known::default(), Known::default());
        let roster = |one: bool, other: bool| [record("a", 5, &["11"], one), record("b", 6, &["22"], other)];
        let (mut says_one, mut says_other) = (false, false);
        for _ in 0..4 {
            let seen = roster(says_one, says_other);
            let writes = (
                judged(&mut one, "a", "11", &seen, now),
                judged(&mut other, "b", "22", &seen, now),
            );
            assert_ne!(writes, (true, true));
            (says_one, says_other) = (!writes.0, !writes.1);
        }
        assert_eq!((says_one, says_other), (false, true));
    }

    /// The record of a process that was killed stands for as long as its lease.
    #[test]
    fn one_that_yields_to_somebody_else_is_in_nobody_s_way() {
        let now = after(0);
        let mut wrong = Known::default();
        let records = |own: &[&str]| {
            [
                record("a", 5, &["11"], false),
                record("killed", 7, &["22"], true),
                record("b", 9, own, true),
            ]
        };
        assert!(!judged(&mut wrong, "b", "22", &records(&["22"]), now));
        assert!(judged(&mut wrong, "b", "11", &records(&["11", "22"]), now));
        let mut without = Known::default();
        let two = [record("killed", 7, &["22"], true), record("b", 9, &["11"], true)];
        assert!(
            !judged(&mut without, "b", "11", &two, now),
            "that one is about to write"
        );
    }

    /// Each has loaded a new key of its own making under one name; the younger record was first with it.
    #[test]
    fn who_loads_other_bytes_later_yields_however_old_its_record_is() {
        let now = after(0);
        let mut first = Known::default();
        let before = [record("old", 5, &["00"], false), record("young", 9, &["11"], false)];
        let no_rival = [before[1].clone()];
        assert!(judged(&mut first, "young", "11", &no_rival, now));
        let seen = [record("old", 5, &["22"], false), record("young", 9, &["11"], false)];
        let mut later = Known::default();
        assert!(judged(
            &mut later,
            "old",
            "00",
            &[record("old", 5, &["00"], false)],
            now
        ));
        assert!(!judged(&mut later, "old", "22", &seen, now));
        assert!(
            judged(&mut first, "young", "11", &seen, now),
            "it bears with it for a while"
        );
        let told = [record("old", 5, &["22"], true), record("young", 9, &["11"], false)];
        assert!(judged(&mut first, "young", "11", &told, after(5)));
        // Both held, by looks that crossed; or an earlier version is the older one, and never yields.
        assert!(judged(&mut first, "young", "11", &seen, after(10)));
        assert!(judged(&mut first, "young", "11", &seen, after(20)));
        assert!(!judged(&mut first, "young", "11", &seen, after(25)));
    }
}
