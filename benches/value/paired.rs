//! Two ways to do the same, timed in turns: a short sample of the one, then of the other, again and again. What else the machine
//! does, and how fast its clock is just now, meets both alike, so that their ratio means something on a busy machine too.
//!
//! The time is that which the thread had on a CPU, and the least of all samples is what counts: what a sample takes beyond it
//! was in its way.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Samples of each, and how long one is, about.
const SAMPLES: usize = 100;
const SAMPLE: Duration = Duration::from_millis(1);

/// What is timed, again and again.
pub type Work = Box<dyn FnMut()>;

/// Nanoseconds that a round of each takes.
pub fn nanos<const N: usize>(works: &mut [Work; N]) -> [f64; N] {
    let mut rounds = works.each_mut().map(|work| {
        // The first round is slower: caches, buffers that grow.
        work();
        let mut rounds = 1_u32;
        while cpu_time(work, rounds) < SAMPLE / 2 {
            rounds *= 2;
        }
        rounds
    });
    let mut least = [f64::INFINITY; N];
    for _ in 0..SAMPLES {
        for ((work, rounds), least) in works.iter_mut().zip(&mut rounds).zip(&mut least) {
            let nanos = cpu_time(work, *rounds).as_secs_f64() * 1e9 / f64::from(*rounds);
            *least = least.min(nanos);
        }
    }
    least
}

fn cpu_time(work: &mut Work, rounds: u32) -> Duration {
    let begun = now();
    for _ in 0..rounds {
        work();
    }
    now().saturating_sub(begun)
}

/// How long this thread has been on a CPU.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time after the thread's start")
}
