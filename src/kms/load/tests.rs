//! What is learnt of a plugin, in time that the tests move.

use tokio::time::advance;

use super::*;

const MOST: usize = 64;
const QUICK: Duration = Duration::from_millis(2);

fn answers(load: &mut Load, count: usize) -> isize {
    (0..count).map(|_| load.answered(QUICK)).sum()
}

#[tokio::test(start_paused = true)]
async fn good_answers_double_the_calls_with_each_round_up_to_the_bound() {
    let mut load = Load::new(MOST);
    assert_eq!(load.places(), FIRST);
    assert_eq!(answers(&mut load, FIRST), 16);
    assert_eq!(load.places(), 2 * FIRST);
    answers(&mut load, 1000);
    assert_eq!(load.places(), MOST);
    assert_eq!(load.turn(), None, "who is never refused is not held back");

    assert_eq!(Load::new(1).places(), 1);
    let mut narrow = Load::new(3);
    assert_eq!((answers(&mut narrow, 100), narrow.places()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn refusals_halve_the_calls_and_those_that_come_together_count_once() {
    let mut load = Load::new(MOST);
    assert_eq!(load.refused(), -8);
    assert_eq!(load.refused(), 0);
    advance(TOGETHER).await;
    assert_eq!(load.refused(), -4);
    for _ in 0..10 {
        advance(TOGETHER).await;
        load.refused();
    }
    assert_eq!(load.places(), 1, "one call is always made");
    // From the first refusal on each round of calls brings one more, not twice as many.
    let before = load.places();
    answers(&mut load, 4);
    assert!((before + 1..=before + 3).contains(&load.places()), "{}", load.places());
}

#[tokio::test(start_paused = true)]
async fn calls_follow_each_other_as_fast_as_was_measured_and_are_forgiven_after_a_while() {
    let mut load = Load::new(MOST);
    for _ in 0..100 {
        advance(Duration::from_millis(10)).await;
        load.answered(QUICK);
    }
    load.refused();
    let (first, second) = (load.turn().unwrap(), load.turn().unwrap());
    // A hundred calls were answered in the second before.
    assert!(
        (Duration::from_millis(9)..Duration::from_millis(12)).contains(&(second - first)),
        "{:?}",
        second - first
    );
    advance(FORGIVEN.saturating_sub(Duration::from_millis(1))).await;
    load.answered(QUICK);
    assert!(load.turn().is_some());
    advance(Duration::from_millis(1)).await;
    load.answered(QUICK);
    assert_eq!(load.turn(), None);
}

#[tokio::test(start_paused = true)]
async fn answers_that_take_ever_longer_lessen_the_calls() {
    let mut load = Load::new(MOST);
    answers(&mut load, 1000);
    for _ in 0..20 {
        advance(Duration::from_secs(1)).await;
        load.answered(Duration::from_millis(500));
    }
    let places = load.places();
    assert!((1..MOST).contains(&places), "{places}");
    for _ in 0..200 {
        advance(Duration::from_secs(1)).await;
        load.answered(Duration::from_secs(5));
    }
    assert!((1..places).contains(&load.places()), "{}", load.places());
}

/// The gate gives and takes permits as it is told to: whatever comes, there are as many as places, but for those that are owed.
#[tokio::test(start_paused = true)]
async fn permits_and_places_agree() {
    let mut load = Load::new(MOST);
    let mut permits = isize::try_from(load.places()).unwrap();
    let mut out = 0;
    for step in 0_u64..20_000 {
        // A walk that takes all branches, the same each time.
        let draw = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60;
        advance(Duration::from_millis(draw * 20)).await;
        match draw {
            0..=5 if permits > 0 => (permits, out) = (permits - 1, out + 1),
            6..=14 if out > 0 => {
                let change = if draw == 14 {
                    load.refused()
                } else {
                    load.answered(QUICK * u32::try_from(draw).unwrap())
                };
                let gone = if change < 0 { permits.min(-change) } else { 0 };
                load.owe((-change - gone).max(0).unsigned_abs());
                permits += if change < 0 { -gone } else { change };
                out -= 1;
                permits += isize::from(!load.pays());
            }
            _ => {}
        }
        let owed = isize::try_from(load.owed).unwrap();
        assert!(permits >= 0 && load.places >= 1);
        assert_eq!(
            permits + out - owed,
            isize::try_from(load.places).unwrap(),
            "step {step}"
        );
    }
}

/// A plugin that takes so many calls a second and refuses the others: it is kept busy, and refusals stay few.
#[tokio::test(start_paused = true)]
async fn a_plugin_that_throttles_is_used_as_far_as_it_goes() {
    for bears in [5_u32, 50, 300] {
        let (mut load, begun) = (Load::new(MOST), Instant::now());
        let (mut taken, mut refused) = (0_u32, 0_u32);
        // As a token bucket with a tenth of a second in it.
        let burst = f64::from(bears) / 10.0;
        let (mut bucket, mut filled) = (burst.max(1.0), begun);
        while begun.elapsed() < Duration::from_secs(60) {
            // As many calls as there are places, each when it is its turn; an answer takes two milliseconds.
            for _ in 0..load.places() {
                if let Some(turn) = load.turn() {
                    advance(turn.saturating_duration_since(Instant::now())).await;
                }
                let now = Instant::now();
                bucket = (bucket + (now - filled).as_secs_f64() * f64::from(bears)).min(burst.max(1.0));
                filled = now;
                if bucket >= 1.0 {
                    bucket -= 1.0;
                    taken += 1;
                    load.answered(QUICK);
                } else {
                    refused += 1;
                    load.refused();
                }
            }
            advance(QUICK).await;
        }
        assert!(taken > bears * 60 / 2, "{bears} calls a second: {taken} taken");
        assert!(
            refused < taken / 2,
            "{bears} calls a second: {taken} taken, {refused} refused"
        );
    }
}
