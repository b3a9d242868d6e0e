//! Records under the state prefix that nobody of ours wrote: the rotation's, damaged at any stage; members', and those of rights,
//! that no lease ends. Writes go on where it can be known that nothing is going; each command says what leads out; that command
//! does; and everything can be read afterwards.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{SIZE, expect_all_under, secrets};
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::pb::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup, replace};
use crate::common::rotation::{Home, Outcome, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill};
use crate::common::tools::Version;

const STATE: &str = "/etcd-encryption-proxy/";
const RECORD: &str = "/etcd-encryption-proxy/rotation";
const KEYS: usize = 30;
const FORGOTTEN: &str = "what left no way out is forgotten";
const ROTATED: &str = "keys rotated, reencryption finished";
const WAY_OUT: &str = "`secrets-encrypt abort --forget`";

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What is left of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Truncated,
    Empty,
    Random,
    Newer,
}

impl Damage {
    async fn make(self, direct: &Client) {
        let record = direct.get(RECORD).await.map(|kv| kv.value).unwrap_or_default();
        let bytes = match self {
            Self::Truncated => record[..record.len() * 2 / 3].to_vec(),
            Self::Empty => Vec::new(),
            Self::Random => (0..200u32)
                .map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
                .collect(),
            Self::Newer => {
                let text = String::from_utf8(record).expect("a record");
                text.replace("\"schema\":1", "\"schema\":2").into_bytes()
            }
        };
        if self == Self::Random {
            // Damaged twice: what it was is two steps back.
            direct.put(RECORD, "rubbish").await;
        }
        direct.put(RECORD, bytes).await;
    }
}

struct Scene {
    direct: Client,
    shared: Shared,
    proxies: [Proxy; 2],
    // Outlives the others.
    etcd: Etcd,
}

impl Scene {
    async fn start(home: Home) -> Self {
        Self::with(home, "--sweep=auto").await
    }

    async fn with(home: Home, flag: &str) -> Self {
        let etcd = Etcd::start(Version::share()).await;
        let direct = etcd.client().await;
        fill(&direct, KEYS, SIZE).await;
        let shared = Shared::at(home, &etcd.endpoint(), &document(&[K1, IDENTITY]));
        let proxies = ["a", "b"].map(|name| shared.setup(name).flag(flag).start());
        Self {
            direct,
            shared,
            proxies,
            etcd,
        }
    }

    /// Brings a rotation to `stage`.
    async fn bring_to(&self, stage: &str) {
        let shared = &self.shared;
        if stage == "start" {
            return;
        }
        shared.succeed(&["prepare"], "prepare completed successfully").await;
        if stage == "prepare" {
            return;
        }
        shared.succeed(&["rotate"], "rotate completed successfully").await;
        if stage == "rotate" {
            return;
        }
        // Up to where the old key is noted as going, and only etcd's history is waited for.
        let ended = shared.run(&["reencrypt", "--timeout=5s"]).await;
        assert_eq!(ended.code, Some(6), "{ended:#?}");
        let status = shared.status().await;
        assert_eq!(status["stage"], "reencrypt_active");
        assert!(
            status["blocked"].to_string().contains("history before revision"),
            "{status}"
        );
    }

    async fn writes(&self, name: &str) {
        for (proxy, index) in self.proxies.iter().zip(0..) {
            let key = format!("/registry/secrets/default/{name}-{index}");
            let client = proxy.client().await;
            client.put(key.clone(), key.clone()).await;
            assert_eq!(client.value(&key).await, key.as_bytes());
        }
    }

    async fn are_refused(&self, name: &str) {
        for (proxy, index) in self.proxies.iter().zip(0..) {
            let client = proxy.client().await;
            let key = format!("/registry/secrets/default/{name}-{index}");
            until("a refusal", async || put(&client, &key).await.is_err()).await;
            let why = put(&client, &key).await.expect_err("it is refused");
            assert!(why.message().contains(WAY_OUT), "{why}");
            let ready = http::get(&proxy.metrics_url(), "/readyz/writes")
                .await
                .expect("an answer")
                .body;
            assert!(ready.contains("REFUSED") && ready.contains(WAY_OUT), "{ready}");
            // Reads go on.
            assert_eq!(client.value(&super::key(0)).await, super::plaintext(0, SIZE));
        }
    }

    async fn record(&self) -> Vec<u8> {
        self.direct.get(RECORD).await.map(|kv| kv.value).unwrap_or_default()
    }

    /// Each command says what is wrong and what leads out, and changes nothing.
    async fn expect_told(&self, damage: Damage) {
        let record = self.record().await;
        let status = self.shared.run(&["status"]).await;
        assert_eq!(status.code, Some(0), "{status:#?}");
        for part in [
            "Current Rotation Stage: unknown",
            "Blocked: the record of the rotation cannot be read: ",
            "since revision ",
            WAY_OUT,
        ] {
            assert!(status.stdout.contains(part), "{part}: {status:#?}");
        }
        let status = self.shared.status().await;
        assert_eq!(status["stage"], "unknown");
        assert_eq!(status["damaged"]["isNewer"], Value::Bool(damage == Damage::Newer));
        if damage == Damage::Newer {
            assert_eq!(status["damaged"]["schema"], 2);
        }
        for words in [
            &["rotate-keys", "--compact"][..],
            &["abort"],
            &["prepare", "--dry-run"],
            &["reencrypt", "--force"],
        ] {
            let refused = self.shared.run(words).await;
            assert_eq!(refused.code, Some(3), "{words:?}: {refused:#?}");
            assert!(refused.stderr.contains(WAY_OUT), "{words:?}: {refused:#?}");
        }
        let plan = self.shared.run(&["abort", "--forget", "--dry-run"]).await;
        assert_eq!(plan.code, Some(0), "{plan:#?}");
        assert!(
            plan.stdout
                .starts_with("`abort --forget` would\n1. write a fresh record"),
            "{plan:#?}"
        );
        assert_eq!(self.record().await, record, "nothing was written");
    }

    /// The way out, and what is possible then.
    async fn leads_out(&self) -> Outcome {
        let done = self.shared.succeed(&["abort", "--forget"], FORGOTTEN).await;
        let status = self.shared.status().await;
        assert_eq!(
            (&status["stage"], &status["damaged"]),
            (&json!("start"), &Value::Null),
            "{status}"
        );
        let again = self.shared.run(&["abort", "--forget"]).await;
        assert_eq!(again.code, Some(3), "{again:#?}");
        assert!(again.stderr.contains("there is nothing to forget"), "{again:#?}");
        // Those that were refused look again within seconds.
        for proxy in &self.proxies {
            let client = proxy.client().await;
            until("a write that is taken", async || {
                put(&client, "/registry/secrets/default/first").await.is_ok()
            })
            .await;
        }
        self.writes("after").await;
        done
    }

    async fn rotates(&self) {
        self.shared.succeed(&["rotate-keys", "--compact"], ROTATED).await;
        let all: Vec<&Proxy> = self.proxies.iter().collect();
        expect_all_under(&self.direct, &all, KEYS, &self.shared.keys()[0]).await;
    }
}

async fn put(client: &Client, key: &str) -> Result<(), tonic::Status> {
    let request = PutRequest {
        key: key.into(),
        value: b"value".to_vec(),
        ..PutRequest::default()
    };
    client.kv().put(request).await.map(drop)
}

async fn compact(direct: &Client) {
    let revision = direct
        .range(RangeRequest {
            key: b"x".to_vec(),
            ..RangeRequest::default()
        })
        .await;
    let request = CompactionRequest {
        revision: revision.header.expect("a header").revision,
        physical: true,
    };
    direct.kv().compact(request).await.expect("a compaction");
}

/// Damaged at `stage`, and out of it again.
async fn damaged_at(home: Home, stage: &str, damage: Damage) {
    let scene = Scene::start(home).await;
    scene.bring_to(stage).await;
    let before = scene.shared.keys();
    damage.make(&scene.direct).await;
    if damage == Damage::Newer {
        scene.are_refused("during").await;
    } else {
        // Each has met it, and writes on.
        for proxy in &scene.proxies {
            until("a proxy that has met it", async || {
                proxy.output().contains("this process writes on by what it was before")
            })
            .await;
        }
        scene.writes("during").await;
    }
    scene.expect_told(damage).await;
    scene.leads_out().await;
    assert_eq!(scene.shared.keys(), before, "no configuration was changed");
    scene.rotates().await;
}

macro_rules! damages {
    ($($name:ident: $home:expr, $stage:expr, $damage:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            damaged_at($home, $stage, $damage).await;
        }
    )*};
}

damages! {
    an_empty_record_before_any_rotation_is_replaced: Home::File, "start", Damage::Empty;
    a_record_cut_off_while_the_new_key_reads_is_replaced: Home::File, "prepare", Damage::Truncated;
    random_bytes_for_a_record_while_the_new_key_writes_are_replaced: Home::File, "rotate", Damage::Random;
    a_record_cut_off_while_the_old_key_goes_is_replaced: Home::File, "reencrypt_active", Damage::Truncated;
    a_record_of_a_newer_version_is_given_up_where_that_is_asked_for: Home::File, "prepare", Damage::Newer;
    random_bytes_for_the_record_of_a_keyring_in_etcd_are_replaced: Home::Etcd, "prepare", Damage::Random;
    an_empty_record_of_a_keyring_in_etcd_is_replaced_while_the_new_key_writes: Home::Etcd, "rotate", Damage::Empty;
    a_record_of_a_newer_version_of_a_keyring_in_etcd_is_given_up: Home::Etcd, "rotate", Damage::Newer;
}

/// Where etcd's history no longer tells what the record was, nobody who does not know it writes; and a key that was removed stays
/// barred by the files that were kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_history_nothing_is_written_and_a_key_that_is_gone_stays_barred() {
    let mut scene = Scene::start(Home::File).await;
    scene.rotates().await;
    let names = scene.shared.keys();
    Damage::Empty.make(&scene.direct).await;
    for proxy in &scene.proxies {
        until("a proxy that has met it", async || {
            proxy.output().contains("writes on by what it was before")
        })
        .await;
    }
    compact(&scene.direct).await;
    // Who knows it writes on, through new epochs, too; who is new does not know it.
    let epoch = format!("{STATE}epoch");
    scene.direct.put(epoch, "0123456789abcdef0123456789abcdef").await;
    scene.writes("known").await;
    scene.proxies = [scene.shared.member("c"), scene.shared.member("d")];
    scene.are_refused("unknown").await;
    scene.expect_told(Damage::Empty).await;

    // One with another configuration stands in the way, and is named.
    let folder = tempfile::tempdir().expect("a folder");
    let own = folder.path().join("own.yaml");
    crate::common::rotation::write_private(&own, &document(&[K1, IDENTITY]));
    let old = Setup::sharing(scene.etcd.endpoint(), &own).member("old").start();
    until("the record of it", async || {
        scene.shared.status().await["members"]
            .as_array()
            .is_some_and(|members| members.len() == 3)
    })
    .await;
    let refused = scene.shared.run(&["abort", "--forget"]).await;
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    assert!(refused.stderr.contains("old (http://127.0.0.1:"), "{refused:#?}");
    drop(old);
    until("the end of its record", async || {
        scene.shared.status().await["members"]
            .as_array()
            .is_some_and(|members| members.len() == 2)
    })
    .await;

    let done = scene.leads_out().await;
    assert!(done.stdout.contains("go on barring aescbc key \"k1\""), "{done:#?}");
    assert!(done.stdout.contains("the files kept beside"), "{done:#?}");
    let old = Setup::sharing(scene.etcd.endpoint(), &own).member("old").start();
    let client = old.client().await;
    until("a refusal", async || {
        put(&client, "/registry/secrets/default/late").await.is_err()
    })
    .await;
    let why = put(&client, "/registry/secrets/default/late")
        .await
        .expect_err("refused");
    assert!(why.message().contains("k1"), "{why}");
    replace(&own, scene.shared.text());
    until("a write with the present one", async || {
        put(&client, "/registry/secrets/default/late").await.is_ok()
    })
    .await;
    let all = secrets(&scene.direct).await;
    assert!(all.iter().all(|value| !value.starts_with(b"k8s:enc:aescbc:v1:k1:")));
    drop(old);
    until("the end of its record", async || {
        scene.shared.status().await["members"]
            .as_array()
            .is_some_and(|members| members.len() == 2)
    })
    .await;
    scene.rotates().await;
    let keys = scene.shared.keys();
    assert!(keys.len() == 1 && !names.contains(&keys[0]), "{keys:?} after {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_processes_that_no_lease_ends_are_named_and_removed() {
    for home in [Home::File, Home::Etcd] {
        // Members that never sweep go on with nothing by themselves.
        let scene = Scene::with(home, "--sweep=off").await;
        let members = scene.direct.everything().await;
        let member = members
            .iter()
            .find(|kv| kv.key.starts_with(b"/etcd-encryption-proxy/members/"));
        let copy = String::from_utf8(member.expect("a member").value.clone()).expect("text");
        let names = [copy.contains("\"name\":\"a\""), copy.contains("\"name\":\"b\"")];
        assert_eq!(names.iter().filter(|is| **is).count(), 1);
        let copy = copy
            .replace("\"name\":\"a\"", "\"name\":\"ghost\"")
            .replace("\"name\":\"b\"", "\"name\":\"ghost\"");
        let holder = json!({"host": "gone", "pid": 1, "since": "2026-01-01T00:00:00Z", "lease": 7}).to_string();
        for (name, value, timeout, code) in [
            ("members/00000000deadbeef", copy, "--timeout=2s", 4),
            ("members/rubbish", "rubbish".to_owned(), "--timeout=2s", 4),
            ("driver", holder.clone(), "--timeout=2s", 6),
            ("driver", "rubbish".to_owned(), "--timeout=2s", 6),
            ("sweep/owner", holder, "--timeout=60s", 6),
        ] {
            let key = format!("{STATE}{name}");
            scene.direct.put(key.clone(), value).await;
            let ended = scene.shared.run(&["rotate-keys", "--compact", timeout]).await;
            assert_eq!(ended.code, Some(code), "{name}: {ended:#?}");
            assert!(
                ended.stderr.contains("No lease ends that record") && ended.stderr.contains(WAY_OUT),
                "{name}: {ended:#?}"
            );
            let status = scene.shared.run(&["status"]).await;
            assert_eq!(status.code, Some(0), "{name}: {status:#?}");
            assert!(status.stdout.contains(WAY_OUT), "{name}: {status:#?}");
            let plan = scene.shared.run(&["abort", "--forget", "--dry-run"]).await;
            assert!(plan.stdout.contains("1. remove the record of "), "{name}: {plan:#?}");
            assert!(scene.direct.get(key.clone()).await.is_some());
            let done = scene.shared.succeed(&["abort", "--forget"], FORGOTTEN).await;
            assert!(done.stdout.contains("- remove the record of "), "{name}: {done:#?}");
            assert!(scene.direct.get(key).await.is_none(), "{name}");
        }
        scene.shared.succeed(&["rotate-keys", "--compact"], ROTATED).await;
        let all: Vec<&Proxy> = scene.proxies.iter().collect();
        expect_all_under(&scene.direct, &all, KEYS, &scene.shared.keys()[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_damaged_is_told_before_anything_is_begun() {
    let scene = Scene::start(Home::File).await;
    let checkpoint = format!("{STATE}sweep/checkpoint");
    until("the first sweep", async || {
        scene.direct.get(checkpoint.clone()).await.is_some()
            && scene.direct.get(format!("{STATE}sweep/owner")).await.is_none()
    })
    .await;
    scene.direct.put(checkpoint, "{\"schema\":1,").await;
    for proxy in &scene.proxies {
        let mut said = String::new();
        until("a member that says so", async || {
            let ready = http::get(&proxy.metrics_url(), "/readyz/sweep")
                .await
                .expect("an answer");
            said = ready.body;
            said.contains("failing: ")
        })
        .await;
        assert!(said.contains("`sweep --restart` begins anew"), "{said}");
    }
    let status = scene.shared.run(&["status"]).await;
    assert_eq!(status.code, Some(0), "{status:#?}");
    assert!(
        status
            .stdout
            .contains("Blocked: the checkpoint of sweeps in etcd cannot be read"),
        "{status:#?}"
    );
    let record = scene.record().await;
    for words in [&["rotate-keys"][..], &["reencrypt", "--force"]] {
        let began = Instant::now();
        let ended = scene.shared.run(words).await;
        assert_eq!(ended.code, Some(1), "{words:?}: {ended:#?}");
        assert!(ended.stderr.contains("--restart"), "{words:?}: {ended:#?}");
        assert_eq!(
            scene.record().await,
            record,
            "{words:?}: nothing was begun in {:?}",
            began.elapsed()
        );
    }
    scene
        .shared
        .succeed(&["rotate-keys", "--compact", "--restart"], ROTATED)
        .await;
    let all: Vec<&Proxy> = scene.proxies.iter().collect();
    expect_all_under(&scene.direct, &all, KEYS, &scene.shared.keys()[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_is_none_is_replaced() {
    let scene = Scene::start(Home::File).await;
    scene.writes("before").await;
    scene
        .direct
        .put(
            format!("{STATE}epoch"),
            "far too long to be the epoch of anything at all",
        )
        .await;
    let client = scene.proxies[0].client().await;
    let put = tokio::spawn(async move { put(&client, "/registry/secrets/default/waits").await });
    let status = scene.shared.run(&["status"]).await;
    assert_eq!(status.code, Some(0), "{status:#?}");
    assert!(
        status.stdout.contains("which is no epoch") && status.stdout.contains("abort --forget"),
        "{status:#?}"
    );
    let done = scene.shared.succeed(&["abort", "--forget"], FORGOTTEN).await;
    assert!(
        done.stdout.contains("replace the epoch in etcd, at revision "),
        "{done:#?}"
    );
    // Whether it waited or was refused.
    drop(put.await.expect("its task"));
    scene.writes("after").await;
    scene.rotates().await;
}
