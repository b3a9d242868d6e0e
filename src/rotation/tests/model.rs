//! Commands in any order, by drivers that die anywhere, over members that load late or never: nothing is ever unreadable, and
//! from wherever it has come to there is a way on, and a way back until a key is gone.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;

use super::world::{Deaf, Loaded, Place, STATE, World};
use crate::config::{KeyType, Target};
use crate::rotation::machine::{Ask, Command, How};
use crate::rotation::record::Record;
use crate::rotation::{Driver, Error, Limits, Outcome, Refusal, Stage};
use crate::types::StatePrefix;

const SECRET: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
const OTHER: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";

pub(super) fn document(rules: &str) -> String {
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{rules}")
}

/// Chains as operators have them.
pub(super) fn documents() -> Vec<String> {
    let cbc = |name: &str| format!("aescbc: {{keys: [{{name: {name}, secret: {SECRET}}}]}}");
    let rule = |resources: &str, providers: &[&str]| {
        let providers: Vec<_> = providers.iter().map(|provider| format!("{{{provider}}}")).collect();
        format!(
            "- {{resources: [{resources}], providers: [{}]}}\n",
            providers.join(", ")
        )
    };
    let box_ = format!("secretbox: {{keys: [{{name: s, secret: {OTHER}}}, {{name: old, secret: {SECRET}}}]}}");
    let both = format!("aescbc: {{keys: [{{name: a, secret: {OTHER}}}, {{name: k, secret: {SECRET}}}]}}");
    let gcm = format!("aesgcm: {{keys: [{{name: k, secret: {OTHER}}}]}}");
    vec![
        document(&rule("secrets, configmaps", &[&cbc("k"), "identity: {}"])),
        document(&(rule("secrets", &[&cbc("k"), "identity: {}"]) + &rule("configmaps", &[&cbc("k")]))),
        document(
            &(rule("secrets", &[&box_, &cbc("k")]) + &rule("configmaps, secrets", &[&gcm, &cbc("k"), "identity: {}"])),
        ),
        // One that writes for one rule and reads for another, which comes first; more than one provider of a type.
        document(&(rule("secrets", &[&both]) + &rule("configmaps", &[&cbc("k"), "identity: {}", &gcm, &cbc("old")]))),
    ]
}

/// And those that write in the clear.
pub(super) fn all_documents() -> Vec<String> {
    let cbc = format!("{{aescbc: {{keys: [{{name: k, secret: {SECRET}}}]}}}}");
    let mut all = documents();
    all.push(document(
        "- {resources: [secrets, configmaps], providers: [{identity: {}}]}\n",
    ));
    all.push(document(&format!(
        "- {{resources: [secrets], providers: [{{identity: {{}}}}, {cbc}]}}\n\
         - {{resources: [configmaps], providers: [{cbc}, {{identity: {{}}}}]}}\n"
    )));
    all
}

pub(super) fn ask(command: Command) -> Ask {
    Ask {
        command,
        how: How::default(),
        wait: true,
        // The very same second, always.
        now: "2026-01-31T12:00:00Z".to_owned(),
        host: "here".to_owned(),
    }
}

pub(super) async fn run(world: &World, ask: &Ask, timeout: Duration) -> Result<Outcome, Error> {
    run_on(&Place(world, Vec::new()), ask, timeout).await
}

pub(super) async fn run_on(site: &Place<'_>, ask: &Ask, timeout: Duration) -> Result<Outcome, Error> {
    let world = site.0;
    let (_stop, stop) = watch::channel(false);
    let driver = Driver {
        site,
        source: world,
        audience: &Deaf,
        limits: Limits { timeout },
        stop,
    };
    driver.run(ask).await
}

/// Runs it until it ends or dies.
pub(super) async fn run_or_die(world: &World, ask: &Ask) {
    let timeout = Duration::from_secs(20);
    tokio::select! {
        outcome = run(world, ask, timeout) => drop(outcome),
        () = world.death.notified() => {}
    }
    world.revive();
}

pub(super) async fn record(world: &World) -> Record {
    let state = StatePrefix::new(STATE).unwrap();
    Record::load(&world, &state).await.unwrap().unwrap().0
}

#[derive(Clone, Debug)]
enum Act {
    Run(Ask, u32),
    Stubborn(usize, bool),
    Start,
    Return,
    End(usize),
    Compacts(bool),
}

fn key_type() -> impl Strategy<Value = Option<KeyType>> {
    prop::option::of(prop::sample::select(vec![
        KeyType::AesCbc,
        KeyType::AesGcm,
        KeyType::Secretbox,
    ]))
}

/// What `migrate` goes over to.
pub(super) fn to() -> impl Strategy<Value = Target> {
    prop::sample::select(vec![
        Target::Identity,
        Target::Keys(KeyType::AesCbc),
        Target::Keys(KeyType::AesGcm),
        Target::Keys(KeyType::Secretbox),
    ])
}

fn act() -> impl Strategy<Value = Act> {
    use Command::{Abort, Disable, Enable, Migrate, Prepare, Reencrypt, Rotate, RotateKeys};
    let command = prop::sample::select(vec![
        Prepare, Prepare, Rotate, Rotate, Reencrypt, Reencrypt, RotateKeys, RotateKeys, Abort, Abort, Enable, Disable,
        Migrate, Migrate,
    ]);
    let dies = prop_oneof![2 => Just(0u32), 3 => 1..60u32];
    prop_oneof![
        8 => (command, prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.8), key_type(), to(), dies)
            .prop_map(|(command, force, skip, wait, key_type, to, dies)| {
                let to = Some(to).filter(|_| command == Migrate);
                Act::Run(Ask { how: How { force, skip, compact: false, key_type, to }, wait, ..ask(command) }, dies)
            }),
        2 => (0..3usize, any::<bool>()).prop_map(|(index, is)| Act::Stubborn(index, is)),
        1 => Just(Act::Start),
        2 => Just(Act::Return),
        1 => (0..3usize).prop_map(Act::End),
        1 => any::<bool>().prop_map(Act::Compacts),
    ]
}

async fn act_out(world: &Rc<World>, acts: &[Act]) {
    for (act, number) in acts.iter().zip(0..) {
        match act {
            Act::Run(ask, dies) => {
                world.dies_after.set(*dies);
                run_or_die(world, ask).await;
            }
            Act::Stubborn(index, is) => {
                if let Some(process) = world.members.borrow_mut().get_mut(*index) {
                    process.is_stubborn = *is;
                }
            }
            Act::Start => world.start(&format!("n{number}")),
            Act::Return => world.come_back(&format!("r{number}")),
            Act::End(index) if *index < world.members.borrow().len() => world.end(*index),
            Act::End(_) => {}
            Act::Compacts(is) => world.compacts.set(*is),
        }
        world.check();
    }
}

/// What an operator would do next, until nothing is left to be done.
pub(super) async fn go_on(world: &World) {
    for _ in 0..5 {
        world.settle();
        let record = record(world).await;
        let command = match (record.underway, record.stage) {
            (Some(command), _) => command,
            (None, stage) if stage.is_rest() => return,
            (None, Stage::Prepare) => Command::Rotate,
            (None, _) => Command::Reencrypt,
        };
        let to = record.how.to.filter(|_| command == Command::Migrate);
        let how = How { to, ..How::default() };
        let outcome = run(world, &Ask { how, ..ask(command) }, Duration::from_secs(600)).await;
        match outcome {
            Ok(_) => {}
            // Switched off in the middle of a rotation: it says to switch it on.
            Err(Error::Refused(Refusal::Disabled)) => {
                run(world, &ask(Command::Enable), Duration::from_secs(600))
                    .await
                    .expect("enable");
            }
            Err(error) => panic!("{} from {}: {error}", command.as_str(), record.stage),
        }
    }
}

/// How many ways are tried; `ROTATIONS` has more of them.
pub(super) fn cases() -> u32 {
    let wanted = std::env::var("ROTATIONS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(100)
}

pub(super) fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_ever_unreadable_and_there_is_a_way_on(
        seed in any::<u64>(), document in prop::sample::select(all_documents()), members in 0..4usize, trouble in 0..30u32,
        acts in prop::collection::vec(act(), 1..9), key_type in key_type(),
    ) {
        block_on(async {
            let world = World::new(seed, &document, members);
            world.trouble.set(trouble);
            act_out(&world, &acts).await;
            world.give_in();
            go_on(&world).await;
            let record = record(&world).await;
            assert!(record.stage.is_rest() && record.underway.is_none(), "{record:?}");
            world.settle();
            run(&world, &ask(Command::Enable), Duration::from_secs(600)).await.expect("enable");
            let writing = world.file.borrow().config.writing_keys();
            let last = Ask { how: How { key_type, ..How::default() }, ..ask(Command::RotateKeys) };
            run(&world, &last, Duration::from_secs(600)).await.expect("a rotation from rest");
            let config = Rc::clone(&world.file.borrow().config);
            let now = config.writing_keys();
            assert!(writing.iter().all(|key| !now.contains(key)));
            assert!(now.iter().all(|key| key_type.is_none_or(|wanted| key.provider == wanted)));
            world.arrive_all();
            world.check();
        });
    }

    #[test]
    fn until_a_key_is_gone_there_is_a_way_back(
        seed in any::<u64>(), document in prop::sample::select(documents()), members in 0..4usize,
        dies in 1..140u32, skip in any::<bool>(), key_type in key_type(),
    ) {
        block_on(async {
            let world = World::new(seed, &document, members);
            let before = Rc::clone(&world.file.borrow().config);
            world.dies_after.set(dies);
            run_or_die(&world, &Ask { how: How { key_type, ..How::default() }, ..ask(Command::RotateKeys) }).await;
            let is_missing = !before.key_ids().iter().all(|key| world.file.borrow().config.has_key(key));
            // From the note on that it is being removed, it counts as gone.
            let noted = record(&world).await;
            let (gone, is_begun) = (is_missing || noted.removing, !noted.fresh.is_empty());
            let outcome = run(&world, &Ask { how: How { skip, ..How::default() }, ..ask(Command::Abort) }, Duration::from_secs(600)).await;
            match outcome {
                Ok(_) => {
                    assert!(!gone && is_begun);
                    let after = Rc::clone(&world.file.borrow().config);
                    assert_eq!(after.writers(), before.writers());
                    assert!(skip || after.entries == before.entries, "as it was");
                    assert_eq!(record(&world).await.stage, Stage::Start);
                }
                Err(Error::Refused(refusal)) => assert!(gone || !is_begun, "{refusal}"),
                Err(error) => panic!("{error}"),
            }
            world.arrive_all();
            world.check();
        });
    }
}

/// Two rotations in a row beneath three members that write, and then whatever is still on its way.
fn rotate_twice(seed: u64, has_fence: bool) {
    block_on(async {
        let world = World::new(seed, &documents().remove(0), 3);
        world.has_fence.set(has_fence);
        for _ in 0..2 {
            run(&world, &ask(Command::RotateKeys), Duration::from_secs(600))
                .await
                .expect("a rotation");
        }
        world.arrive_all();
    });
}

/// What shows that the model finds what is lost: without the fence, late writes bring back keys that are gone.
#[test]
fn without_the_fence_something_becomes_unreadable() {
    let is_lost = |seed: u32| std::panic::catch_unwind(|| rotate_twice(seed.into(), false)).is_err();
    assert!(
        (0..20).any(is_lost),
        "twenty seeds, and nothing is lost without a fence"
    );
    (0..20).for_each(|seed| rotate_twice(seed, true));
}

#[test]
fn a_member_that_never_loads_holds_the_rotation_and_is_named() {
    block_on(async {
        let world = World::new(1, &documents()[0], 3);
        world.members.borrow_mut()[1].is_stubborn = true;
        let error = run(&world, &ask(Command::RotateKeys), Duration::from_secs(60))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::NotLoaded { .. }) && text.contains("m1 () has loaded"),
            "{text}"
        );
        assert_eq!(record(&world).await.stage, Stage::Prepare);
        // Nothing is forced upon it either.
        let forced = Ask {
            how: How {
                force: true,
                ..How::default()
            },
            ..ask(Command::Rotate)
        };
        let error = run(&world, &forced, Duration::from_secs(60)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("m1 has not shown that it reads with aescbc key"),
            "{error}"
        );
        // It goes, and all is well.
        world.end(1);
        run(&world, &ask(Command::RotateKeys), Duration::from_secs(600))
            .await
            .unwrap_err();
        run(&world, &ask(Command::Rotate), Duration::from_secs(600))
            .await
            .unwrap();
        run(&world, &ask(Command::Reencrypt), Duration::from_secs(600))
            .await
            .unwrap();
        assert_eq!(world.file.borrow().config.key_ids().len(), 1);
    });
}

#[test]
fn without_compaction_the_old_key_stays_and_is_removed_later() {
    block_on(async {
        let world = World::new(1, &documents()[0], 2);
        world.compacts.set(false);
        let error = run(&world, &ask(Command::RotateKeys), Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::History { .. }), "{error}");
        assert_eq!(world.file.borrow().config.key_ids().len(), 2);
        world.compacts.set(true);
        run(&world, &ask(Command::RotateKeys), Duration::from_secs(60))
            .await
            .unwrap();
        assert_eq!(world.file.borrow().config.key_ids().len(), 1);
    });
}

#[test]
fn what_does_not_open_keeps_the_old_key_until_that_is_accepted() {
    block_on(async {
        let world = World::new(1, &documents()[0], 1);
        let other = Loaded::of(&document(&format!(
            "- {{resources: [secrets], providers: [aesgcm: {{keys: [{{name: lost, secret: {OTHER}}}]}}]}}\n"
        )));
        world.spoil(&other);
        let error = run(&world, &ask(Command::RotateKeys), Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("1 value does not open, so no key was removed"),
            "{error}"
        );
        let skip = Ask {
            how: How {
                skip: true,
                ..How::default()
            },
            ..ask(Command::Reencrypt)
        };
        run(&world, &skip, Duration::from_secs(60)).await.unwrap();
        assert_eq!(record(&world).await.stage, Stage::ReencryptFinished);
        assert_eq!(world.file.borrow().config.key_ids().len(), 2);
    });
}

#[test]
fn two_processes_that_are_asked_for_the_same_both_learn_that_it_is_done() {
    for seed in 0..8 {
        block_on(async {
            let world = World::new(seed, &documents().remove(0), 2);
            let (one, other) = (ask(Command::RotateKeys), ask(Command::RotateKeys));
            let timeout = Duration::from_secs(600);
            let (one, other) = tokio::join!(run(&world, &one, timeout), run(&world, &other, timeout));
            let (one, other) = (one.expect("the one"), other.expect("the other"));
            // One of them has done it, and both know what came of it.
            assert_eq!(one.removed, other.removed, "seed {seed}");
            assert_eq!(one.removed.len(), 1, "seed {seed}");
            assert!(one.report.is_some() != other.report.is_some(), "seed {seed}");
        });
    }
}

#[test]
fn a_rotation_that_is_under_way_is_taken_back_at_once_by_another_process() {
    block_on(async {
        let world = World::new(1, &documents().remove(0), 2);
        // It waits for this one, for ever.
        world.members.borrow_mut()[0].is_stubborn = true;
        let before = world.file.borrow().config.writing_keys();
        let timeout = Duration::from_secs(600);
        let (rotating, aborting) = (ask(Command::RotateKeys), ask(Command::Abort));
        let abort = async {
            while record(&world).await.stage != Stage::Prepare {
                tokio::task::yield_now().await;
            }
            world.members.borrow_mut()[0].is_stubborn = false;
            run(&world, &aborting, timeout).await
        };
        let (rotated, aborted) = tokio::join!(run(&world, &rotating, timeout), abort);
        assert!(matches!(rotated, Err(Error::Overtaken(_))), "{rotated:?}");
        aborted.expect("an abort");
        assert_eq!(world.file.borrow().config.writing_keys(), before);
    });
}
