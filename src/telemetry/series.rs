//! One series of a counter or gauge family: what it is now, and how it is written. Knows no family by name.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{CounterFn, GaugeFn};

use super::tally::Tally;

/// What has a place in Prometheus' text format.
pub(super) trait Render {
    /// Appends it: a line, or some. `labels` are as [`super::family::labelled`] writes them.
    fn render(&self, name: &str, labels: &str, out: &mut String);
}

/// Appends one sample, with the labels in braces where there are any.
pub(super) fn sample(name: &str, labels: &str, value: impl std::fmt::Display, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

impl CounterFn for Tally {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    fn absolute(&self, value: u64) {
        static ALONE: Mutex<()> = Mutex::new(());
        // Of two threads that were told the same, only the first finds something missing.
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.add(value.saturating_sub(self.sum()));
    }
}

impl Render for Tally {
    fn render(&self, name: &str, labels: &str, out: &mut String) {
        sample(name, labels, self.sum(), out);
    }
}

/// A gauge. To move it costs what counting does; to set it takes a lock, which is for what is set now and then.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// By how much it has moved, up and down, since it began.
    moved: Tally,
    set: Mutex<Set>,
}

/// What a gauge was last set to.
#[derive(Debug, Default)]
struct Set {
    value: f64,
    /// What [`Level::moved`] was then.
    moved: u64,
}

/// Up to this, every whole number is a float as well.
const EXACT: i64 = 1 << f64::MANTISSA_DIGITS;

impl Level {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, whatever moves it")]
    fn value(&self) -> f64 {
        let set = self.lock();
        set.value + self.moved.sum().wrapping_sub(set.moved).cast_signed() as f64
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GaugeFn for Level {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "what is no whole number becomes another number on the way there and back"
    )]
    fn increment(&self, value: f64) {
        let whole = value as i64;
        if whole as f64 == value && (-EXACT..=EXACT).contains(&whole) {
            self.moved.add(whole.cast_unsigned());
        } else {
            self.lock().value += value;
        }
    }

    fn decrement(&self, value: f64) {
        self.increment(-value);
    }

    fn set(&self, value: f64) {
        let mut set = self.lock();
        *set = Set {
            value,
            moved: self.moved.sum(),
        };
    }
}

impl Render for Level {
    fn render(&self, name: &str, labels: &str, out: &mut String) {
        sample(name, labels, self.value(), out);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_counter_told_its_number_by_many_threads_has_the_highest() {
        let tally = Tally::default();
        tally.increment(7);
        thread::scope(|scope| {
            for thread in 0..4 {
                let tally = &tally;
                scope.spawn(move || (0..=1000).for_each(|value| tally.absolute(value * 4 + thread)));
            }
        });
        assert_eq!(tally.sum(), 4003);
        tally.absolute(5);
        assert_eq!(tally.sum(), 4003);
    }

    #[test]
    fn a_gauge_that_one_thread_raises_and_another_lowers_is_level_in_the_end() {
        let (gauge, both) = (Level::default(), Barrier::new(2));
        thread::scope(|scope| {
            for by in [1.0, -1.0] {
                let (gauge, both) = (&gauge, &both);
                scope.spawn(move || {
                    both.wait();
                    (0..10_000).for_each(|_| gauge.increment(by));
                });
            }
        });
        assert_eq!(gauge.value().to_bits(), 0.0_f64.to_bits());
        thread::scope(|scope| {
            scope.spawn(|| gauge.set(0.5)).join().unwrap();
            scope.spawn(|| gauge.decrement(2.0)).join().unwrap();
        });
        assert_eq!(gauge.value().to_bits(), (-1.5_f64).to_bits());
    }

    #[test]
    fn what_is_no_number_is_shown_until_the_gauge_is_set_again() {
        let gauge = Level::default();
        gauge.increment(3.0);
        for odd in [f64::NAN, f64::INFINITY] {
            gauge.increment(odd);
            assert!(!gauge.value().is_finite());
            gauge.increment(1.0);
            assert!(!gauge.value().is_finite());
            gauge.set(1.25);
            gauge.increment(1.0);
            assert_eq!(gauge.value().to_bits(), 2.25_f64.to_bits());
        }
        gauge.set(f64::NAN);
        assert!(gauge.value().is_nan());
        gauge.set(1e300);
        gauge.decrement(1e300);
        assert_eq!(gauge.value().to_bits(), 0.0_f64.to_bits());
    }

    #[derive(Clone, Debug)]
    enum Change {
        Raise(f64),
        Lower(f64),
        Set(f64),
    }

    /// Whole numbers and quarters: sums of them have no remainder.
    fn number() -> impl Strategy<Value = f64> {
        let quarters = any::<i16>().prop_map(|quarters| f64::from(quarters) / 4.0);
        prop_oneof![any::<i16>().prop_map(f64::from), quarters]
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            number().prop_map(Change::Raise),
            number().prop_map(Change::Lower),
            number().prop_map(Change::Set),
        ]
    }

    proptest! {
        /// One after the other, whichever thread each is made on.
        #[test]
        fn a_gauge_is_what_one_number_would_be(changes in prop::collection::vec((change(), any::<bool>()), 0..12)) {
            let gauge = Level::default();
            let mut expected = 0.0_f64;
            for (change, elsewhere) in &changes {
                let make = || match change {
                    Change::Raise(by) => gauge.increment(*by),
                    Change::Lower(by) => gauge.decrement(*by),
                    Change::Set(to) => gauge.set(*to),
                };
                if *elsewhere {
                    thread::scope(|scope| scope.spawn(make).join().unwrap());
                } else {
                    make();
                }
                match change {
                    Change::Raise(by) => expected += by,
                    Change::Lower(by) => expected -= by,
                    Change::Set(to) => expected = *to,
                }
                prop_assert!((gauge.value() - expected).abs() == 0.0, "{} instead of {expected}", gauge.value());
            }
        }
    }
}
