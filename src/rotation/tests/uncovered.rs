//! A key that something needs which no rule covers does not go: not in a rotation, not in its taking back, whoever dies
//! meanwhile; and it goes once nothing does.

use std::rc::Rc;
use std::time::Duration;

use super::model::{ask, block_on, documents, record, run, run_or_die};
use super::world::World;
use crate::rotation::machine::{Command, How};
use crate::rotation::{Error, Stage};

const LONG: Duration = Duration::from_secs(600);

/// One that was taken out of the rules, one that lies outside of the prefix.
const STRAYS: [&[u8]; 2] = [b"/registry/leases/default/a", b"/elsewhere/a"];

fn expect_in_the_way(outcome: &Result<crate::rotation::Outcome, Error>, what: &str) {
    let Err(Error::Uncovered { found, way_on }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(found.contains(what) && !way_on.is_empty(), "{found}. {way_on}");
}

#[test]
fn a_rotation_keeps_the_old_key_while_a_value_without_a_rule_needs_it() {
    for stray in STRAYS {
        block_on(async {
            let world = World::new(1, &documents()[0], 2);
            let old = world.file.borrow().config.writing_keys();
            world.stray(stray);
            let rotating = ask(Command::RotateKeys);
            expect_in_the_way(&run(&world, &rotating, LONG).await, "1 value of ");
            // However often it is asked for, and by whichever process.
            expect_in_the_way(&run(&world, &rotating, LONG).await, "under aescbc key \"k\"");
            assert!(world.file.borrow().config.has_key(&old[0]));
            assert_eq!(record(&world).await.stage, Stage::ReencryptActive);
            world.remove(stray);
            let done = run(&world, &rotating, LONG).await.expect("nothing is in the way");
            assert_eq!(done.removed, old);
        });
    }
}

#[test]
fn taking_a_rotation_back_keeps_the_new_key_likewise() {
    block_on(async {
        let world = World::new(2, &documents()[0], 2);
        let before = Rc::clone(&world.file.borrow().config);
        for command in [Command::Prepare, Command::Rotate] {
            run(&world, &ask(command), LONG).await.expect("one after the other");
        }
        let fresh = world.file.borrow().config.writing_keys();
        // Written by somebody while the rule for it was there.
        world.stray(STRAYS[0]);
        expect_in_the_way(&run(&world, &ask(Command::Abort), LONG).await, fresh[0].name.as_str());
        assert!(world.file.borrow().config.has_key(&fresh[0]));
        world.remove(STRAYS[0]);
        run(&world, &ask(Command::Abort), LONG)
            .await
            .expect("nothing is in the way");
        assert_eq!(world.file.borrow().config.entries, before.entries);
    });
}

#[test]
fn whoever_dies_the_key_is_there_in_the_end() {
    for (seed, stray) in (0..12).zip(STRAYS.into_iter().cycle()) {
        block_on(async {
            let world = World::new(u64::from(seed), &documents()[0], 2);
            let old = world.file.borrow().config.writing_keys();
            world.stray(stray);
            let rotating = ask(Command::RotateKeys);
            for _ in 0..4 {
                world.dies_after.set(seed * 25 + 1);
                run_or_die(&world, &rotating).await;
            }
            world.settle();
            expect_in_the_way(&run(&world, &rotating, LONG).await, "1 value of ");
            assert!(world.file.borrow().config.has_key(&old[0]), "seed {seed}");
        });
    }
}

#[test]
fn who_leaves_the_old_key_needs_no_look() {
    block_on(async {
        let world = World::new(3, &documents()[0], 1);
        world.stray(STRAYS[0]);
        for command in [Command::Prepare, Command::Rotate] {
            run(&world, &ask(command), LONG).await.expect("one after the other");
        }
        let mut skipping = ask(Command::Reencrypt);
        skipping.how = How {
            skip: true,
            ..How::default()
        };
        run(&world, &skipping, LONG).await.expect("no key goes");
        assert_eq!(world.file.borrow().config.key_ids().len(), 2);
        // It goes with the next rotation, which therefore looks for both.
        expect_in_the_way(&run(&world, &ask(Command::RotateKeys), LONG).await, "aescbc key \"k\"");
    });
}
