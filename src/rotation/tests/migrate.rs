//! `migrate` over the model: from any provider to any other, in the clear included, by drivers that die anywhere, and the way back.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::model::{all_documents, ask, block_on, cases, document, documents, go_on, record, run, run_or_die, to};
use super::world::World;
use crate::config::{EncryptionConfiguration, KeyId, KeyType, ProviderType, Target};
use crate::rotation::machine::{Ask, Command, How};
use crate::rotation::{Error, Refusal, Stage};

const LONG: Duration = Duration::from_secs(600);

fn migrate(to: &Target) -> Ask {
    Ask {
        how: How {
            to: Some(to.clone()),
            ..How::default()
        },
        ..ask(Command::Migrate)
    }
}

fn is_of(id: &KeyId, to: &Target) -> bool {
    match to {
        Target::Keys(of) => id.key_type() == Some(*of),
        Target::Kms(_) => matches!(id.provider, ProviderType::Kms(_)),
        Target::Identity => id.provider == ProviderType::Identity,
    }
}

/// Every rule writes what was asked for, what wrote before is gone, and all that is stored is as its rule writes it.
fn expect_migrated(world: &World, before: &EncryptionConfiguration, to: &Target) {
    let config = Rc::clone(&world.file.borrow().config);
    let now = config.writing();
    assert!(now.iter().all(|id| is_of(id, to)), "{now:?}");
    for old in before.writing().iter().filter(|old| !now.contains(old)) {
        let is_beside = config.is_beside(old, &now);
        assert!(!is_beside, "{old} is still listed");
    }
    world.arrive_all();
    world.check();
    for index in 0..4 {
        assert!(
            world.is_fresh_at(&super::world::object(index)),
            "{index} is as its rule writes it"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn from_anything_to_anything_whoever_dies(
        seed in any::<u64>(), document in prop::sample::select(all_documents()), members in 0..4usize, trouble in 0..30u32,
        ways in prop::collection::vec((to(), 0..160u32), 1..5),
    ) {
        block_on(async {
            let world = World::new(seed, &document, members);
            for ((to, dies), number) in ways.into_iter().zip(0..) {
                let before = Rc::clone(&world.file.borrow().config);
                world.trouble.set(trouble);
                world.dies_after.set(dies);
                run_or_die(&world, &migrate(&to)).await;
                world.come_back(&format!("late{number}"));
                world.give_in();
                go_on(&world).await;
                world.settle();
                run(&world, &migrate(&to), LONG).await.expect("what was killed goes on");
                let record = record(&world).await;
                assert!(record.stage == Stage::ReencryptFinished && record.underway.is_none(), "{record:?}");
                expect_migrated(&world, &before, &to);
            }
        });
    }

    #[test]
    fn until_the_old_one_is_gone_there_is_a_way_back(
        seed in any::<u64>(), document in prop::sample::select(all_documents()), members in 0..4usize,
        dies in 1..140u32, skip in any::<bool>(), to in to(),
    ) {
        block_on(async {
            let world = World::new(seed, &document, members);
            let before = Rc::clone(&world.file.borrow().config);
            world.dies_after.set(dies);
            run_or_die(&world, &migrate(&to)).await;
            let file = Rc::clone(&world.file.borrow().config);
            let noted = record(&world).await;
            let is_missing = before.writing().iter().any(|id| !file.has_key(id));
            let (gone, is_begun) = (is_missing || noted.removing, !noted.fresh.is_empty());
            let back = Ask { how: How { skip, ..How::default() }, ..ask(Command::Abort) };
            match run(&world, &back, LONG).await {
                Ok(_) => {
                    assert!(!gone && is_begun);
                    let after = Rc::clone(&world.file.borrow().config);
                    assert_eq!(after.writers(), before.writers());
                    for (now, then) in after.entries.iter().zip(&before.entries) {
                        // What read before may stand elsewhere among the readers.
                        let is_same = now.providers.len() == then.providers.len()
                            && then.providers.iter().all(|provider| now.providers.contains(provider));
                        assert!(skip || is_same, "as it was: {:?}", file.writing());
                    }
                    assert_eq!(record(&world).await.stage, Stage::Start);
                    world.arrive_all();
                    for index in (0..4).filter(|_| !skip) {
                        assert!(world.is_fresh_at(&super::world::object(index)), "{index} is as its rule writes it");
                    }
                }
                Err(Error::Refused(refusal)) => assert!(gone || !is_begun, "{refusal}"),
                Err(error) => panic!("{error}"),
            }
            world.arrive_all();
            world.check();
        });
    }
}

/// From the clear to a key and back, beneath three members that write, and then whatever is still on its way.
fn there_and_back(seed: u64, has_fence: bool) {
    block_on(async {
        let world = World::new(seed, &all_documents()[documents().len()], 3);
        world.has_fence.set(has_fence);
        for to in [Target::Keys(KeyType::Secretbox), Target::Identity] {
            run(&world, &migrate(&to), LONG).await.expect("a migration");
        }
        world.arrive_all();
    });
}

/// What shows that the model finds what is lost.
#[test]
fn without_the_fence_a_migration_makes_something_unreadable() {
    let is_lost = |seed: u32| std::panic::catch_unwind(|| there_and_back(seed.into(), false)).is_err();
    assert!(
        (0..20).any(is_lost),
        "twenty seeds, and nothing is lost without a fence"
    );
    (0..20).for_each(|seed| there_and_back(seed, true));
}

/// A process that comes back with a file which writes in the clear must not: nobody reads that any more.
#[test]
fn what_is_gone_is_not_written_with_again_until_it_is_listed_again() {
    block_on(async {
        let world = World::new(1, &all_documents()[documents().len()], 2);
        run(&world, &migrate(&Target::Keys(KeyType::AesGcm)), LONG)
            .await
            .expect("a migration");
        let clear = KeyId {
            provider: ProviderType::Identity,
            name: crate::types::KeyName::new("configmaps,secrets"),
        };
        assert_eq!(record(&world).await.dropped, std::slice::from_ref(&clear));
        run(&world, &ask(Command::Disable), LONG).await.expect("disable");
        assert_eq!(record(&world).await.dropped, []);
        // Those who write do so in the clear now.
        world.settle();
        world.arrive_all();
        run(&world, &migrate(&Target::Keys(KeyType::AesGcm)), LONG)
            .await
            .expect("a migration");
        assert_eq!(record(&world).await.dropped, [clear]);
    });
}

#[test]
fn another_command_or_another_target_is_refused_while_one_is_under_way() {
    block_on(async {
        let world = World::new(1, &documents()[0], 1);
        world.members.borrow_mut()[0].is_stubborn = true;
        let to = Target::Keys(KeyType::Secretbox);
        let error = run(&world, &migrate(&to), Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(error, Error::NotLoaded { .. }), "{error}");
        let error = run(&world, &migrate(&Target::Identity), LONG).await.unwrap_err();
        assert!(
            matches!(&error, Error::Refused(Refusal::OtherTarget(to)) if to == "secretbox"),
            "{error}"
        );
        let error = run(&world, &ask(Command::RotateKeys), LONG).await.unwrap_err();
        assert!(
            error.to_string().contains("`migrate` with the same --to goes on"),
            "{error}"
        );
        world.give_in();
        run(&world, &migrate(&to), LONG).await.expect("it goes on");
        // And again: nothing is left to be done, and that is looked at.
        let done = run(&world, &migrate(&to), LONG).await.expect("it is so already");
        assert!(done.report.is_some_and(|report| report.counts.scanned > 0) && done.removed.is_empty());
    });
}

/// A rule that has nothing but identity, beside one that encrypts, says that its resource is not encrypted.
#[test]
fn an_exception_stays_in_the_clear() {
    block_on(async {
        let text = document(
            "- {resources: [configmaps], providers: [{identity: {}}]}\n\
             - {resources: [secrets], providers: [{aescbc: {keys: [{name: k, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}}]}\n",
        );
        let world = World::new(1, &text, 2);
        run(&world, &migrate(&Target::Keys(KeyType::Secretbox)), LONG)
            .await
            .expect("a migration");
        let writing = world.file.borrow().config.writing();
        let [left, now] = &writing[..] else {
            panic!("{writing:?}")
        };
        assert_eq!(
            (left.provider, left.name.as_str()),
            (ProviderType::Identity, "configmaps")
        );
        assert_eq!(now.key_type(), Some(KeyType::Secretbox));
        // To switch all off takes it along; from there, nothing is an exception.
        run(&world, &migrate(&Target::Identity), LONG)
            .await
            .expect("a migration");
        run(&world, &migrate(&Target::Keys(KeyType::AesGcm)), LONG)
            .await
            .expect("a migration");
        let writing = world.file.borrow().config.writing();
        assert!(
            writing.iter().all(|id| id.key_type() == Some(KeyType::AesGcm)),
            "{writing:?}"
        );
    });
}
