//! One pass over everything in scope: pages in, values opened and sealed in batches, writes kept under way, and the
//! checkpoint moved behind them. What is under way never exceeds what the checkpoint may have to repeat.
//!
//! All of it is one task: reading the next page, sealing the next batch, the writes and the checkpoint are futures that
//! it waits for together, so there is nothing to lock and nothing goes on when it ends.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

use super::Error;
use super::apply::Tools;
use super::checkpoint::{Checkpoint, Keeper, Stage, hex};
use super::decide::Verdict;
use super::ledger::{Ledger, Ticket};
use super::patience::Attempts;
use super::ranges::successor;
use super::renew::{Renewed, Step};
use super::run::Progress;
use super::scan::{MAX_LIMIT, Scan};
use super::store::Store;
use super::tally::{Outcome, Record};
use crate::etcd::{KeyValue, Trouble};

/// What may have to be looked at again after a crash: keys that are under way or done and not yet behind the checkpoint.
pub(super) const PAGE_KEYS: usize = 1_000;
/// The checkpoint moves after so many keys, or so much time, whichever is first.
const SAVE_KEYS: usize = PAGE_KEYS / 4;
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Bytes of stored values that are under way at once, at most; one value may be larger.
const MAX_BYTES_UNDER_WAY: usize = 16 * 1024 * 1024;
/// Values that are opened and sealed together.
const BATCH_KEYS: usize = 32;
const BATCH_BYTES: usize = 1024 * 1024;

/// A write that waits for its turn.
struct Job {
    ticket: Ticket,
    kv: KeyValue,
    verdict: Verdict,
    value: Vec<u8>,
}

type Slot<'f, T> = Option<Pin<Box<dyn Future<Output = Result<T, Error>> + 'f>>>;

/// The state of a pass.
pub(super) struct Pass<'a, S> {
    pub(super) tools: &'a Tools<'a, S>,
    /// Whether stale values are written again, or only counted.
    pub(super) writes: bool,
    /// Where the checkpoint is kept; `None`: nowhere.
    pub(super) keeper: Option<&'a Keeper<'a, S>>,
    /// Keys that the pass is expected to meet.
    pub(super) total: u64,
    pub(super) stop: watch::Receiver<bool>,
    /// When this process began with the work, less what was spent on it before.
    pub(super) began: Instant,
}

impl<S: Store> Pass<'_, S> {
    /// From the record's position to the end. The record says how far it came, also after an error.
    pub(super) async fn run(mut self, mut scan: Scan, record: &mut Checkpoint) -> Result<(), Error> {
        let mut under_way: Ledger<Record> = Ledger::new();
        let mut queue: VecDeque<KeyValue> = VecDeque::new();
        let mut ready: VecDeque<Job> = VecDeque::new();
        let mut page: Slot<'_, (Scan, Vec<KeyValue>, bool)> = None;
        let mut batch: Slot<'_, (Vec<Ticket>, Vec<Renewed>)> = None;
        let mut saving: Slot<'_, usize> = None;
        let mut writes = FuturesUnordered::new();
        // Keys that are done and not behind the checkpoint, the part of them that is being saved included.
        let mut unsaved = 0;
        let mut being_saved = 0;
        let mut saved_at = Instant::now();
        let (tools, keeper) = (self.tools, self.keeper);
        loop {
            let stops = *self.stop.borrow_and_update();
            while let Some(done) = under_way.next_done() {
                record.position = hex(&successor(&done.key));
                tally(record, self.writes).add(&done.key, done.bytes, done.record);
                unsaved += usize::from(keeper.is_some());
            }
            self.report(record);
            if let Some(keeper) = keeper
                && saving.is_none()
                && (unsaved >= SAVE_KEYS || (unsaved > 0 && saved_at.elapsed() >= SAVE_EVERY))
            {
                record.spent_ms = self.spent_ms();
                let copy = record.clone();
                being_saved = unsaved;
                saved_at = Instant::now();
                saving = Some(Box::pin(async move { keeper.save(&copy).await.map(|()| 0) }));
            }
            if !stops
                && page.is_none()
                && queue.len() < usize::try_from(MAX_LIMIT).unwrap_or(usize::MAX)
                && scan.ask().is_some()
            {
                page = Some(Box::pin(next_page(tools, scan.clone())));
            }
            let mut due = None;
            let has_room = unsaved + under_way.len() + BATCH_KEYS <= PAGE_KEYS
                && (under_way.len() == 0 || under_way.bytes() < MAX_BYTES_UNDER_WAY)
                && ready.len() < BATCH_KEYS;
            if !stops && batch.is_none() && has_room && !queue.is_empty() {
                match take_batch(tools, &mut queue) {
                    Err(instant) => due = Some(instant),
                    Ok(values) => {
                        let tickets = values
                            .iter()
                            .map(|kv| under_way.issue(Bytes::copy_from_slice(&kv.key), size(kv)));
                        let tickets: Vec<_> = tickets.collect();
                        let seals = self.writes;
                        batch = Some(Box::pin(
                            async move { Ok((tickets, tools.renew(values, seals).await?)) },
                        ));
                    }
                }
            }
            while !stops && writes.len() < tools.pace.writes() {
                let Some(job) = ready.pop_front() else { break };
                writes.push(async move {
                    let record = tools.settle(job.kv, job.verdict, job.value).await?;
                    Ok::<_, Error>((job.ticket, record))
                });
            }
            if page.is_none() && batch.is_none() && saving.is_none() && writes.is_empty() && due.is_none() {
                let is_at_end = queue.is_empty() && ready.is_empty() && scan.ask().is_none();
                if stops || is_at_end {
                    record.spent_ms = self.spent_ms();
                    return if is_at_end && under_way.len() == 0 {
                        Ok(())
                    } else {
                        self.stopped(record).await
                    };
                }
            }
            tokio::select! {
                read = filled(&mut page) => {
                    let (after, kvs, is_overtaken) = read?;
                    record.overtaken += u32::from(is_overtaken);
                    note_revisions(record, self.writes, &after);
                    scan = after;
                    queue.extend(kvs);
                }
                renewed = filled(&mut batch) => {
                    let (tickets, renewed) = renewed?;
                    for (ticket, renewed) in tickets.into_iter().zip(renewed) {
                        match self.sorted(ticket, renewed) {
                            Ok(job) => ready.push_back(job),
                            Err(record) => under_way.settle(ticket, record),
                        }
                    }
                }
                Some(written) = writes.next() => {
                    let (ticket, settled) = written?;
                    under_way.settle(ticket, settled);
                    // Those that are answered too are taken along: one round for each would cost more than they do.
                    while let Some(Some(written)) = writes.next().now_or_never() {
                        let (ticket, settled) = written?;
                        under_way.settle(ticket, settled);
                    }
                }
                saved = filled(&mut saving) => {
                    saved?;
                    unsaved -= being_saved;
                }
                () = at(due) => {}
                _ = self.stop.changed(), if !stops => {}
            }
        }
    }

    /// A value to be written, or what there is to say of one that is not.
    fn sorted(&self, ticket: Ticket, renewed: Renewed) -> Result<Job, Record> {
        let Renewed { kv, verdict, step } = renewed;
        let outcome = match step {
            Step::Write(value) => {
                return Ok(Job {
                    ticket,
                    kv,
                    verdict,
                    value,
                });
            }
            Step::Keep => Outcome::Kept,
            Step::Refuse(why) => Outcome::Refused(why),
        };
        Err(Record {
            resource: self.tools.scope.resource(&kv.key),
            verdict,
            outcome,
            races: 0,
        })
    }

    /// Leaves the record where the next process takes it up.
    async fn stopped(&self, record: &Checkpoint) -> Result<(), Error> {
        if let Some(keeper) = self.keeper {
            keeper.save(record).await?;
        }
        Err(Error::Stopped)
    }

    fn report(&self, record: &Checkpoint) {
        let tally = if self.writes { &record.before } else { &record.after };
        self.tools.observer.progress(&Progress {
            stage: if self.writes {
                super::run::Stage::Rewrite
            } else {
                super::run::Stage::Look
            },
            done: tally.scanned,
            total: self.total.max(tally.scanned),
            rewritten: record.before.rewritten,
        });
    }

    fn spent_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The tally that the stage adds to.
fn tally(record: &mut Checkpoint, writes: bool) -> &mut super::Tally {
    if writes { &mut record.before } else { &mut record.after }
}

fn note_revisions(record: &mut Checkpoint, writes: bool, scan: &Scan) {
    let from = if writes {
        &mut record.rewrite_from
    } else {
        &mut record.prove_from
    };
    if *from == 0 {
        *from = scan.first_revision();
    }
    if record.stage == Stage::Prove {
        record.prove_to = record.prove_to.max(scan.revision());
    }
}

/// The next page and the scan behind it; whether compaction overtook the revision that it was being read at.
async fn next_page<S: Store>(tools: &Tools<'_, S>, mut scan: Scan) -> Result<(Scan, Vec<KeyValue>, bool), Error> {
    let mut attempts = Attempts::default();
    let mut is_overtaken = false;
    loop {
        let Some(ask) = scan.ask() else {
            return Ok((scan, Vec::new(), is_overtaken));
        };
        match tools.store.page(ask).await {
            Ok(page) => {
                tools.reads.worked();
                let kvs = scan.take(page);
                return Ok((scan, kvs, is_overtaken));
            }
            Err(error) if error.trouble() == Trouble::Compacted && scan.revision() != 0 => {
                let text = format!(
                    "revision {} has been compacted away under the scan, which goes on at the current one",
                    scan.revision()
                );
                tools.observer.notice(&text);
                scan.overtaken();
                is_overtaken = true;
            }
            Err(error) => {
                tools.pace.troubled();
                tools.reads.after(error, &mut attempts).await?;
            }
        }
    }
}

/// The next values that go together, or when the rates allow some.
fn take_batch<S>(tools: &Tools<'_, S>, queue: &mut VecDeque<KeyValue>) -> Result<Vec<KeyValue>, Instant> {
    let most = tools.pace.batch(BATCH_KEYS);
    let mut bytes = 0;
    let fitting = queue.iter().take(most).take_while(|kv| {
        let fits = bytes == 0 || bytes + size(kv) <= BATCH_BYTES;
        bytes += if fits { size(kv) } else { 0 };
        fits
    });
    let keys = fitting.count();
    tools.pace.take(keys, bytes)?;
    Ok(queue.drain(..keys).collect())
}

fn size(kv: &KeyValue) -> usize {
    kv.value.len().max(1)
}

/// The output of the future in `slot`, which is empty then. Never, where there is none. Loses nothing when dropped.
async fn filled<T>(slot: &mut Slot<'_, T>) -> Result<T, Error> {
    match slot {
        None => pending().await,
        Some(future) => {
            let output = future.await;
            *slot = None;
            output
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        None => pending().await,
        Some(instant) => sleep_until(instant).await,
    }
}
