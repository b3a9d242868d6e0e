//! How fast: how many writes are under way at once, and how many keys and bytes a second.
//!
//! By default the number of writes under way follows etcd's own latency, as TCP Vegas follows a path's. The latency of a
//! write while next to nothing else of ours is under way is the base. What is measured above it is time that our writes
//! spend queueing, and `writes × (1 - base / latency)` is how many of them queue. A few keep etcd busy; more only make
//! its other clients wait, and so do a few where etcd is quick. So the number grows while few queue and the latency is
//! near its base, and shrinks when many do or the latency is half as much again. The base is measured anew every so often, because
//! etcd's other clients, its disk and its backend change.
//!
//! All that is for others. While nobody else writes, as many writes are under way as keep etcd busy, and no pauses are made.
//! Knows no key and sends nothing.

use std::cell::{Cell, RefCell};
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use super::company::Company;

/// Writes that may queue at etcd: below the first the number grows, above the second it shrinks.
const QUEUE_LOW: f64 = 8.0;
const QUEUE_HIGH: f64 = 16.0;
/// And how many times the base the latency may be.
const TIMES_LOW: f64 = 1.25;
const TIMES_HIGH: f64 = 1.5;
/// Latency so far above the base that etcd has more to do than ours, or is in trouble: the number is halved.
const OVERLOAD: f64 = 16.0;
/// Each decision is made on so much time, and on no fewer answers. etcd commits its backend every 100 ms, which is when it
/// is slow; the mean, unlike the median, holds how slow.
const PERIOD: Duration = Duration::from_millis(100);
const MIN_SAMPLES: u32 = 16;
/// Between two measurements of the base.
const BASE_EVERY: Duration = Duration::from_secs(10);
/// Writes under way while the base is measured.
const BASE_WRITES: usize = 2;
/// Writes under way while nobody else writes: more give etcd hardly any more to do.
const ALONE: usize = 128;
/// Between two pages: so many times what the last one took, and no more than this.
const PAUSE_TIMES: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a rate saves up while nothing can be done, as a part of a second.
const BURST: f64 = 0.1;
/// And what goes at once otherwise.
const BATCH: f64 = 0.002;

/// Writes under way at once where nothing is said: more than etcd can be kept busy with.
const CONCURRENCY: usize = 256;

/// What the operator set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Writes under way at once, at most.
    pub concurrency: usize,
    /// Whether their number follows etcd's latency below that.
    pub is_adaptive: bool,
    /// Keys a second, at most.
    pub keys_per_second: Option<f64>,
    /// Bytes of stored values a second, at most.
    pub bytes_per_second: Option<f64>,
}

/// As many writes under way as keep etcd busy, and no more.
impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: CONCURRENCY,
            is_adaptive: true,
            keys_per_second: None,
            bytes_per_second: None,
        }
    }
}

/// Shared by all that read and write; never across threads.
#[derive(Debug)]
pub(super) struct Pace {
    limits: Limits,
    window: RefCell<Window>,
    company: RefCell<Company>,
    pause: Cell<Duration>,
    keys: RefCell<Option<Bucket>>,
    bytes: RefCell<Option<Bucket>>,
}

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        let bucket = |rate: Option<f64>| RefCell::new(rate.map(|rate| Bucket::new(rate, Instant::now())));
        Self {
            window: RefCell::new(Window::new(limits.concurrency, Instant::now())),
            company: RefCell::new(Company::new()),
            pause: Cell::default(),
            keys: bucket(limits.keys_per_second),
            bytes: bucket(limits.bytes_per_second),
            limits,
        }
    }

    /// How many writes may be under way now.
    pub(super) fn writes(&self) -> usize {
        if self.is_alone() {
            self.limits.concurrency.clamp(1, ALONE)
        } else if self.limits.is_adaptive {
            self.window.borrow().size()
        } else {
            self.limits.concurrency.max(1)
        }
    }

    /// Whether others need not be heeded.
    fn is_alone(&self) -> bool {
        self.limits.is_adaptive && self.company.borrow().is_alone()
    }

    /// A write was answered after `latency`.
    pub(super) fn answered(&self, latency: Duration) {
        if !self.is_alone() {
            self.window.borrow_mut().answered(latency.as_secs_f64(), Instant::now());
        }
    }

    /// A write of ours, of a value or of a record, made `revision`.
    pub(super) fn wrote(&self, revision: i64) {
        let was_alone = self.is_alone();
        self.company.borrow_mut().wrote(revision, Instant::now());
        if was_alone && !self.is_alone() {
            self.begin_anew();
        }
    }

    /// With a window that knows nothing. What is under way still queues behind itself.
    fn begin_anew(&self) {
        let mut window = Window::new(self.limits.concurrency, Instant::now());
        window.stale_answers = ALONE;
        self.window.replace(window);
    }

    /// A page was read in `took`.
    pub(super) fn read(&self, took: Duration) {
        if self.limits.is_adaptive {
            self.pause.set((PAUSE_TIMES * took).min(LONGEST_PAUSE));
        }
    }

    /// How long etcd is left alone before the next page: some times as long as it was busy with the last one.
    pub(super) fn pause(&self) -> Duration {
        if self.is_alone() {
            Duration::ZERO
        } else {
            self.pause.get()
        }
    }

    /// etcd said that it is in trouble.
    pub(super) fn troubled(&self) {
        if self.is_alone() {
            self.begin_anew();
        }
        self.company.borrow_mut().doubt();
        self.window.borrow_mut().halve(Instant::now());
    }

    /// Takes `keys` and `bytes` from the rates, or says when it may be tried again.
    pub(super) fn take(&self, keys: usize, bytes: usize) -> Result<(), Instant> {
        let now = Instant::now();
        let (mut of_keys, mut of_bytes) = (self.keys.borrow_mut(), self.bytes.borrow_mut());
        let due = [of_keys.as_mut(), of_bytes.as_mut()]
            .into_iter()
            .flatten()
            .filter_map(|bucket| bucket.due(now))
            .max();
        if let Some(due) = due {
            return Err(due);
        }
        if let Some(bucket) = of_keys.as_mut() {
            bucket.level -= as_f64(keys);
        }
        if let Some(bucket) = of_bytes.as_mut() {
            bucket.level -= as_f64(bytes);
        }
        Ok(())
    }

    /// How many keys one batch may have, so that a rate is kept smoothly.
    pub(super) fn batch(&self, most: usize) -> usize {
        let keys = self.limits.keys_per_second.map_or(most, |rate| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a part of a rate, and cut to a few keys anyway"
            )]
            let part = (rate * BATCH) as usize;
            part
        });
        keys.clamp(1, most)
    }
}

/// What timers tell apart.
const TICK: Duration = Duration::from_millis(1);

/// A token bucket that may be overdrawn once: a value may be larger than a second's worth.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    filled: Instant,
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Self {
        Self {
            rate,
            level: 0.0,
            filled: now,
        }
    }

    /// When something may be taken; `None` for now.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let filled = (now - self.filled).as_secs_f64() * self.rate;
        self.level = (self.level + filled).min(self.rate * BURST);
        self.filled = now;
        // What is left of a rounding comes to no time at all: whoever waited for that would come again at once, and again.
        (self.level < 0.0).then(|| now + Duration::from_secs_f64(-self.level / self.rate).max(TICK))
    }
}

/// How many writes may be under way.
#[derive(Debug)]
struct Window {
    size: f64,
    most: f64,
    /// Whether it still doubles.
    is_starting: bool,
    /// Seconds; `None` until it is measured.
    base: Option<f64>,
    /// What the last measurement gave. A base is the lower of two, so that one bad moment is not taken for what etcd is
    /// like.
    measured: f64,
    /// When the base is to be measured anew.
    base_due: Instant,
    /// The size to return to when the base has been measured.
    measuring: Option<f64>,
    /// Answers still to come of writes that were sent before the measurement.
    stale_answers: usize,
    period: Period,
}

/// Answers since the last decision.
#[derive(Debug)]
struct Period {
    began: Instant,
    answers: u32,
    /// Their latencies together, seconds.
    waited: f64,
}

impl Period {
    fn new(began: Instant) -> Self {
        Self {
            began,
            answers: 0,
            waited: 0.0,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.answers >= MIN_SAMPLES && now - self.began >= PERIOD
    }

    /// Mean latency.
    fn latency(&self) -> f64 {
        (self.waited / f64::from(self.answers.max(1))).max(1e-6)
    }

    /// How many writes were under way in the mean (Little's law).
    fn under_way(&self, now: Instant) -> f64 {
        self.waited / (now - self.began).as_secs_f64().max(1e-6)
    }
}

impl Window {
    fn new(most: usize, now: Instant) -> Self {
        let most = as_f64(most.max(1));
        Self {
            size: as_f64(BASE_WRITES).min(most),
            most,
            is_starting: true,
            base: None,
            measured: f64::INFINITY,
            base_due: now,
            measuring: Some(as_f64(2 * BASE_WRITES).min(most)),
            stale_answers: 0,
            period: Period::new(now),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least one, and no more than the operator's limit"
    )]
    fn size(&self) -> usize {
        self.size.max(1.0) as usize
    }

    fn halve(&mut self, now: Instant) {
        self.is_starting = false;
        self.size = (self.size / 2.0).max(1.0);
        self.period = Period::new(now);
    }

    fn answered(&mut self, latency: f64, now: Instant) {
        if self.stale_answers > 0 {
            self.stale_answers -= 1;
            self.period = Period::new(now);
            return;
        }
        self.period.answers += 1;
        self.period.waited += latency;
        if !self.period.is_over(now) {
            return;
        }
        let period = mem::replace(&mut self.period, Period::new(now));
        match (self.measuring.take(), self.base) {
            (Some(before), _) => {
                self.base = Some(period.latency().min(self.measured));
                self.measured = period.latency();
                self.base_due = now + BASE_EVERY;
                self.size = before;
            }
            (None, Some(_)) if now >= self.base_due => {
                self.measuring = Some(self.size);
                // What is under way still queues behind itself.
                self.stale_answers = self.size().saturating_sub(BASE_WRITES);
                self.size = as_f64(BASE_WRITES).min(self.size);
            }
            (None, base) => {
                let latency = period.latency();
                self.adjust(latency, base.unwrap_or(latency), period.under_way(now));
            }
        }
    }

    fn adjust(&mut self, latency: f64, base: f64, under_way: f64) {
        let times = latency / base;
        let queued = self.size * (1.0 - 1.0 / times.max(1.0));
        if times > OVERLOAD && self.size > QUEUE_HIGH {
            self.is_starting = false;
            self.size /= 2.0;
        } else if queued > QUEUE_HIGH || times > TIMES_HIGH {
            self.size *= if self.is_starting { 0.7 } else { 0.9 };
            self.is_starting = false;
        } else if queued > QUEUE_LOW || times > TIMES_LOW {
            self.is_starting = false;
        } else if under_way > self.size / 2.0 {
            // Only where it is made use of: it would grow for ever under a rate that keeps writes few.
            self.size = if self.is_starting {
                self.size * 2.0
            } else {
                (self.size * 1.1).max(self.size + 1.0)
            };
        }
        self.size = self.size.clamp(1.0, self.most);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An etcd that takes `base` seconds for a write and at most `rate` of them a second: where the window comes to rest.
    fn rest(base: f64, rate: f64, most: usize) -> f64 {
        let start = Instant::now();
        let mut window = Window::new(most, start);
        let mut clock = 0.0;
        for _ in 0..200_000 {
            let latency = base.max(as_f64(window.size()) / rate);
            clock += latency / as_f64(window.size());
            window.answered(latency, start + Duration::from_secs_f64(clock));
        }
        window.measuring.unwrap_or(window.size)
    }

    #[tokio::test]
    async fn the_window_finds_what_keeps_etcd_busy_and_leaves_the_queue_short() {
        // 5 ms of fsync, 20,000 a second: a hundred are under way before any queues.
        let sized = rest(0.005, 20_000.0, 512);
        assert!((100.0..130.0).contains(&sized), "{sized}");
        // No fsync: a handful keeps it busy, and each more is felt.
        let sized = rest(0.0002, 20_000.0, 512);
        assert!((5.0..9.0).contains(&sized), "{sized}");
        assert!(rest(0.005, 20_000.0, 10) <= 10.0);
        assert!(rest(0.0002, 20_000.0, 1) <= 1.0);
    }

    /// Answers after `latency` for so many seconds, to as many writes as may be under way or `sent`, if that is fewer.
    fn answer(window: &mut Window, clock: &mut Instant, latency: f64, sent: usize, seconds: f64) {
        let end = *clock + Duration::from_secs_f64(seconds);
        while *clock < end {
            *clock += Duration::from_secs_f64(latency / as_f64(window.size().min(sent)));
            window.answered(latency, *clock);
        }
    }

    #[tokio::test]
    async fn latency_that_rises_for_other_reasons_shrinks_the_window() {
        let mut clock = Instant::now();
        let mut window = Window::new(256, clock);
        answer(&mut window, &mut clock, 0.002, 256, 2.0);
        assert!(window.size > 100.0, "{}", window.size);
        answer(&mut window, &mut clock, 0.2, 256, 6.0);
        assert!(window.size <= QUEUE_HIGH, "{}", window.size);
    }

    #[tokio::test]
    async fn a_window_that_is_not_made_use_of_does_not_grow() {
        let mut clock = Instant::now();
        let mut window = Window::new(256, clock);
        answer(&mut window, &mut clock, 0.002, 3, 5.0);
        assert!(window.size < 10.0, "{}", window.size);
    }

    #[tokio::test]
    async fn one_bad_moment_is_not_taken_for_what_etcd_is_like() {
        let mut clock = Instant::now();
        let mut window = Window::new(256, clock);
        answer(&mut window, &mut clock, 0.002, 256, 1.0);
        window.base_due = clock;
        answer(&mut window, &mut clock, 0.02, 256, 5.0);
        assert!(
            window.base.is_some_and(|base| (base - 0.002).abs() < 1e-9),
            "{:?}",
            window.base
        );
        window.base_due = clock;
        answer(&mut window, &mut clock, 0.02, 256, 5.0);
        assert!(
            window.base.is_some_and(|base| (base - 0.02).abs() < 1e-9),
            "{:?}",
            window.base
        );
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_kept_on_average_and_a_large_value_is_paid_for_afterwards() {
        let pace = Pace::new(Limits {
            concurrency: 1,
            is_adaptive: false,
            keys_per_second: Some(100.0),
            bytes_per_second: Some(1_000.0),
        });
        let start = Instant::now();
        for _ in 0..50 {
            while let Err(due) = pace.take(10, 1) {
                tokio::time::sleep_until(due).await;
            }
        }
        let taken = start.elapsed().as_secs_f64();
        assert!((4.5..5.5).contains(&taken), "{taken}");
        while let Err(due) = pace.take(1, 5_000) {
            tokio::time::sleep_until(due).await;
        }
        while let Err(due) = pace.take(1, 1) {
            tokio::time::sleep_until(due).await;
        }
        assert!(start.elapsed().as_secs_f64() > taken + 4.5);
    }

    #[test]
    fn nobody_is_told_to_come_again_at_once() {
        let now = Instant::now();
        let mut bucket = Bucket::new(40.0, now);
        bucket.level = -f64::EPSILON;
        assert_eq!(bucket.due(now), Some(now + TICK));
        assert_eq!(bucket.due(now + TICK), None);
    }
}
