//! What a sweep that died leaves to the next: no more than a page to look at again, and counts as if nothing had been.

use std::time::Duration;

use tokio::time::sleep;

use super::interleavings::run;
use super::model::Model;
use super::world::{KEY_NEW, KEY_OLD, aescbc, scope, sealed_by};
use crate::sweep::pass::PAGE_KEYS;
use crate::sweep::{Error, Finding};

const KEYS: usize = 2_500;

fn filled(seed: u64) -> (Model, crate::sweep::Scope) {
    let (old, new) = (aescbc("old", KEY_OLD), aescbc("new", KEY_NEW));
    let model = Model::new(seed, &[&new, &old]);
    let former = scope(&[&old]);
    for index in 0..KEYS {
        let key = format!("/registry/secrets/default/{index:04}").into_bytes();
        model.put(&key, &sealed_by(&former, &key, b"value"), 0);
    }
    // History would take the test's memory; nobody asks for it here.
    model.compact();
    (model, scope(&[&new, &old]))
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_page_is_looked_at_again() {
    let (model, scope) = filled(7);
    let mut deaths = 0;
    let report = loop {
        model.dies_after.set(600);
        match run(&model, &scope, false).await {
            None => deaths += 1,
            Some(Ok(report)) => break report,
            Some(Err(Error::Held(_))) => {}
            Some(Err(error)) => panic!("{error}"),
        }
        sleep(Duration::from_secs(20)).await;
    };
    assert!(deaths > 2, "it died {deaths} times");
    assert_eq!(report.finding, Finding::Clean);
    // In a model without anybody else each is written once, whatever died when.
    assert_eq!(model.rewrites.get() as usize, KEYS);
    // Counts go with the position, so what is looked at again is counted once.
    assert_eq!(report.counts.scanned, KEYS as u64);
    // Rewrite and proof, and for each death a page of what was done and one that was read ahead.
    let most = 2 * KEYS + deaths * (2 * PAGE_KEYS);
    assert!(model.read.get() <= most, "{} read, {most} at most", model.read.get());
}

#[tokio::test(start_paused = true)]
async fn trouble_that_does_not_pass_ends_the_sweep_resumably() {
    let (model, scope) = filled(8);
    model.dies_after.set(0);
    model.trouble.set(1_000);
    let outcome = run(&model, &scope, true).await.expect("it lives");
    assert!(matches!(outcome, Err(Error::GaveUp { .. })), "{outcome:?}");
    model.trouble.set(0);
    sleep(Duration::from_secs(20)).await;
    let report = run(&model, &scope, true)
        .await
        .expect("it lives")
        .expect("nothing is in its way");
    assert_eq!(report.finding, Finding::Clean);
}
