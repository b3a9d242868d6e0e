//! Whatever comes between: writers with either configuration, deletions, leases that end, compaction, calls that fail,
//! sweeps that die, lose their lease, or come in pairs. Nothing that was acknowledged is lost, and in the end all is fresh.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;
use tokio::time::sleep;

use super::model::Model;
use super::world::{KEY_NEW, KEY_OLD, aescbc, aesgcm, identity, opened, scope, sealed_by};
use crate::etcd::epoch;
use crate::sweep::{Error, Finding, Limits, Observer, Options, Progress, Report, Scope, sweep};

pub(super) struct Silent;

impl Observer for Silent {
    fn notice(&self, _text: &str) {}
    fn progress(&self, progress: &Progress) {
        assert!(progress.done <= progress.total);
    }
}

fn options(is_adaptive: bool) -> Options {
    Options {
        limits: Limits {
            concurrency: 8,
            is_adaptive,
            keys_per_second: None,
            bytes_per_second: None,
        },
        max_wait: Duration::from_secs(120),
        restart: false,
        dry_run: false,
    }
}

/// Runs a sweep to its end, or to its death: `None` then.
pub(super) async fn run(model: &Model, scope: &Scope, is_adaptive: bool) -> Option<Result<Report, Error>> {
    let (_stop, stopped) = watch::channel(false);
    let options = options(is_adaptive);
    tokio::select! {
        report = sweep(&model, scope, &options, Arc::new(Silent), stopped) => Some(report),
        () = model.death.notified() => None,
    }
}

/// The same, by a process that reads the epoch before it begins.
async fn run_anew(model: &Model, scope: &Scope, is_adaptive: bool) -> Option<Result<Report, Error>> {
    let mut scope = scope.clone();
    scope.epoch = loop {
        tokio::select! {
            epoch = epoch::read(&model, &scope.state) => match epoch {
                Ok(epoch) => break epoch,
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
            () = model.death.notified() => return None,
        }
    };
    run(model, &scope, is_adaptive).await
}

/// What everybody but the sweeps has done: plaintext and lease of every key that should be there.
type Expected = RefCell<BTreeMap<Vec<u8>, (Vec<u8>, i64)>>;

/// A writer, and all that can go wrong, until `is_over`.
async fn disturb(model: &Model, expected: &Expected, writers: &[Scope; 2], is_over: &Cell<bool>) {
    let mut leases = Vec::new();
    let mut turn = 0;
    while !is_over.get() {
        let pause = model.random(40);
        sleep(Duration::from_millis(pause.into())).await;
        turn += 1;
        let key = format!("/registry/secrets/default/{:02}", model.random(40)).into_bytes();
        match model.random(100) {
            0..60 => {
                let plaintext = format!("value {turn}").into_bytes();
                let lease = if model.random(4) == 0 {
                    let lease = model.new_lease();
                    leases.push(lease);
                    lease
                } else {
                    0
                };
                let writer = &writers[model.random(2) as usize];
                model.put(&key, &sealed_by(writer, &key, &plaintext), lease);
                expected.borrow_mut().insert(key, (plaintext, lease));
            }
            60..80 => {
                model.delete(&key);
                expected.borrow_mut().remove(&key);
            }
            80..90 => {
                if let Some(lease) = leases.pop() {
                    model.end_lease(lease);
                    expected.borrow_mut().retain(|_, (_, other)| *other != lease);
                }
            }
            90..96 => model.compact(),
            96 => {
                // The owner is cut off for longer than its lease lives.
                if let Some(lease) = model.owner_lease() {
                    model.end_lease(lease);
                }
            }
            _ => model.trouble.set(model.random(200)),
        }
    }
}

fn check(model: &Model, expected: &Expected, readers: &Scope) {
    let now = model.now();
    let secrets: Vec<_> = now.values().filter(|kv| kv.key.starts_with(b"/registry/")).collect();
    let expected = expected.borrow();
    assert_eq!(secrets.len(), expected.len());
    for kv in secrets {
        let (plaintext, lease) = &expected[&kv.key[..]];
        assert_eq!((&opened(readers, &kv.key, &kv.value), &kv.lease), (plaintext, lease));
    }
}

/// From what to what.
fn change(index: u32) -> (Vec<String>, Vec<String>) {
    let (old, new) = (aescbc("old", KEY_OLD), aescbc("new", KEY_NEW));
    match index {
        0 => (vec![old.clone()], vec![new, old]),
        1 => (vec![identity()], vec![new, identity()]),
        2 => (vec![old.clone(), identity()], vec![identity(), old]),
        _ => (vec![old.clone()], vec![aesgcm("new", KEY_NEW), old]),
    }
}

async fn history(seed: u64, is_adaptive: bool, deaths: u32) {
    let (from, to) = change(u32::try_from(seed % 4).unwrap());
    let to_refs: Vec<&str> = to.iter().map(String::as_str).collect();
    let target = scope(&to_refs);
    let former = scope(&from.iter().map(String::as_str).collect::<Vec<_>>());
    let model = Model::new(seed, &to_refs);
    let expected = Expected::default();
    for index in 0..40 {
        let key = format!("/registry/secrets/default/{index:02}").into_bytes();
        model.put(&key, &sealed_by(&former, &key, b"first"), 0);
        expected.borrow_mut().insert(key, (b"first".to_vec(), 0));
    }
    model.latency.set(200);
    // One with the configuration that is being replaced writes along.
    let writers = [target.clone(), former];
    let is_over = Cell::new(false);
    let sweeps = async {
        for _ in 0..deaths {
            model.dies_after.set(1 + model.random(120));
            if let Some(Err(error)) = run_anew(&model, &target, is_adaptive).await {
                let is_in_order = matches!(error, Error::Held(_)) || error.is_resumable();
                assert!(is_in_order, "{error:?}");
            }
            // At times before the lease of the dead one has ended.
            sleep(Duration::from_secs(model.random(20).into())).await;
        }
        model.dies_after.set(0);
        // In pairs.
        let (one, other) = tokio::join!(
            run_anew(&model, &target, is_adaptive),
            run_anew(&model, &target, is_adaptive)
        );
        for error in [one, other].into_iter().flatten().filter_map(Result::err) {
            let is_in_order = matches!(error, Error::Held(_)) || error.is_resumable();
            assert!(is_in_order, "{error:?}");
        }
        is_over.set(true);
    };
    tokio::join!(sweeps, disturb(&model, &expected, &writers, &is_over));
    check(&model, &expected, &target);

    // Now nothing disturbs.
    model.trouble.set(0);
    sleep(Duration::from_secs(20)).await;
    // The first may have taken up one that came past what was written since; the proof says so, and the next does it.
    let mut report = run_anew(&model, &target, is_adaptive)
        .await
        .expect("it lives")
        .expect("nothing is in its way");
    if report.finding != Finding::Clean {
        report = run_anew(&model, &target, is_adaptive)
            .await
            .expect("it lives")
            .expect("nothing is in its way");
    }
    assert_eq!(report.finding, Finding::Clean);
    check(&model, &expected, &scope(&to_refs[..1]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_was_acknowledged_is_lost(seed in any::<u64>(), is_adaptive in any::<bool>(), deaths in 0..6u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(history(seed, is_adaptive, deaths));
    }
}
