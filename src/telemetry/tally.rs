//! Numbers that every thread adds to and that none waits for. Knows no metric.
//!
//! A number that two cores write is carried from one to the other at each addition, and a call counts twenty of them. So each
//! thread has a sheet of its own, where every number has a place, and whoever wants to know one sums it over the sheets. Only
//! its thread writes on a sheet: an addition is a load and a store, without a locked instruction. A thread that ends leaves its
//! sheet, with what is on it, to one that begins later.
//!
//! A number is for ever, and so is a sheet: there are as many as threads once counted at the same time, and on each as much
//! room as its threads came to need.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// A number that begins at 0. It wraps, so that what was added can be taken away as well.
#[derive(Debug)]
pub struct Tally {
    /// Its place on every sheet.
    place: usize,
}

impl Default for Tally {
    fn default() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self {
            place: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Tally {
    /// Adds `amount`. Returns what is now on this thread's sheet, of this thread and of those that had the sheet before.
    pub fn add(&self, amount: u64) -> u64 {
        let Some(part) = OWN.get().and_then(|sheet| sheet.part(self.place)) else {
            return self.add_first(amount);
        };
        let sum = part.load(Ordering::Relaxed).wrapping_add(amount);
        part.store(sum, Ordering::Relaxed);
        sum
    }

    /// For a thread that has no sheet yet, or no room on it, or will have none: apart, so that what all others do is short.
    #[cold]
    #[inline(never)]
    fn add_first(&self, amount: u64) -> u64 {
        // A thread that ends has given its sheet back already.
        let own = KEPT.try_with(|own| own.sheet).ok().flatten();
        if own.is_some_and(|sheet| sheet.make_room(self.place)) {
            return self.add(amount);
        }
        SHARED.make_room(self.place);
        SHARED
            .part(self.place)
            .map_or(0, |part| part.fetch_add(amount, Ordering::Relaxed).wrapping_add(amount))
    }

    /// All that has been added. Of what is added meanwhile it may have some and not other.
    pub fn sum(&self) -> u64 {
        let sheets = sheets();
        let parts = sheets.all.iter().copied().chain([&SHARED]);
        let parts = parts.filter_map(|sheet| sheet.part(self.place));
        parts.fold(0, |sum, part| sum.wrapping_add(part.load(Ordering::Relaxed)))
    }
}

/// Sheets at most. A thread that finds none free shares one with all like it, for as long as it lives.
const MAX_SHEETS: usize = 128;

/// Every sheet but the shared one.
#[derive(Default)]
struct Sheets {
    all: Vec<&'static Sheet>,
    /// Those that no thread has.
    free: Vec<&'static Sheet>,
}

static SHEETS: Mutex<Sheets> = Mutex::new(Sheets {
    all: Vec::new(),
    free: Vec::new(),
});

/// Of threads that have none of their own.
static SHARED: Sheet = Sheet::new();

thread_local! {
    /// The thread's sheet while it has one: at hand without asking whether this is the first time.
    static OWN: Cell<Option<&'static Sheet>> = const { Cell::new(None) };
    /// Takes it, and gives it back when the thread ends.
    static KEPT: Kept = Kept::take();
}

fn sheets() -> MutexGuard<'static, Sheets> {
    SHEETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a thread counts on. The lock hands what is on a sheet from one thread to the next.
struct Kept {
    sheet: Option<&'static Sheet>,
}

impl Kept {
    fn take() -> Self {
        let mut sheets = sheets();
        let free = sheets.free.pop();
        let sheet = free.or_else(|| {
            let is_room = sheets.all.len() < MAX_SHEETS;
            is_room.then(|| {
                let sheet: &'static Sheet = Box::leak(Box::new(Sheet::new()));
                sheets.all.push(sheet);
                sheet
            })
        });
        OWN.set(sheet);
        Self { sheet }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // First of all: from here on the sheet may be another thread's.
        OWN.set(None);
        if let Some(sheet) = self.sheet.take() {
            sheets().free.push(sheet);
        }
    }
}

/// Numbers that lie next to each other, alone on their cache lines: the hardware fetches them in pairs of 64 bytes.
const LINE: usize = 16;

#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);
const _: () = assert!(size_of::<Line>() == 128, "a line is shared with something else");

/// Numbers in the first block of a sheet. Each block has room for twice as many as the one before.
const FIRST: usize = 4 * LINE;

/// Blocks of a sheet: beyond all the numbers that a process could have.
const BLOCKS: usize = 40;

/// A place for every number, in blocks that are made when something is counted in them: a sheet can grow while it is read.
struct Sheet([OnceLock<Box<[Line]>>; BLOCKS]);

impl Sheet {
    const fn new() -> Self {
        Self([const { OnceLock::new() }; BLOCKS])
    }

    /// The number at a place, if anything near it was ever counted here.
    #[inline]
    fn part(&self, place: usize) -> Option<&AtomicU64> {
        let (block, line, part) = split(place);
        self.0.get(block)?.get()?.get(line)?.0.get(part)
    }

    /// Whether there is room for a place now: always.
    fn make_room(&self, place: usize) -> bool {
        let (block, ..) = split(place);
        let lines = || (0..(FIRST << block) / LINE).map(|_| Line::default()).collect();
        self.0.get(block).map(|block| block.get_or_init(lines)).is_some()
    }
}

/// In which block a place is, on which of its lines, and where on that.
fn split(place: usize) -> (usize, usize, usize) {
    let block = (place / FIRST + 1).ilog2() as usize;
    let within = place + FIRST - (FIRST << block);
    (block, within / LINE, within % LINE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let mut next = (0, 0);
        for place in 0..100_000 {
            let (block, line, part) = split(place);
            assert_eq!((block, line * LINE + part), next);
            next.1 += 1;
            if next.1 == FIRST << block {
                next = (block + 1, 0);
            }
        }
        assert!(split(1 << 40).0 < BLOCKS);
    }

    #[test]
    fn threads_that_come_and_go_leave_what_they_counted() {
        let (one, other) = (Tally::default(), Tally::default());
        for round in 1..=20 {
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..1000 {
                            one.add(1);
                            other.add(2);
                        }
                    });
                }
            });
            assert_eq!((one.sum(), other.sum()), (round * 8000, round * 16_000));
        }
    }

    /// More threads at once than there are sheets, which other tests' threads have some of. No sheet has two of them, and
    /// those without one lose nothing.
    #[test]
    fn threads_beyond_the_last_sheet_share_one() {
        const THREADS: usize = MAX_SHEETS + 8;
        let (tally, all_here) = (Tally::default(), Barrier::new(THREADS));
        let mine = thread::scope(|scope| {
            let count = || {
                all_here.wait();
                for _ in 0..1000 {
                    tally.add(1);
                }
                all_here.wait();
                OWN.get().map(|sheet| std::ptr::from_ref(sheet).addr())
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(tally.sum(), 1000 * THREADS as u64);
        let own: Vec<_> = mine.iter().flatten().collect();
        assert!(own.len() <= MAX_SHEETS && sheets().all.len() <= MAX_SHEETS);
        assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), own.len());
    }

    #[test]
    fn what_is_counted_while_a_thread_ends_counts() {
        struct AtTheEnd(&'static Tally);
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                self.0.add(1);
            }
        }
        thread_local! {
            static BEFORE: std::cell::OnceCell<AtTheEnd> = const { std::cell::OnceCell::new() };
            static BEHIND: std::cell::OnceCell<AtTheEnd> = const { std::cell::OnceCell::new() };
        }
        let tally: &'static Tally = Box::leak(Box::default());
        // In whichever order a thread's own things are dropped, its sheet is gone for one of them.
        thread::spawn(move || {
            BEFORE.with(|end| drop(end.set(AtTheEnd(tally))));
            tally.add(1);
            BEHIND.with(|end| drop(end.set(AtTheEnd(tally))));
        })
        .join()
        .unwrap();
        assert_eq!(tally.sum(), 3);
    }

    #[test]
    fn a_sum_never_goes_back_while_threads_count() {
        let tally = Tally::default();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        tally.add(1);
                    }
                });
            }
            let mut last = 0;
            while last < 200_000 {
                let sum = tally.sum();
                assert!(sum >= last && sum <= 200_000, "{last} and then {sum}");
                last = sum;
            }
        });
    }

    #[test]
    fn who_adds_learns_what_is_on_the_sheet() {
        let tally = Tally::default();
        assert_eq!([tally.add(2), tally.add(3), tally.add(0)], [2, 5, 5]);
    }

    proptest! {
        #[test]
        fn what_is_added_and_taken_away_on_any_thread_sums_up(moves: Vec<Vec<i32>>) {
            let tally = Tally::default();
            thread::scope(|scope| {
                for moves in moves.iter().take(6) {
                    scope.spawn(|| moves.iter().for_each(|by| { tally.add(i64::from(*by).cast_unsigned()); }));
                }
            });
            let expected: i64 = moves.iter().take(6).flatten().map(|by| i64::from(*by)).sum();
            prop_assert_eq!(tally.sum().cast_signed(), expected);
        }
    }
}
