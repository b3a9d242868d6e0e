//! Reads all that etcd holds but the proxy's own records, under a rule or not, page by page. Writes nothing.
//!
//! Invariant: all of it was read at one revision, or, where compaction overtook that, at later ones.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep_until;

use super::pace::Pace;
use super::pass::next_page;
use super::ranges::Ranges;
use super::run::{Progress, Stage};
use super::scan::Scan;
use super::{Error, Observer, Options, Scope};
use crate::etcd::{KeyValue, Patience, Store, Trouble};
use crate::keyspace::Span;

/// Said where not everything could be looked at.
pub(super) const NOT_WHOLE: &str = "etcd does not let this user read keys outside of --etcd-prefix, so whether values there \
                                    need a key is not known";

/// A reader of everything.
pub(super) struct Everything<'a, S> {
    store: &'a S,
    scope: &'a Scope,
    pace: Pace,
    reads: Patience,
    observer: &'a dyn Observer,
    stop: watch::Receiver<bool>,
}

/// What was read.
pub(super) struct Read<T> {
    /// The revision of the first page.
    pub(super) revision: i64,
    /// Whether keys outside of `--etcd-prefix` could be read, too.
    pub(super) is_whole: bool,
    /// What was made of it.
    pub(super) found: T,
}

impl<'a, S: Store> Everything<'a, S> {
    /// Of `store`, where the keys of `scope` lie.
    pub(super) fn new(
        store: &'a S,
        scope: &'a Scope,
        options: &Options,
        observer: &'a Arc<dyn Observer>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let told = Arc::clone(observer);
        Self {
            store,
            scope,
            pace: Pace::new(options.limits),
            reads: Patience::new("reading", options.max_wait, move |text| told.notice(text)),
            observer: &**observer,
            stop,
        }
    }

    /// Has `add` see each value, in the order of the keys.
    ///
    /// # Errors
    /// It did not come to its end.
    pub(super) async fn read<T: Default>(&self, add: impl Fn(&mut T, &KeyValue)) -> Result<Read<T>, Error> {
        let everything = Ranges::all_but(&self.scope.state);
        let (is_whole, (revision, found)) = match self.look(&everything, &add).await {
            Ok(found) => (true, found),
            // Whoever may not read there could not have had anything there encrypted either. That is no proof, so it is said.
            Err(Error::Call(error)) if error.trouble() == Trouble::PermissionDenied => {
                let prefixes = self.scope.keyring.keyspace().prefixes().iter();
                let spans: Vec<Span> = prefixes.map(|prefix| Span::of_prefix(prefix.as_bytes())).collect();
                self.observer.notice(NOT_WHOLE);
                (false, self.look(&everything.and(&Ranges::of(&spans)), &add).await?)
            }
            Err(error) => return Err(error),
        };
        Ok(Read {
            revision,
            is_whole,
            found,
        })
    }

    /// The revision of the first page of `ranges`, and what was made of them.
    async fn look<T: Default>(&self, ranges: &Ranges, add: &impl Fn(&mut T, &KeyValue)) -> Result<(i64, T), Error> {
        let mut total = 0;
        for range in ranges.iter() {
            let count = || self.store.count(&range.start, range.end.as_deref());
            total += self.reads.call(count).await?.1;
        }
        let mut found = T::default();
        let (mut scan, mut done) = (Scan::new(ranges, b""), 0);
        while scan.ask().is_some() {
            if *self.stop.borrow() {
                return Err(Error::Stopped);
            }
            let page = next_page(self.store, &self.pace, &self.reads, self.observer, scan).await?;
            scan = page.scan;
            done += page.kvs.len() as u64;
            let bytes = page.kvs.iter().map(|kv| kv.value.len()).sum();
            let others = page.kvs.iter().filter(|kv| !self.scope.state.contains(&kv.key));
            others.for_each(|kv| add(&mut found, kv));
            self.observer.progress(&Progress {
                stage: Stage::Look,
                done,
                total: total.max(done),
                rewritten: 0,
            });
            while let Err(due) = self.pace.take(page.kvs.len(), bytes) {
                sleep_until(due).await;
            }
        }
        Ok((scan.first_revision(), found))
    }
}
