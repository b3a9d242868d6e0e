//! How much one plugin bears: how many calls at once, and how many in a second. Learnt from its answers: a little more for each that
//! is good, much less where it says that it is busy, somewhat less where answers take ever longer. Decides, and waits for nothing.

use std::time::Duration;

use tokio::time::Instant;

/// Calls at once to begin with.
const FIRST: usize = 16;

/// Refusals that come within this belong together: they answer calls that were sent before the first was heard.
const TOGETHER: Duration = Duration::from_millis(200);

/// Without a refusal for so long, calls are not held back any more.
const FORGIVEN: Duration = Duration::from_secs(30);

/// Calls in a second: what they are not held back below, and what they are begun with at least.
const LEAST: f64 = 1.0;
const LEAST_AT_FIRST: f64 = 5.0;

/// Beyond what it takes at best, an answer may take so long, and so many times as long, before there are fewer calls.
const SLACK: Duration = Duration::from_millis(100);
const SLOWER: u32 = 4;

/// What is known of a plugin's load.
#[derive(Debug)]
pub(super) struct Load {
    most: usize,
    /// Calls at once; grows by parts.
    limit: f64,
    /// It doubles with each round of calls until the first trouble.
    grows_fast: bool,
    /// Places there are in the gate, those to be taken away not counted.
    places: usize,
    /// Places that are to be taken away when they are given back.
    owed: usize,
    /// Calls in a second, where they are held back.
    rate: Option<f64>,
    /// When the next call may begin.
    next: Instant,
    /// When the last refusal was heard that counted.
    refused: Option<Instant>,
    /// When there were last fewer because of slowness.
    slowed: Instant,
    /// Good answers since when, and in the second before.
    second: (Instant, f64),
    before: f64,
    /// What an answer takes: at best, and of late.
    best: Duration,
    lately: Duration,
}

impl Load {
    /// Of a plugin that is asked for `most` things at once at most.
    pub(super) fn new(most: usize) -> Self {
        let (now, places) = (Instant::now(), most.min(FIRST));
        Self {
            most,
            limit: as_number(places),
            grows_fast: true,
            places,
            owed: 0,
            rate: None,
            next: now,
            refused: None,
            slowed: now,
            second: (now, 0.0),
            before: 0.0,
            best: Duration::MAX,
            lately: Duration::ZERO,
        }
    }

    /// Calls at once.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// When the next call may begin; `None` for now.
    pub(super) fn turn(&mut self) -> Option<Instant> {
        let rate = self.rate?;
        let turn = self.next.max(Instant::now());
        self.next = turn + Duration::from_secs_f64(rate.recip());
        Some(turn)
    }

    /// The plugin gave a good answer after `took`: by how many places to change the gate.
    pub(super) fn answered(&mut self, took: Duration) -> isize {
        let now = Instant::now();
        self.count(now);
        self.limit += if self.grows_fast { 1.0 } else { self.limit.recip() };
        let quiet = self.refused.map(|at| now - at);
        if quiet.is_none_or(|quiet| quiet >= FORGIVEN) {
            self.rate = None;
        } else if let (Some(rate), Some(quiet)) = (&mut self.rate, quiet) {
            *rate += 0.05 * (1.0 + quiet.as_secs_f64());
        }
        self.best = self.best.min(took);
        self.lately = if self.lately.is_zero() {
            took
        } else {
            (self.lately * 4 + took) / 5
        };
        let slow = self.best * SLOWER + SLACK;
        if self.lately > slow && now - self.slowed > self.lately {
            self.slowed = now;
            self.grows_fast = false;
            self.limit *= 0.9;
            // What was best once may not be had any more.
            self.best += self.best / 20;
        }
        self.resize()
    }

    /// The plugin said that it is busy: by how many places to change the gate.
    pub(super) fn refused(&mut self) -> isize {
        let now = Instant::now();
        if self.refused.is_some_and(|at| now - at < TOGETHER) {
            return 0;
        }
        self.refused = Some(now);
        self.grows_fast = false;
        self.limit /= 2.0;
        let measured = self.before.max(self.second.1);
        self.rate = Some(match self.rate {
            None => measured.max(LEAST_AT_FIRST),
            Some(rate) => (rate * 0.85).max(LEAST),
        });
        self.next = self.next.max(now);
        self.resize()
    }

    /// Notes that so many places could not be taken away yet.
    pub(super) fn owe(&mut self, places: usize) {
        self.owed += places;
    }

    /// Whether a place that is given back goes for good.
    pub(super) fn pays(&mut self) -> bool {
        let pays = self.owed > 0;
        self.owed -= usize::from(pays);
        pays
    }

    fn count(&mut self, now: Instant) {
        let (since, count) = self.second;
        self.second = if now - since < Duration::from_secs(1) {
            (since, count + 1.0)
        } else {
            self.before = if now - since < Duration::from_secs(2) {
                count
            } else {
                0.0
            };
            (now, 1.0)
        };
    }

    fn resize(&mut self) -> isize {
        self.limit = self.limit.clamp(1.0, as_number(self.most));
        let mut change = 0;
        while as_number(self.places + 1) <= self.limit {
            self.places += 1;
            // One that was to go stays.
            if !self.pays() {
                change += 1;
            }
        }
        while as_number(self.places) > self.limit && self.places > 1 {
            self.places -= 1;
            change -= 1;
        }
        change
    }
}

/// A small number.
fn as_number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
