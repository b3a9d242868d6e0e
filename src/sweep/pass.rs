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
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::apply::Tools;
use super::checkpoint::{Checkpoint, Keeper, Stage, hex};
use super::decide::Verdict;
use super::ledger::{Ledger, Ticket};
use super::pace::Pace;
use super::ranges::successor;
use super::renew::{Renewed, Step};
use super::run::Progress;
use super::scan::Scan;
use super::tally::{Outcome, Record};
use super::{Error, Observer};
use crate::etcd::{Attempts, KeyValue, Patience, Store, Trouble};
use crate::value::seed_of;

/// What may have to be looked at again after a crash: keys that are under way or done and not yet behind the checkpoint.
pub(super) const PAGE_KEYS: usize = 1_000;
/// The checkpoint moves after so many keys, or so much time, whichever is first.
const SAVE_KEYS: usize = PAGE_KEYS / 4;
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Bytes of stored values that are under way at once, at most; one value may be larger.
const MAX_BYTES_UNDER_WAY: usize = 16 * 1024 * 1024;
/// Keys in hand, or bytes of their values, that are enough for the next page to wait.
const MAX_QUEUE: usize = 500;
const MAX_QUEUE_BYTES: usize = 4 * 1024 * 1024;
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

type Under<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'a>>;
type Slot<'a, T> = Option<Under<'a, T>>;

/// A pass, before it begins.
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
    pub(super) async fn run(self, scan: Scan, record: &mut Checkpoint) -> Result<(), Error> {
        self.report(record);
        let mut flow = Flow {
            pass: self,
            scan,
            under_way: Ledger::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            ready: VecDeque::new(),
            page: None,
            batch: None,
            saving: None,
            writing: FuturesUnordered::new(),
            unsaved: 0,
            being_saved: 0,
            saved_at: Instant::now(),
        };
        flow.run(record).await
    }
}

/// A pass on its way: what waits between its steps, and the steps under way.
struct Flow<'a, S> {
    pass: Pass<'a, S>,
    scan: Scan,
    under_way: Ledger<Record>,
    /// Read and not yet opened.
    queue: VecDeque<KeyValue>,
    queue_bytes: usize,
    /// Sealed and not yet written.
    ready: VecDeque<Job>,
    page: Slot<'a, NextPage>,
    batch: Slot<'a, (Vec<Ticket>, Vec<Renewed>)>,
    saving: Slot<'a, ()>,
    writing: FuturesUnordered<Under<'a, (Ticket, Record)>>,
    /// Keys that are done and not behind the checkpoint, those that are being saved included.
    unsaved: usize,
    being_saved: usize,
    saved_at: Instant,
}

impl<S: Store> Flow<'_, S> {
    async fn run(&mut self, record: &mut Checkpoint) -> Result<(), Error> {
        loop {
            let stops = *self.pass.stop.borrow_and_update();
            self.count_done(record);
            self.save(record);
            let mut due = None;
            if !stops {
                self.read();
                due = self.open();
                self.write();
            }
            if self.is_idle() && due.is_none() {
                let is_at_end = self.queue.is_empty() && self.ready.is_empty() && self.scan.ask().is_none();
                if stops || is_at_end {
                    record.spent_ms = self.pass.spent_ms();
                    return if is_at_end {
                        Ok(())
                    } else {
                        self.pass.stopped(record).await
                    };
                }
            }
            tokio::select! {
                read = filled(&mut self.page) => self.take_page(read?, record),
                renewed = filled(&mut self.batch) => self.take_batch(renewed?),
                Some(written) = self.writing.next() => {
                    let (ticket, settled) = written?;
                    self.under_way.settle(ticket, settled);
                    // Those that are answered too are taken along: one round for each would cost more than they do.
                    while let Some(Some(written)) = self.writing.next().now_or_never() {
                        let (ticket, settled) = written?;
                        self.under_way.settle(ticket, settled);
                    }
                }
                saved = filled(&mut self.saving) => {
                    saved?;
                    self.unsaved -= self.being_saved;
                }
                () = at(due) => {}
                _ = self.pass.stop.changed(), if !stops => {}
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.page.is_none() && self.batch.is_none() && self.saving.is_none() && self.writing.is_empty()
    }

    /// Moves the record's position behind what is done.
    fn count_done(&mut self, record: &mut Checkpoint) {
        let mut last = None;
        while let Some(done) = self.under_way.next_done() {
            tally(record, self.pass.writes).add(&done.key, done.bytes, done.record);
            self.unsaved += usize::from(self.pass.keeper.is_some());
            last = Some(done.key);
        }
        if let Some(key) = last {
            record.position = hex(&successor(&key));
            self.pass.report(record);
        }
    }

    /// Starts to save the record, if there is enough to save.
    fn save(&mut self, record: &mut Checkpoint) {
        let is_due = self.unsaved >= SAVE_KEYS || (self.unsaved > 0 && self.saved_at.elapsed() >= SAVE_EVERY);
        if let Some(keeper) = self.pass.keeper
            && self.saving.is_none()
            && is_due
        {
            record.spent_ms = self.pass.spent_ms();
            let copy = record.clone();
            self.being_saved = self.unsaved;
            self.saved_at = Instant::now();
            let pace = self.pass.tools.pace;
            self.saving = Some(Box::pin(async move {
                keeper.save(&copy).await?;
                pace.wrote(keeper.revision());
                Ok(())
            }));
        }
    }

    /// Starts to read the next page, while there is still something in hand.
    fn read(&mut self) {
        let has_room = self.queue.len() < MAX_QUEUE && self.queue_bytes < MAX_QUEUE_BYTES;
        if self.page.is_none() && has_room && self.scan.ask().is_some() {
            let Tools {
                store,
                pace,
                reads,
                observer,
                ..
            } = *self.pass.tools;
            self.page = Some(Box::pin(next_page(store, pace, reads, observer, self.scan.clone())));
        }
    }

    /// Starts to open the next batch, if there is room for it; when to come back where the rates allow none yet.
    fn open(&mut self) -> Option<Instant> {
        let has_room = self.unsaved + self.under_way.len() + BATCH_KEYS <= PAGE_KEYS
            && (self.under_way.len() == 0 || self.under_way.bytes() < MAX_BYTES_UNDER_WAY)
            && self.ready.len() < BATCH_KEYS;
        if self.batch.is_some() || self.queue.is_empty() || !has_room {
            return None;
        }
        let tools = self.pass.tools;
        let values = match next_batch(tools, &mut self.queue) {
            Ok(values) => values,
            Err(due) => return Some(due),
        };
        self.queue_bytes -= values.iter().map(size).sum::<usize>();
        // Copied, so that a key does not hold on to the page that it came in.
        let ticket = |kv: &KeyValue| self.under_way.issue(Bytes::copy_from_slice(&kv.key), size(kv));
        let tickets = values.iter().map(ticket).collect();
        let seals = self.pass.writes;
        self.batch = Some(Box::pin(
            async move { Ok((tickets, tools.renew(values, seals).await?)) },
        ));
        None
    }

    /// Starts as many writes as may be under way.
    fn write(&mut self) {
        let tools = self.pass.tools;
        while self.writing.len() < tools.pace.writes() {
            let Some(job) = self.ready.pop_front() else { break };
            self.writing.push(Box::pin(async move {
                let record = tools.settle(job.kv, job.verdict, job.value).await?;
                Ok((job.ticket, record))
            }));
        }
    }

    fn take_page(&mut self, read: NextPage, record: &mut Checkpoint) {
        record.overtaken += u32::from(read.is_overtaken);
        note_revisions(record, self.pass.writes, &read.scan);
        self.scan = read.scan;
        self.queue_bytes += read.kvs.iter().map(size).sum::<usize>();
        self.queue.extend(read.kvs);
    }

    /// What is to be written waits for its turn; the rest is done.
    fn take_batch(&mut self, (tickets, renewed): (Vec<Ticket>, Vec<Renewed>)) {
        for (ticket, Renewed { kv, verdict, step }) in tickets.into_iter().zip(renewed) {
            let outcome = match step {
                Step::Write(value) => {
                    self.ready.push_back(Job {
                        ticket,
                        kv,
                        verdict,
                        value,
                    });
                    continue;
                }
                Step::Keep => Outcome::Kept,
                Step::Refuse(why) => Outcome::Refused(why),
            };
            let record = Record {
                resource: self.pass.tools.scope.resource(&kv.key),
                verdict,
                outcome,
                races: 0,
                seed: seed_of(&kv.value),
            };
            self.under_way.settle(ticket, record);
        }
    }
}

impl<S: Store> Pass<'_, S> {
    /// Leaves the record where the next process takes it up.
    async fn stopped(&self, record: &Checkpoint) -> Result<(), Error> {
        if let Some(keeper) = self.keeper {
            keeper.save(record).await?;
        }
        Err(Error::Stopped)
    }

    fn report(&self, record: &Checkpoint) {
        let (stage, tally) = if self.writes {
            (super::run::Stage::Rewrite, &record.before)
        } else {
            (super::run::Stage::Look, &record.after)
        };
        self.tools.observer.progress(&Progress {
            stage,
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

/// A page, and the scan behind it.
pub(super) struct NextPage {
    pub(super) scan: Scan,
    pub(super) kvs: Vec<KeyValue>,
    /// Compaction overtook the revision that the scan was at.
    is_overtaken: bool,
}

/// Reads the page that `scan` asks for. None is left where it has no keys and its scan asks for nothing.
pub(super) async fn next_page<S: Store>(
    store: &S,
    pace: &Pace,
    reads: &Patience,
    observer: &dyn Observer,
    mut scan: Scan,
) -> Result<NextPage, Error> {
    let mut attempts = Attempts::default();
    let mut is_overtaken = false;
    loop {
        let Some(ask) = scan.ask() else {
            return Ok(NextPage {
                scan,
                kvs: Vec::new(),
                is_overtaken,
            });
        };
        sleep(pace.pause()).await;
        let asked = Instant::now();
        match store.page(ask).await {
            Ok(read) => {
                pace.read(asked.elapsed());
                reads.worked();
                let kvs = scan.take(read);
                return Ok(NextPage {
                    scan,
                    kvs,
                    is_overtaken,
                });
            }
            Err(error) if error.trouble() == Trouble::Compacted && scan.revision() != 0 => {
                let text = format!(
                    "revision {} has been compacted away under the scan, which goes on at the current one",
                    scan.revision()
                );
                observer.notice(&text);
                scan.overtaken();
                is_overtaken = true;
            }
            Err(error) => {
                pace.troubled();
                reads.after(error, &mut attempts).await?;
            }
        }
    }
}

/// The next values that go together, or when the rates allow some.
fn next_batch<S>(tools: &Tools<'_, S>, queue: &mut VecDeque<KeyValue>) -> Result<Vec<KeyValue>, Instant> {
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
