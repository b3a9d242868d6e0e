//! Rotations under fire: three proxies, a client at each whose every request must succeed, and meanwhile members that are
//! killed at each stage, a command that is killed at each stage, a member that is frozen, an etcd that loses its leader. In the
//! end every value opens with the final configuration alone, and nothing is under the old key.
//!
//! Where the configuration lives is [`Shared`]'s business alone.

use std::time::{Duration, Instant};

use etcd_encryption_proxy::config::{Options, parse};
use etcd_encryption_proxy::keyring::Keyring;
use etcd_encryption_proxy::keyspace::{EtcdPrefix, KeySpace};
use etcd_encryption_proxy::kms::Plugins;
use etcd_encryption_proxy::types::StorageKey;
use etcd_encryption_proxy::value::Deks;
use serde_json::Value;
use tokio::time::sleep;

use super::SIZE;
use super::clients::Clients;
use crate::common::client::Client;
use crate::common::cluster::Cluster;
use crate::common::etcd::{Etcd, free_ports};
use crate::common::process::{PATIENCE, Process};
use crate::common::proxy::Proxy;
use crate::common::rotation::{Home, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill, key, plaintext};
use crate::common::tools::Version;

pub const KEYS: usize = 300;
pub const ROTATE: [&str; 3] = ["rotate-keys", "--compact", "--key-type=secretbox"];
/// How far a rotation is, from its beginning to its end.
pub const STAGES: [&str; 6] = [
    "begun",
    "prepare",
    "rotate",
    "reencrypt_active",
    "dropping",
    "reencrypt_finished",
];

/// A store, three members, and a client at each.
pub struct Scene {
    pub direct: Client,
    pub shared: Shared,
    urls: Vec<String>,
    pub proxies: Vec<Proxy>,
    pub clients: Clients,
}

impl Scene {
    pub async fn start(endpoints: &str, home: Home) -> Self {
        let members: Vec<&str> = endpoints.split(',').collect();
        // Whichever of them is left in the end.
        let direct = Client::connect(members[0]).await;
        fill(&direct, KEYS, SIZE).await;
        let shared = Shared::at(home, endpoints, &document(&[K1, IDENTITY]));
        let urls: Vec<_> = free_ports::<3>()
            .iter()
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect();
        let proxies = urls.iter().enumerate();
        let proxies = proxies.map(|(index, url)| member(&shared, index, url)).collect();
        let clients = Clients::start(&urls, KEYS, SIZE);
        clients.progress(10).await;
        Self {
            direct,
            shared,
            urls,
            proxies,
            clients,
        }
    }

    /// Kills a member, and starts it anew: before its record has ended.
    pub fn kill(&mut self, index: usize) {
        self.proxies[index].process().kill();
        self.proxies[index] = member(&self.shared, index, &self.urls[index]);
    }

    /// The place in [`STAGES`], by what etcd keeps; nothing before it has begun.
    pub async fn stage(&self) -> Option<usize> {
        let record = self.direct.get("/etcd-encryption-proxy/rotation").await?;
        let record: Value = serde_json::from_slice(&record.value).expect("JSON");
        let name = match record["stage"].as_str().expect("a stage") {
            "start" => "begun",
            "reencrypt_request" => "reencrypt_active",
            _ if record["dropping"] == true => "dropping",
            stage => stage,
        };
        Some(STAGES.iter().position(|stage| *stage == name).expect("a stage"))
    }

    /// Waits until it has come to `stage`, or beyond.
    pub async fn until(&self, stage: &str) {
        let wanted = STAGES.iter().position(|name| *name == stage).expect("a stage");
        let start = Instant::now();
        while self.stage().await.is_none_or(|now| now < wanted) {
            assert!(start.elapsed() < PATIENCE, "it does not come to {stage}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// The clients end, and everything is as it should be.
    pub async fn end(self) {
        self.end_but_for("").await;
    }

    /// The same, where others wrote keys of this name that hold something else.
    pub async fn end_but_for(self, others: &str) {
        self.clients.progress(10).await;
        let (written, turns) = self.clients.end().await;
        assert!(turns > 60, "{turns} turns");
        drop(self.proxies);
        let keys = self.shared.keys();
        assert!(keys.len() == 1 && keys[0].starts_with("secretboxkey-"), "{keys:?}");
        let config = parse(self.shared.text().as_bytes(), Options { reload: true }).expect("a configuration");
        let prefix = EtcdPrefix::parse("/registry").expect("a prefix");
        let keyspace = KeySpace::new(vec![prefix]).expect("a key space");
        let keyring = Keyring::compile(&config, &keyspace, &Plugins::none()).expect("a keyring");
        let stored = self.direct.everything().await;
        let secrets = stored.iter().filter(|kv| kv.key.starts_with(b"/registry/secrets/"));
        let mut count = 0;
        for kv in secrets {
            let name = kv.key.escape_ascii().to_string();
            let under = format!("k8s:enc:secretbox:v1:{}:", keys[0]);
            assert!(
                kv.value.starts_with(under.as_bytes()),
                "{name}: {}",
                kv.value.escape_ascii()
            );
            let chain = keyring.chain(&kv.key).expect("a rule");
            let mut opened = Vec::new();
            let outcome = chain.from_storage(StorageKey(&kv.key), &kv.value, &Deks::default(), &mut opened);
            assert!(!outcome.expect("it opens").stale, "{name}");
            let filled = (0..KEYS).find(|index| key(*index).as_bytes() == kv.key);
            let expected = filled
                .map(|index| plaintext(index, SIZE))
                .or_else(|| written.get(&name).cloned());
            if !others.is_empty() && name.starts_with(others) {
                continue;
            }
            assert_eq!(Some(opened), expected, "{name}");
            count += 1;
        }
        assert_eq!(count, KEYS + written.len());
    }
}

fn member(shared: &Shared, index: usize, url: &str) -> Proxy {
    shared.setup(&format!("m{index}")).listen(&[url]).start()
}

/// Waits for its end, and fails the test unless that is as it should be.
pub async fn expect_end(process: &mut Process, code: i32) {
    let start = Instant::now();
    while process.is_running() {
        assert!(start.elapsed() < 2 * PATIENCE, "no end of it:\n{}", process.output());
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(process.wait().code(), Some(code), "{}", process.output());
}

/// Every member, one after the other, is killed when the rotation is at `stage`.
async fn members_are_killed_at(stage: &str) {
    let etcd = Etcd::start(Version::share()).await;
    let mut scene = Scene::start(&etcd.endpoint(), Home::File).await;
    let mut command = scene.shared.start(&ROTATE);
    scene.until(stage).await;
    for index in 0..scene.proxies.len() {
        scene.kill(index);
    }
    expect_end(&mut command, 0).await;
    scene.end().await;
}

macro_rules! kills {
    ($($name:ident: $stage:literal,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            members_are_killed_at($stage).await;
        }
    )*};
}

kills! {
    members_are_killed_when_it_begins: "begun",
    members_are_killed_while_the_new_key_only_reads: "prepare",
    members_are_killed_when_the_new_key_writes: "rotate",
    members_are_killed_during_the_re_encryption: "reencrypt_active",
    members_are_killed_when_the_old_key_goes: "dropping",
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_is_killed_at_each_stage() {
    let etcd = Etcd::start(Version::share()).await;
    let scene = Scene::start(&etcd.endpoint(), Home::File).await;
    let mut killed_at = Vec::new();
    for stage in &STAGES[..STAGES.len() - 1] {
        let mut command = scene.shared.start(&ROTATE);
        scene.until(stage).await;
        command.kill();
        killed_at.push(scene.stage().await.map(|stage| STAGES[stage]));
    }
    let mut command = scene.shared.start(&ROTATE);
    expect_end(&mut command, 0).await;
    killed_at.dedup();
    assert!(killed_at.len() > 2, "{killed_at:?}");
    scene.end().await;
}

/// As a machine that swaps, or a virtual one that is moved elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_frozen_is_waited_for_and_named_and_abort_works_meanwhile() {
    let etcd = Etcd::start(Version::share()).await;
    let mut scene = Scene::start(&etcd.endpoint(), Home::File).await;
    scene.proxies[2].process().signal("STOP");
    let mut command = scene.shared.start(&ROTATE);
    scene.until("prepare").await;
    command.wait_for("its name", |output| {
        (output.contains("waiting for members to load") && output.contains("m2 (")).then_some(())
    });
    // Nothing that it could not read is written.
    let stored = scene.direct.everything().await;
    assert!(!stored.iter().any(|kv| kv.value.starts_with(b"k8s:enc:secretbox:")));
    let abort = scene.shared.start(&["abort", "--compact"]);
    expect_end(&mut command, 5).await;
    scene.proxies[2].process().signal("CONT");
    expect_end(&mut { abort }, 0).await;
    assert_eq!(scene.shared.keys(), ["k1"]);
    // Once more, and it goes on when the member is back.
    scene.proxies[2].process().signal("STOP");
    let mut command = scene.shared.start(&ROTATE);
    scene.until("prepare").await;
    scene.proxies[2].process().signal("CONT");
    expect_end(&mut command, 0).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_loses_its_leader_meanwhile() {
    let mut cluster = Cluster::start(Version::share()).await;
    let mut scene = Scene::start(&cluster.endpoints(), Home::File).await;
    let mut command = scene.shared.start(&ROTATE);
    for stage in ["prepare", "reencrypt_active"] {
        scene.until(stage).await;
        let leader = cluster.leader().await;
        cluster.members[leader].kill();
        let left = (leader + 1) % cluster.members.len();
        scene.direct = cluster.members[left].client().await;
        scene.clients.progress(30).await;
        cluster.members[leader].spawn();
        cluster.members[leader].ready().await;
    }
    expect_end(&mut command, 0).await;
    scene.end().await;
}
