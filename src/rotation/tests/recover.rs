//! `recover`: values under keys that earlier rotations removed turn up, and come under what writes; whoever dies meanwhile, takes
//! it back or comes in between, nothing that opens ceases to open, and the configuration is as it was in the end.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::model::{ask, block_on, document, documents, record, run, run_on, run_or_die};
use super::world::{Loaded, Place, World};
use crate::config::EncryptionConfiguration;
use crate::rotation::machine::{Ask, Command, How};
use crate::rotation::{Error, Outcome, Refusal, Stage};

const LONG: Duration = Duration::from_secs(600);
const SECRET: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
const OTHER: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";

/// The documents, each with two rotations behind it and a value of before each of the two restored.
async fn restored(seed: u64, text: &str, members: usize) -> Rc<World> {
    let world = World::new(seed, text, members);
    let mut former = vec![world.file.borrow().clone()];
    for _ in 0..2 {
        run(&world, &ask(Command::RotateKeys), LONG).await.expect("a rotation");
        former.push(world.file.borrow().clone());
    }
    former.pop();
    for (loaded, name) in former.iter().zip(["one", "two"]) {
        world.restore(loaded, name);
    }
    world
}

fn config(world: &World) -> Rc<EncryptionConfiguration> {
    Rc::clone(&world.file.borrow().config)
}

fn asked(how: How) -> Ask {
    Ask {
        how,
        ..ask(Command::Abort)
    }
}

/// Everything is under what writes, and the configuration lists what it did.
async fn expect_recovered(world: &World, before: &EncryptionConfiguration) {
    for name in ["one", "two"] {
        assert!(world.is_fresh(name), "{name} is under what writes");
    }
    assert_eq!(config(world).entries, before.entries);
    let record = record(world).await;
    assert!(
        record.stage.is_rest() && record.underway.is_none() && record.recovered.is_empty(),
        "{record:?}"
    );
    world.arrive_all();
    world.check();
}

fn expect_nothing(outcome: &Outcome) {
    let is_empty = outcome.recovered.is_empty() && outcome.removed.is_empty() && outcome.left.is_empty();
    assert!(is_empty, "{outcome:?}");
}

#[test]
fn values_of_before_two_rotations_come_under_the_key_that_writes() {
    for (seed, text) in documents().into_iter().enumerate() {
        block_on(async {
            let world = restored(seed as u64, &text, 2).await;
            let before = config(&world);
            assert!(!world.is_fresh("one") && !world.is_fresh("two"));
            let outcome = run(&world, &ask(Command::Recover), LONG).await.expect("a recovery");
            assert!(!outcome.recovered.is_empty() && outcome.left.is_empty(), "{outcome:?}");
            expect_recovered(&world, &before).await;
            // And again: nothing is written, not even a note.
            let noted = world.noted();
            expect_nothing(&run(&world, &ask(Command::Recover), LONG).await.expect("nothing to do"));
            assert_eq!(world.noted(), noted);
            run(&world, &ask(Command::RotateKeys), LONG)
                .await
                .expect("a rotation afterwards");
        });
    }
}

#[test]
fn whoever_dies_it_goes_on() {
    for seed in 0..20_u32 {
        block_on(async {
            let documents = documents();
            let text = &documents[seed as usize % documents.len()];
            let world = restored(seed.into(), text, 2).await;
            let before = config(&world);
            for turn in 0..3 {
                world.dies_after.set(seed * 9 + turn * 17 + 1);
                run_or_die(&world, &ask(Command::Recover)).await;
            }
            run(&world, &ask(Command::Recover), LONG).await.expect("the rest of it");
            expect_recovered(&world, &before).await;
        });
    }
}

#[test]
fn meanwhile_others_are_refused_and_told_what_goes_on() {
    block_on(async {
        let world = restored(3, &documents()[0], 2).await;
        let before = config(&world);
        world.members.borrow_mut()[0].is_stubborn = true;
        let error = run(&world, &ask(Command::Recover), Duration::from_secs(30))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotLoaded { .. }), "{error}");
        for command in [
            Command::RotateKeys,
            Command::Prepare,
            Command::Rotate,
            Command::Reencrypt,
        ] {
            let error = run(&world, &ask(command), LONG).await.unwrap_err();
            assert!(
                error.to_string().contains("`recover` goes on with what was begun"),
                "{error}"
            );
        }
        let forced = Ask {
            how: How {
                force: true,
                skip: true,
                ..How::default()
            },
            ..ask(Command::Reencrypt)
        };
        let error = run(&world, &forced, LONG).await.unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Stage { .. })), "{error}");
        world.give_in();
        world.settle();
        // By another command that comes in between, it goes on where it was.
        run(&world, &ask(Command::Disable), LONG).await.expect("disable");
        run(&world, &ask(Command::Enable), LONG).await.expect("enable");
        run(&world, &ask(Command::Recover), LONG).await.expect("the rest of it");
        expect_recovered(&world, &before).await;
    });
}

#[test]
fn by_force_its_keys_go_with_the_next_rotation() {
    block_on(async {
        let world = restored(4, &documents()[0], 2).await;
        world.compacts.set(false);
        let error = run(&world, &ask(Command::Recover), Duration::from_secs(30))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::History { .. }), "{error}");
        world.compacts.set(true);
        let forced = Ask {
            how: How {
                force: true,
                ..How::default()
            },
            ..ask(Command::Prepare)
        };
        run(&world, &forced, LONG).await.expect("prepare by force");
        for command in [Command::Rotate, Command::Reencrypt] {
            run(&world, &ask(command), LONG).await.expect("one after the other");
        }
        assert_eq!(config(&world).key_ids().len(), 1, "{:?}", config(&world));
        assert!(world.is_fresh("one") && world.is_fresh("two"));
    });
}

#[test]
fn taken_back_anywhere_the_configuration_is_as_it_was() {
    for (seed, skip) in (0..14_u32).flat_map(|seed| [(seed, false), (seed, true)]) {
        block_on(async {
            let world = restored(seed.into(), &documents()[0], 2).await;
            let before = config(&world);
            world.dies_after.set(seed * 19 + 1);
            run_or_die(&world, &ask(Command::Recover)).await;
            let noted = record(&world).await;
            let listed: Vec<_> = noted
                .recovered
                .iter()
                .filter(|key| config(&world).has_key(key))
                .cloned()
                .collect();
            let how = How { skip, ..How::default() };
            match run(&world, &asked(how), LONG).await {
                Ok(_) => assert!(!noted.recovered.is_empty()),
                Err(Error::Refused(Refusal::NothingToAbort(_))) => assert!(noted.recovered.is_empty(), "{noted:?}"),
                Err(error) => panic!("{error}"),
            }
            if skip {
                assert!(listed.iter().all(|key| config(&world).has_key(key)), "they stay");
                assert!(record(&world).await.kept.iter().all(|key| listed.contains(key)));
            } else {
                assert_eq!(config(&world).entries, before.entries);
            }
            let record = record(&world).await;
            assert_eq!((record.stage, record.underway), (Stage::ReencryptFinished, None));
            // From there everything can be done again, and the keys that stayed go.
            run(&world, &ask(Command::Recover), LONG).await.expect("a recovery");
            run(&world, &ask(Command::RotateKeys), LONG).await.expect("a rotation");
            assert_eq!(config(&world).key_ids().len(), 1);
            assert!(world.is_fresh("one") && world.is_fresh("two"));
        });
    }
}

#[test]
fn two_processes_that_are_asked_for_it_both_learn_that_it_is_done() {
    for seed in 0..6 {
        block_on(async {
            let world = restored(seed, &documents()[0], 2).await;
            let before = config(&world);
            let one = ask(Command::Recover);
            let (first, second) = tokio::join!(run(&world, &one, LONG), run(&world, &one, LONG));
            assert!(first.expect("the one").left.is_empty() && second.expect("the other").left.is_empty());
            expect_recovered(&world, &before).await;
        });
    }
}

/// One rule, for secrets and configmaps.
fn rule(providers: &str) -> String {
    document(&format!(
        "- {{resources: [secrets, configmaps], providers: [{providers}]}}\n"
    ))
}

fn keys(provider: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|(name, secret)| format!("{{name: {name}, secret: {secret}}}"))
        .collect();
    format!("{{{provider}: {{keys: [{}]}}}}", keys.join(", "))
}

/// A configuration of before, and after it the one that there is now.
fn replaced(former: &[String], now: &str) -> Rc<World> {
    let world = World::new(1, now, 2);
    for former in former {
        world.keep(former);
    }
    world
}

#[test]
fn a_name_that_stood_for_two_keys_is_gone_through_once_for_each() {
    for provider in ["aescbc", "aesgcm", "secretbox"] {
        block_on(async {
            let now = rule(&keys(provider, &[("new", SECRET)]));
            let (older, newer) = (
                rule(&keys(provider, &[("k", SECRET)])),
                rule(&keys(provider, &[("k", OTHER)])),
            );
            let world = replaced(&[older.clone(), newer.clone()], &now);
            world.shares_names.set(true);
            let before = config(&world);
            world.restore(&Loaded::of(&older), "one");
            world.restore(&Loaded::of(&newer), "two");
            let outcome = run(&world, &ask(Command::Recover), LONG).await.expect("a recovery");
            assert!(outcome.left.is_empty(), "{outcome:?}");
            expect_recovered(&world, &before).await;
        });
    }
}

#[test]
fn a_name_that_stands_for_another_key_now_is_left_and_named() {
    block_on(async {
        let cbc = |secret| rule(&keys("aescbc", &[("k", secret)]));
        let world = replaced(&[cbc(OTHER)], &cbc(SECRET));
        let before = config(&world);
        world.restore(&Loaded::of(&cbc(OTHER)), "one");
        let outcome = run(&world, &ask(Command::Recover), LONG).await.expect("an answer");
        assert!(outcome.recovered.is_empty(), "{outcome:?}");
        let left = outcome.left.join("\n");
        assert!(
            left.starts_with(
                "1 value of secrets under aescbc key \"k\" (such as /registry/secrets/default/one): former 0 has"
            ) && left.contains("another one of that name"),
            "{left}"
        );
        assert_eq!(config(&world).fingerprint, before.fingerprint);
    });
}

#[test]
fn what_can_be_recovered_is_and_what_not_is_named() {
    block_on(async {
        let gcm = |name: &str, secret: &str| rule(&keys("aesgcm", &[(name, secret)]));
        let world = replaced(&[gcm("old", OTHER), gcm("bare", OTHER)], &gcm("new", SECRET));
        let before = config(&world);
        world.restore(&Loaded::of(&gcm("old", OTHER)), "one");
        // The right name, and other bytes than any file has.
        world.restore(
            &Loaded::of(&gcm("old", "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=")),
            "two",
        );
        world.restore(&Loaded::of(&gcm("gone", OTHER)), "three");
        world.restore_at(&Loaded::of(&gcm("bare", OTHER)), b"/registry/leases/default/a");
        let outcome = run(&world, &ask(Command::Recover), LONG).await.expect("an answer");
        assert_eq!(outcome.recovered.len(), 1, "{outcome:?}");
        assert!(world.is_fresh("one") && !world.is_fresh("two"));
        assert_eq!(config(&world).entries, before.entries);
        let left = outcome.left.join("\n");
        for expected in [
            "1 value of secrets under aesgcm key \"old\" (such as /registry/secrets/default/two): no file",
            "1 value of secrets under aesgcm key \"gone\" (such as /registry/secrets/default/three): no file",
            "1 value of leases.coordination.k8s.io under aesgcm key \"bare\" (such as /registry/leases/default/a): no rule covers them",
        ] {
            assert!(left.contains(expected), "{expected}: {left}");
        }
    });
}

#[test]
fn what_another_store_holds_is_recovered_too() {
    for seed in 0..6 {
        block_on(async {
            let world = restored(seed, &documents()[0], 2).await;
            let before = config(&world);
            let other = world.beside(seed + 100, 2);
            other.restore(&world.former_loaded(0), "one");
            let both = Place(&world, vec![Place(&other, Vec::new())]);
            let outcome = run_on(&both, &ask(Command::Recover), LONG).await.expect("a recovery");
            assert!(outcome.left.is_empty(), "{outcome:?}");
            assert!(other.is_fresh("one"));
            expect_recovered(&world, &before).await;
            other.arrive_all();
            other.check();
        });
    }
}

#[test]
fn a_value_that_turns_up_in_another_rule_meanwhile_is_recovered_too() {
    for seed in 0..12 {
        block_on(async {
            let world = restored(seed, &documents()[1], 2).await;
            let former = world.former_loaded(0);
            let before = config(&world);
            world.members.borrow_mut()[0].is_stubborn = true;
            let waiting = run(&world, &ask(Command::Recover), Duration::from_secs(10)).await;
            assert!(matches!(waiting, Err(Error::NotLoaded { .. })), "{waiting:?}");
            world.give_in();
            world.restore_at(&former, b"/registry/configmaps/default/late");
            run(&world, &ask(Command::Recover), LONG).await.expect("a recovery");
            expect_recovered(&world, &before).await;
            assert!(world.is_fresh_at(b"/registry/configmaps/default/late"));
        });
    }
}

/// How many ways are tried; `ROTATIONS` has more of them.
fn cases() -> u32 {
    let wanted = std::env::var("ROTATIONS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_with_other_commands_nothing_that_opens_ceases_to(
        seed in any::<u64>(), text in prop::sample::select(documents()), members in 0..3usize, trouble in 0..20u32,
        commands in prop::collection::vec((prop::sample::select(vec![
            Command::Recover, Command::Recover, Command::Abort, Command::RotateKeys, Command::Prepare, Command::Reencrypt,
            Command::Disable, Command::Enable,
        ]), prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop_oneof![Just(0u32), 1..80u32]), 1..7),
    ) {
        block_on(async {
            let world = restored(seed, &text, members).await;
            world.trouble.set(trouble);
            for (command, force, skip, dies) in commands {
                world.dies_after.set(dies);
                run_or_die(&world, &Ask { how: How { force, skip, ..How::default() }, ..ask(command) }).await;
                world.check();
            }
            world.give_in();
            world.settle();
            // What is under way first, whatever it is; then everything is readable.
            for _ in 0..6 {
                let record = record(&world).await;
                if record.stage.is_rest() && record.underway.is_none() {
                    break;
                }
                let command = match record.underway {
                    Some(command) => command,
                    None if !record.recovered.is_empty() => Command::Recover,
                    None if record.stage == Stage::Prepare => Command::Rotate,
                    None => Command::Reencrypt,
                };
                match run(&world, &ask(command), LONG).await {
                    // It does not open yet, and so holds up what removes a key.
                    Err(Error::NotProved { .. } | Error::Uncovered { .. }) => {
                        let ends = if command == Command::Abort { command } else { Command::Reencrypt };
                        let skipping = Ask { how: How { skip: true, ..How::default() }, ..ask(ends) };
                        run(&world, &skipping, LONG).await.expect("with the old key where it was");
                    }
                    Err(Error::Refused(Refusal::Disabled)) => {
                        run(&world, &ask(Command::Enable), LONG).await.expect("enable");
                    }
                    outcome => drop(outcome.expect("a way on")),
                }
            }
            run(&world, &ask(Command::Enable), LONG).await.expect("enable");
            let outcome = run(&world, &ask(Command::Recover), LONG).await.expect("a recovery");
            assert_eq!(outcome.left, Vec::<String>::new());
            run(&world, &ask(Command::RotateKeys), LONG).await.expect("a rotation from rest");
            assert!(world.is_fresh("one") && world.is_fresh("two"));
            world.arrive_all();
            world.check();
        });
    }
}
