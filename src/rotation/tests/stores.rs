//! One file before two stores: what holds of one holds of each. The note that a key is going, the epoch behind it, the proof and
//! the look at what no rule covers are had of both before the key goes.

use std::time::Duration;

use tokio::sync::watch;

use super::model::{ask, block_on, documents, record, run, run_on};
use super::world::{Place, World};
use crate::files::StoreNumber;
use crate::rotation::machine::{Command, Session, Stop, next};
use crate::rotation::{Driver, Error, Limits, Outcome, Refusal, Site as _, Stage, User};

const LONG: Duration = Duration::from_secs(600);

/// Of no rule.
const STRAY: &[u8] = b"/registry/leases/default/a";

async fn run_both(one: &World, two: &World, command: Command) -> Result<Outcome, Error> {
    run_on(&Place(one, vec![Place(two, Vec::new())]), &ask(command), LONG).await
}

/// A sweep of `world` with the file as it is, which whoever carries it out may not bring to its end; whether not.
async fn sweep_or_die(world: &World) -> bool {
    let config = (*world.file.borrow().config).clone();
    let (_stop, stop) = watch::channel(false);
    let site = Place(world, Vec::new());
    let has_died = tokio::select! {
        outcome = site.sweep(&config, stop) => outcome.is_err(),
        () = world.death.notified() => true,
    };
    world.revive();
    has_died
}

#[test]
fn what_no_rule_of_the_other_store_covers_keeps_the_key_and_that_store_is_named() {
    block_on(async {
        let one = World::new(1, &documents()[0], 2);
        let two = one.beside(2, 2);
        let old = one.file.borrow().config.writing_keys();
        two.stray(STRAY);
        for _ in 0..2 {
            let error = run_both(&one, &two, Command::RotateKeys).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Uncovered { .. }), "{text}");
            assert!(
                text.contains("1 value of ") && text.contains("in the etcd etcd-two at revision "),
                "{text}"
            );
        }
        assert!(one.file.borrow().config.has_key(&old[0]));
        two.remove(STRAY);
        let done = run_both(&one, &two, Command::RotateKeys)
            .await
            .expect("nothing is in the way");
        assert_eq!(done.removed, old);
    });
}

#[test]
fn a_sweep_of_the_other_store_that_replaced_the_epoch_before_the_note_proves_nothing() {
    let mut met = 0;
    for dies_after in 1..60 {
        block_on(async {
            let one = World::new(dies_after.into(), &documents()[0], 0);
            let two = one.beside(u64::from(dies_after) + 1_000, 0);
            for command in [Command::Prepare, Command::Rotate] {
                run_both(&one, &two, command).await.expect("one after the other");
            }
            let noted = two.noted();
            two.dies_after.set(dies_after);
            let has_died = sweep_or_die(&two).await;
            // Left at its proof, so that the next sweep takes it up there.
            if has_died && two.epoch().revision() > noted {
                met += 1;
            }
            run_both(&one, &two, Command::Reencrypt)
                .await
                .expect("the old key goes");
            assert_eq!(one.file.borrow().config.key_ids().len(), 1);
            // Its record is not written but to note that.
            let (epoch, noted) = (two.epoch().revision(), two.noted());
            assert!(
                noted > 0 && epoch > noted,
                "dies after {dies_after}: epoch {epoch}, noted at {noted}"
            );
        });
    }
    assert!(met > 0, "no sweep was left at its proof");
}

#[test]
fn whoever_dies_neither_store_has_what_the_file_does_not_open() {
    for seed in 0..40 {
        block_on(async {
            let one = World::new(seed, &documents().remove(0), 2);
            let two = one.beside(seed + 1_000, 2);
            let old = one.file.borrow().config.writing_keys();
            for _ in 0..3 {
                one.dies_after.set(u32::try_from(seed).unwrap() * 4 + 1);
                tokio::select! {
                    outcome = run_both(&one, &two, Command::RotateKeys) => drop(outcome),
                    () = one.death.notified() => {}
                }
                one.revive();
                two.revive();
            }
            // A process of the other store comes back with the file as it was.
            two.come_back("late");
            let is_gone = !one.file.borrow().config.has_key(&old[0]);
            if !is_gone {
                two.give_in();
                run_both(&one, &two, Command::RotateKeys).await.expect("a rotation");
            }
            for _ in 0..200 {
                two.others();
            }
            one.arrive_all();
            two.arrive_all();
        });
    }
}

#[test]
fn a_rotation_of_the_other_store_is_refused_and_so_is_one_that_leaves_out_a_store() {
    block_on(async {
        let one = World::new(1, &documents()[0], 1);
        let two = one.beside(2, 1);
        run(&two, &ask(Command::Prepare), LONG).await.expect("of its own");
        let error = run_both(&one, &two, Command::RotateKeys).await.unwrap_err();
        let is_named = matches!(&error, Error::Refused(Refusal::RotatesElsewhere { name, stage }) if name == "etcd-two" && *stage == Stage::Prepare);
        assert!(is_named, "{error}");
        assert_eq!(record(&one).await.stage, Stage::Start);

        // The file says that there is one more, or that it is not known yet which.
        let (_stop, stop) = watch::channel(false);
        let driver = Driver {
            site: &Place(&one, Vec::new()),
            source: &*one,
            audience: &super::world::Deaf,
            limits: Limits { timeout: LONG },
            stop,
        };
        let (mut facts, _) = driver.facts().await.expect("the facts");
        for (store, is_refused) in [(StoreNumber::of("a store"), true), (StoreNumber::UNKNOWN, false)] {
            let user = User {
                store,
                is_running: true,
                mark: None,
            };
            facts.strangers = vec![user.clone()];
            for command in [Command::Prepare, Command::Abort, Command::Enable] {
                let outcome = next(&ask(command), &facts, &Session::default());
                let refusal = Stop::Refused(Refusal::OtherStore(Box::new(user.clone())));
                assert_eq!(
                    matches!(&outcome, Err(why) if *why == refusal),
                    is_refused,
                    "{outcome:?}"
                );
            }
        }
    });
}
