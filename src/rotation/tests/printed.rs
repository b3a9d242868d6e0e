//! What is printed: `status` in every situation of the documents of k3s and RKE2, plans, and each refusal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::world::Loaded;
use crate::config::{KeyId, KeyType, Kms, KmsApiVersion, Target};
use crate::inventory::Under;
use crate::managed::Time;
use crate::members::{Key, Loaded as Told, Member, Roster, RuleKeys};
use crate::rotation::machine::{Ask, Command, How, Session, Stop, next};
use crate::rotation::record::{Proved, Record};
use crate::rotation::{Facts, NoProof, Pace, Stage, Status, Stuck, outline};
use crate::sweep::{Latest, Row, State, Work};
use crate::types::KeyName;

const SECRET: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";

pub(super) fn cbc(names: &[&str]) -> String {
    let keys: Vec<_> = names
        .iter()
        .map(|name| format!("{{name: '{name}', secret: {SECRET}}}"))
        .collect();
    format!("{{aescbc: {{keys: [{}]}}}}", keys.join(", "))
}

fn document(providers: &[&str]) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- {{resources: [secrets], \
         providers: [{}]}}\n",
        providers.join(", ")
    )
}

pub(super) fn key(name: &str) -> KeyId {
    KeyId {
        provider: KeyType::AesCbc.into(),
        name: KeyName::new(name),
    }
}

fn member(name: &str, fingerprint: &str, writes: &str) -> Member {
    let key = Key {
        provider: "aescbc".to_owned(),
        name: writes.to_owned(),
        print: None,
    };
    Member {
        schema: 1,
        name: name.to_owned(),
        urls: vec![format!("http://{name}:3379")],
        version: "0.1.0".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        loaded: Told {
            configuration: fingerprint.to_owned(),
            prefixes: vec!["/registry".to_owned()],
            paths: Vec::new(),
            kms: BTreeMap::new(),
        },
        rules: vec![RuleKeys {
            resources: "secrets".to_owned(),
            writes: key.clone(),
            reads: vec![key],
        }],
        roots: Vec::new(),
        fenced: true,
        renews_seeds: true,
        round_trips: Vec::new(),
        serves: None,
        refused: None,
        yields: false,
        unopened: None,
    }
}

/// Everything is well, and two members have loaded it.
pub(super) fn facts(providers: &[&str], record: Record) -> Facts {
    let config = (*Loaded::of(&document(providers)).config).clone();
    let fingerprint = config.fingerprint.to_string();
    let writes = config
        .writing_keys()
        .first()
        .map_or("", |key| key.name.as_str())
        .to_owned();
    Facts {
        record,
        config,
        source: "/etc/encryption.yaml".to_owned(),
        prefixes: vec!["/registry".to_owned()],
        paths: Vec::new(),
        roster: Roster::of(["node-1", "node-2"].map(|name| member(name, &fingerprint, &writes)), 5),
        store: None,
        servers: String::new(),
        beside: Vec::new(),
        strangers: Vec::new(),
        is_history_gone: false,
    }
}

fn at(stage: Stage) -> Record {
    Record {
        stage,
        by: "node-1".to_owned(),
        ..Record::default()
    }
}

fn rotating(stage: Stage, fresh: &str, retiring: &str) -> Record {
    Record {
        fresh: vec![key(fresh)],
        retiring: vec![key(retiring)],
        ..at(stage)
    }
}

/// One member has another configuration, and says why.
fn differing(mut facts: Facts) -> Facts {
    let mut members: Vec<Member> = facts.roster.members().cloned().collect();
    if let Some(last) = members.last_mut() {
        last.loaded.configuration =
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef".to_owned();
        last.rules = member("", "", OLD).rules;
        last.refused = Some("/etc/encryption.yaml:7:3: not valid".to_owned());
    }
    facts.roster = Roster::of(members, 5);
    facts
}

fn swept(configuration: &str) -> Latest {
    let row = |state, key: &str| Row {
        resource: "secrets".to_owned(),
        state,
        under: Under {
            provider: "aescbc".into(),
            key: key.to_owned(),
        },
    };
    Latest {
        damaged: None,
        holder: None,
        work: Some(Work {
            configuration: configuration.to_owned(),
            is_done: true,
            started: "2026-01-31T12:00:00Z".to_owned(),
            scanned: [1000, 1000],
            rewritten: 990,
            spent_ms: 400,
            rows: vec![(row(State::Current, "new"), 999), (row(State::Stale, "old\u{1b}"), 1)],
        }),
    }
}

/// The fingerprint differs with every change of a document's text; what is printed should not.
fn printed(facts: &Facts, latest: &Latest) -> String {
    let status = Status::of(facts, latest, None, None, time("2026-02-12T12:00:00Z"));
    let own = facts.config.fingerprint.to_string();
    let text = format!("{status}\n{}", json(&status));
    text.replace(&own, "sha256:OWN").replace(&own[..19], "sha256:OWN")
}

fn time(text: &str) -> Time {
    Time::parse(text).unwrap()
}

fn json(status: &Status) -> String {
    use serde::Serialize as _;
    let mut bytes = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    status
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, tabs))
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

fn ask(command: Command) -> Ask {
    Ask {
        command,
        how: How::default(),
        wait: true,
        now: "2026-01-31T12:00:00Z".to_owned(),
        host: "here".to_owned(),
    }
}

fn to_secretbox(command: Command) -> Ask {
    Ask {
        how: How {
            key_type: Some(KeyType::Secretbox),
            ..How::default()
        },
        ..ask(command)
    }
}

/// `migrate --to` that.
fn to(given: &str) -> Ask {
    let to = match given.strip_prefix("kms:") {
        None if given == "identity" => Target::Identity,
        None => Target::Keys(KeyType::Secretbox),
        Some(plugin) => {
            let (version, named) = plugin.split_once(':').unwrap();
            let (name, endpoint) = named.split_once('=').unwrap();
            Target::Kms(Kms {
                api_version: if version == "v1" {
                    KmsApiVersion::V1
                } else {
                    KmsApiVersion::V2
                },
                name: KeyName::new(name),
                cache_size: None,
                endpoint: endpoint.to_owned(),
                timeout: std::time::Duration::from_secs(3),
            })
        }
    };
    Ask {
        how: How {
            to: Some(to),
            ..How::default()
        },
        ..ask(Command::Migrate)
    }
}

const OLD: &str = "aescbckey";
const NEW: &str = "aescbckey-2021-12-10T22:54:38Z";
const IDENTITY: &str = "{identity: {}}";

#[test]
fn status_is_k3ss_and_then_ours() {
    let both = cbc(&[NEW, OLD]);
    let rotated = facts(&[&both, IDENTITY], rotating(Stage::Rotate, NEW, OLD));
    insta::assert_snapshot!(
        "status_matching",
        printed(&rotated, &swept(&rotated.config.fingerprint.to_string()))
    );
    let boxed = format!("{{secretbox: {{keys: [{{name: 'secretboxkey-2026-01-31T12:00:00Z', secret: {SECRET}}}]}}}}");
    let changing = facts(&[&cbc(&[OLD]), &boxed, IDENTITY], at(Stage::Prepare));
    insta::assert_snapshot!("status_changing", printed(&changing, &Latest::default()));
    insta::assert_snapshot!("status_differing", printed(&differing(rotated), &Latest::default()));
    let start = facts(&[&cbc(&[OLD]), IDENTITY], Record::default());
    insta::assert_snapshot!("status_start", printed(&start, &Latest::default()));
    let mut alone = facts(&[IDENTITY, &cbc(&[OLD])], Record::default());
    alone.roster = Roster::default();
    insta::assert_snapshot!("status_disabled", printed(&alone, &Latest::default()));
    let kinds = "{kms: {apiVersion: v2, name: vault, endpoint: 'unix:///nowhere'}}";
    let boxed = format!("{{secretbox: {{keys: [{{name: s, secret: {SECRET}}}]}}}}");
    let gcm = format!("{{aesgcm: {{keys: [{{name: g, secret: {SECRET}}}]}}}}");
    let text = document(&[&boxed, &gcm, kinds]);
    let config = crate::config::parse(text.as_bytes(), crate::config::Options { reload: true }).unwrap();
    let mixed = Facts {
        config,
        roster: Roster::default(),
        ..start.clone()
    };
    insta::assert_snapshot!("status_kinds", printed(&mixed, &Latest::default()));
    let mut waiting = facts(&[&both], rotating(Stage::ReencryptActive, NEW, OLD));
    waiting.record.underway = Some(Command::RotateKeys);
    waiting.record.dropping = true;
    waiting.record.proved = Some(Proved {
        configuration: "sha256:1".to_owned(),
        revision: 4711,
    });
    insta::assert_snapshot!("status_waiting", printed(&waiting, &Latest::default()));
}

#[test]
fn each_refusal_says_what_was_found_and_what_to_do() {
    let plain = |record| facts(&[&cbc(&[OLD]), IDENTITY], record);
    let both = |record| facts(&[&cbc(&[NEW, OLD]), IDENTITY], record);
    let kms = {
        let text = document(&[
            "{kms: {apiVersion: v2, name: vault, endpoint: 'unix:///nowhere'}}",
            &cbc(&[OLD]),
        ]);
        let config = crate::config::parse(text.as_bytes(), crate::config::Options { reload: true }).unwrap();
        Facts {
            config,
            roster: Roster::default(),
            ..plain(Record::default())
        }
    };
    let aborting = Record {
        underway: Some(Command::Abort),
        ..rotating(Stage::Rotate, NEW, OLD)
    };
    let forced = |command| Ask {
        how: How {
            force: true,
            ..How::default()
        },
        ..ask(command)
    };
    let cases = vec![
        (ask(Command::Prepare), plain(rotating(Stage::Prepare, NEW, OLD))),
        (ask(Command::RotateKeys), both(rotating(Stage::Rotate, NEW, OLD))),
        (ask(Command::Rotate), plain(at(Stage::Start))),
        (ask(Command::Reencrypt), both(rotating(Stage::Prepare, NEW, OLD))),
        (ask(Command::Rotate), both(aborting)),
        (ask(Command::Prepare), differing(plain(at(Stage::Start)))),
        (ask(Command::Disable), differing(plain(at(Stage::Start)))),
        (
            forced(Command::Reencrypt),
            differing(both(rotating(Stage::Rotate, NEW, OLD))),
        ),
        (ask(Command::Prepare), kms.clone()),
        (to("kms:v2:vault=unix:///elsewhere"), kms.clone()),
        (to("kms:v1:new=unix:///nowhere"), kms.clone()),
        (
            to("identity"),
            plain(Record {
                underway: Some(Command::Migrate),
                how: to("secretbox").how,
                ..rotating(Stage::Prepare, OLD, NEW)
            }),
        ),
        (to("identity"), both(rotating(Stage::Rotate, NEW, OLD))),
        (to_secretbox(Command::RotateKeys), kms),
        (
            to_secretbox(Command::RotateKeys),
            plain(Record {
                underway: Some(Command::RotateKeys),
                ..rotating(Stage::Start, NEW, OLD)
            }),
        ),
        (
            ask(Command::RotateKeys),
            facts(&[IDENTITY, &cbc(&[OLD])], at(Stage::Start)),
        ),
        (ask(Command::Rotate), plain(rotating(Stage::Prepare, NEW, OLD))),
        (forced(Command::Rotate), plain(at(Stage::Start))),
        (ask(Command::Abort), plain(at(Stage::ReencryptFinished))),
        (
            ask(Command::Abort),
            facts(
                &[&cbc(&[NEW])],
                Record {
                    dropped: vec![key(OLD)],
                    ..rotating(Stage::ReencryptActive, NEW, OLD)
                },
            ),
        ),
        (
            ask(Command::Abort),
            facts(&[&cbc(&[NEW])], rotating(Stage::ReencryptActive, NEW, OLD)),
        ),
    ];
    let mut text = String::new();
    for (ask, facts) in &cases {
        let stage = facts.record.stage;
        let Err(Stop::Refused(refusal)) = next(ask, facts, &Session::default()) else {
            panic!("`{}` at {stage} is not refused", ask.command.as_str());
        };
        let own = facts.config.fingerprint.to_string();
        let said = refusal.to_string().replace(&own, "sha256:OWN");
        writeln!(
            text,
            "{} at {stage} ({:?}): {said}\n",
            ask.command.as_str(),
            refusal.kind()
        )
        .unwrap();
    }
    let stuck = |undecryptable, refused| NoProof::Undecryptable(Stuck { undecryptable, refused });
    for why in [NoProof::Stale, stuck(3, 0), stuck(0, 1), stuck(1, 2), NoProof::Nothing] {
        writeln!(text, "{}\n", crate::rotation::Error::not_proved(why, None)).unwrap();
    }
    insta::assert_snapshot!("refusals", text);
}

#[test]
fn a_plan_tells_every_step() {
    let mut text = String::new();
    let start = facts(&[&cbc(&[OLD]), IDENTITY], at(Stage::Start));
    let rotated = facts(&[&cbc(&[NEW, OLD]), IDENTITY], rotating(Stage::Rotate, NEW, OLD));
    for (ask, facts) in [
        (ask(Command::Prepare), &start),
        (ask(Command::RotateKeys), &start),
        (to_secretbox(Command::RotateKeys), &start),
        (to("kms:v2:vault=unix:///nowhere"), &start),
        (to("identity"), &start),
        (ask(Command::Enable), &start),
        (ask(Command::Disable), &start),
        (ask(Command::Reencrypt), &rotated),
        (ask(Command::Abort), &rotated),
    ] {
        let key_type = ask
            .how
            .key_type
            .map_or_else(String::new, |of| format!(" --key-type {of}"));
        writeln!(text, "{}{key_type}", ask.command.as_str()).unwrap();
        for line in outline(&ask, facts, Some(1234), Pace::of(&swept("")), None, None).unwrap() {
            writeln!(text, "  {line}").unwrap();
        }
    }
    let mut unfinished = swept("");
    unfinished.work.as_mut().unwrap().is_done = false;
    writeln!(text, "reencrypt, where no sweep has come to its end").unwrap();
    for line in outline(
        &ask(Command::Reencrypt),
        &rotated,
        Some(1234),
        Pace::of(&unfinished),
        None,
        None,
    )
    .unwrap()
    {
        writeln!(text, "  {line}").unwrap();
    }
    insta::assert_snapshot!("plans", text);
    assert!(outline(&ask(Command::Rotate), &start, None, None, None, None).is_err());
}
