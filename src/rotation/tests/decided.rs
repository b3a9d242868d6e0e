//! A rotation that nobody has asked for, begun by one that was held up for as long as another's took.

use std::time::Duration;

use tokio::sync::watch;

use super::model::{ask, block_on, documents, record, run};
use super::world::{Deaf, Place, World};
use crate::rotation::machine::Command;
use crate::rotation::{Decided, Driver, Error, Limits, Stage};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn of_two_that_have_decided_at_once_one_rotates() {
    block_on(async {
        let world = World::new(1, &documents()[0], 2);
        let site = Place(&world, Vec::new());
        let (_stop, stop) = watch::channel(false);
        let driver = Driver {
            site: &site,
            source: &*world,
            audience: &Deaf,
            limits: Limits { timeout: LONG },
            stop,
        };
        let (facts, revision) = driver.facts().await.expect("facts");
        let decided = Decided::by(&facts, revision);
        let rotation = ask(Command::RotateKeys);
        run(&world, &rotation, LONG).await.expect("the other one's");
        let (after, before) = (record(&world).await, facts.config.writing_keys());
        assert_eq!(after.stage, Stage::ReencryptFinished);
        let keys = world.file.borrow().config.writing_keys();
        assert_ne!(keys, before);
        let late = driver.run_decided(&rotation, decided).await;
        assert!(matches!(late, Err(Error::Overtaken(None))), "{late:?}");
        assert_eq!(
            (record(&world).await, world.file.borrow().config.writing_keys()),
            (after, keys)
        );
        // By what there is now it is carried out.
        let (facts, revision) = driver.facts().await.expect("facts");
        let done = driver.run_decided(&rotation, Decided::by(&facts, revision)).await;
        assert_eq!(done.expect("it is carried out").removed, facts.config.writing_keys());
    });
}

#[test]
fn one_that_finds_another_under_way_does_not_join_it() {
    block_on(async {
        let world = World::new(1, &documents()[0], 2);
        let site = Place(&world, Vec::new());
        let (_stop, stop) = watch::channel(false);
        let driver = Driver {
            site: &site,
            source: &*world,
            audience: &Deaf,
            limits: Limits { timeout: LONG },
            stop,
        };
        let (facts, revision) = driver.facts().await.expect("facts");
        run(&world, &ask(Command::Prepare), LONG).await.expect("by an operator");
        let late = driver
            .run_decided(&ask(Command::RotateKeys), Decided::by(&facts, revision))
            .await;
        assert!(matches!(late, Err(Error::Overtaken(None))), "{late:?}");
        assert_eq!(record(&world).await.stage, Stage::Prepare);
    });
}
