//! `abort` where somebody has put another key first by hand, or where etcd is older than the file: it takes away what the
//! rotation added, and no key writes again that the rotation did not replace.

use std::time::Duration;

use super::model::{ask, block_on, document, documents, record, run};
use super::printed::{cbc, facts, key};
use super::world::{Loaded, World};
use crate::config::{Draft, Key, KeyId, KeyType};
use crate::rotation::machine::{Command, Session, Stop, next};
use crate::rotation::record::Record;
use crate::rotation::{Refusal, Stage};
use crate::types::{KeyName, SecretBytes};

const WAIT: Duration = Duration::from_secs(600);

fn birch() -> KeyId {
    KeyId {
        provider: KeyType::AesCbc.into(),
        name: KeyName::new("birch"),
    }
}

/// By hand: `birch` behind `over`, and once every member has loaded that, in front of all.
fn put_first(world: &World, over: &KeyId) {
    let key = Key {
        name: birch().name,
        secret: SecretBytes::new(vec![7; 32]),
    };
    let edit = |change: &dyn Fn(&mut Draft), comment: &str| {
        let mut draft = Draft::of(&world.file.borrow().config);
        change(&mut draft);
        world.edit(&draft.render(comment));
        world.settle();
    };
    edit(&|draft| draft.append(over, KeyType::AesCbc, &key), "behind");
    edit(&|draft| draft.promote(&birch(), over), "first");
}

#[test]
fn a_key_that_somebody_put_first_goes_on_writing() {
    for (seed, stage) in (0..8).flat_map(|seed| [(seed, Command::Prepare), (seed, Command::Rotate)]) {
        block_on(async {
            let world = World::new(seed, &documents().remove(0), 2);
            let alder = world.file.borrow().config.writing_keys().remove(0);
            run(&world, &ask(Command::Prepare), WAIT).await.expect("prepare");
            if stage == Command::Rotate {
                run(&world, &ask(Command::Rotate), WAIT).await.expect("rotate");
            }
            let fresh = record(&world).await.fresh;
            let writer = world.file.borrow().config.writing_keys().remove(0);
            put_first(&world, &writer);
            run(&world, &ask(Command::Abort), WAIT).await.expect("abort");
            let config = world.file.borrow().config.clone();
            assert_eq!(
                config.writing_keys(),
                [birch()],
                "seed {seed}, after {}",
                stage.as_str()
            );
            assert!(config.has_key(&alder) && !config.has_key(&fresh[0]));
            assert_eq!(record(&world).await.stage, Stage::Start);
            world.arrive_all();
            world.check();
        });
    }
}

/// The rotation's pair, where the new key writes for one rule, and `birch` for the other.
#[test]
fn the_old_key_writes_again_only_where_the_new_one_writes() {
    let rule = |resource: &str, names: &[&str]| {
        format!(
            "- {{resources: [{resource}], providers: [{}, {{identity: {{}}}}]}}\n",
            cbc(names)
        )
    };
    let text = document(&(rule("secrets", &["F", "alder"]) + &rule("configmaps", &["birch", "alder", "F"])));
    let config = Loaded::of(&text).config;
    let mut draft = Draft::of(&config);
    draft.reinstate(&key("alder"), &key("F"));
    let after = Loaded::of(&draft.render("after")).config;
    assert_eq!(after.writing_keys(), [key("alder"), key("birch")]);
}

#[test]
fn where_the_old_key_is_not_listed_it_is_refused_and_says_what_writes() {
    let rotated = Record {
        stage: Stage::Rotate,
        fresh: vec![key("F")],
        retiring: vec![key("alder")],
        names: vec!["F".to_owned()],
        ..Record::default()
    };
    let refused = next(
        &ask(Command::Abort),
        &facts(&[&cbc(&["F"])], rotated),
        &Session::default(),
    );
    let Err(Stop::Refused(refusal @ Refusal::NoWayBack { .. })) = refused else {
        panic!("{refused:?}");
    };
    let text = refusal.to_string();
    assert!(
        text.starts_with("aescbc key \"F\" writes in an entry that does not list aescbc key \"alder\""),
        "{text}"
    );
}
