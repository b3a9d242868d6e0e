//! The operator's day, as the documents of k3s and RKE2 write it down: the same commands in the same order, every server restarted
//! where they say so, and the lines that `secrets-encrypt` prints there. With one server and with three.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::expect_all_under;
use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::pb::etcdserverpb::{CompactionRequest, RangeRequest};
use crate::common::proxy::Proxy;
use crate::common::rotation::{Outcome, Shared};
use crate::common::sweep::{key, plaintext};
use crate::common::tools::Version;

/// Secrets that are there from the beginning.
const KEYS: usize = 40;
const SIZE: usize = super::SIZE;

/// What k3s writes when it is started with `--secrets-encryption`.
const K3S: &str = r#"{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":[{"resources":["secrets"],
"providers":[{"aescbc":{"keys":[{"name":"aescbckey","secret":"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="}]}},{"identity":{}}]}]}"#;

/// As kube-apiserver stores them before encryption is there.
async fn fill(direct: &Client) {
    for index in 0..KEYS {
        direct.put(key(index), plaintext(index, SIZE)).await;
    }
}

/// kube-apiserver compacts etcd every five minutes; here it is more often.
struct Compaction {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Compaction {
    fn of(direct: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            while !stops.load(Ordering::Relaxed) {
                let nothing = RangeRequest {
                    key: b"compact_rev_key".to_vec(),
                    ..RangeRequest::default()
                };
                let revision = direct.range(nothing).await.header.expect("a header").revision;
                let physical = false;
                // Nothing may have happened since the last one.
                let _ = direct.kv().compact(CompactionRequest { revision, physical }).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("it ends well");
    }
}

/// Servers S1, S2, …, each with a proxy, all with one file.
struct Servers {
    shared: Shared,
    direct: Client,
    proxies: Vec<Proxy>,
}

impl Servers {
    fn start(shared: Shared, direct: Client, count: usize) -> Self {
        let proxies = (1..=count).map(|index| shared.member(&format!("S{index}"))).collect();
        Self {
            shared,
            direct,
            proxies,
        }
    }

    /// "Kill and restart S1 with same arguments. Once S1 is up, kill and restart S2 and S3."
    fn restart(&mut self) {
        for index in 0..self.proxies.len() {
            let name = format!("S{}", index + 1);
            let proxy = &mut self.proxies[index];
            proxy.process().signal("TERM");
            proxy.process().wait();
            self.proxies[index] = self.shared.member(&name);
        }
    }

    /// A command that succeeds with this as its first line.
    async fn run(&self, words: &[&str], line: &str) -> Outcome {
        self.shared.succeed(words, line).await
    }

    /// The status begins as k3s prints it, with these keys, the active one first.
    async fn expect_status(&self, status: &str, stage: &str, keys: &[&str]) {
        let outcome = self.shared.run(&["status"]).await;
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        let mut expected = vec![
            format!("Encryption Status: {status}"),
            format!("Current Rotation Stage: {stage}"),
            "Server Encryption Hashes: All hashes match".to_owned(),
            String::new(),
            "Active  Key Type  Name".to_owned(),
            "------  --------  ----".to_owned(),
        ];
        for (index, key) in keys.iter().enumerate() {
            let mark = if index == 0 && status == "Enabled" { " *" } else { "  " };
            expected.push(format!("{mark}      AES-CBC   {key}"));
        }
        let lines: Vec<_> = outcome.stdout.lines().take(expected.len()).collect();
        assert_eq!(lines, expected, "{outcome:#?}");
    }

    /// Every secret is stored under this key, or in the clear where it is empty, and each server reads and writes.
    async fn expect_stored(&self, under: &str) {
        let proxies: Vec<_> = self.proxies.iter().collect();
        expect_all_under(&self.direct, &proxies, KEYS, under).await;
        for proxy in proxies {
            let client = proxy.client().await;
            client.put("/registry/secrets/default/day", "written").await;
            assert_eq!(client.value("/registry/secrets/default/day").await, b"written");
        }
    }
}

async fn day(count: usize) {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    fill(&direct).await;
    let compaction = Compaction::of(etcd.client().await);
    let mut servers = Servers::start(Shared::new(&etcd, K3S), direct, count);
    servers
        .run(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;

    // Encryption Key Rotation Classic.
    let stage = "reencrypt_finished";
    servers.expect_status("Enabled", stage, &["aescbckey"]).await;
    let early = servers.shared.run(&["rotate"]).await;
    assert_eq!(early.code, Some(3), "{early:#?}");
    assert!(
        early
            .stderr
            .contains("incorrect stage: reencrypt_finished found on node"),
        "{early:#?}"
    );
    servers.run(&["prepare"], "prepare completed successfully").await;
    servers.restart();
    let keys = servers.shared.status().await["inactivekeys"].clone();
    let new = keys[0]
        .as_str()
        .and_then(|key| key.strip_prefix("AES-CBC "))
        .expect("a new key")
        .to_owned();
    servers.expect_status("Enabled", "prepare", &["aescbckey", &new]).await;
    servers.run(&["rotate"], "rotate completed successfully").await;
    servers.restart();
    servers.expect_status("Enabled", "rotate", &[&new, "aescbckey"]).await;
    servers.run(&["reencrypt"], "reencryption started").await;
    servers.expect_status("Enabled", stage, &[&new]).await;
    servers.restart();
    servers.expect_status("Enabled", stage, &[&new]).await;
    servers.expect_stored(&new).await;

    // Secrets Encryption Disable/Enable.
    let disabled = servers.run(&["disable"], "secrets-encryption disabled").await;
    assert!(
        disabled.stdout.contains("what is stored stays encrypted"),
        "{disabled:#?}"
    );
    servers.restart();
    servers.expect_status("Disabled", stage, &[&new]).await;
    let status = servers.shared.run(&["status"]).await;
    assert!(
        status.stdout.contains("Stored: what was encrypted before stays so"),
        "{status:#?}"
    );
    let counted = servers.shared.run(&["status", "--count"]).await;
    assert!(
        counted
            .stdout
            .contains("values are encrypted; `reencrypt --force --skip`"),
        "{counted:#?}"
    );
    servers
        .run(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    servers.expect_stored("").await;
    let counted = servers.shared.run(&["status", "--count"]).await;
    assert!(!counted.stdout.contains("Stored:"), "{counted:#?}");
    servers.run(&["enable"], "secrets-encryption enabled").await;
    servers.restart();
    servers.expect_status("Enabled", stage, &[&new]).await;
    servers
        .run(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    servers.expect_stored(&new).await;

    // Encryption Key Rotation.
    servers
        .run(&["rotate-keys"], "keys rotated, reencryption finished")
        .await;
    let keys = servers.shared.status().await["activekey"].clone();
    let newest = keys
        .as_str()
        .and_then(|key| key.strip_prefix("AES-CBC "))
        .expect("a new key")
        .to_owned();
    assert_ne!(newest, new);
    servers.expect_status("Enabled", stage, &[&newest]).await;
    servers.restart();
    servers.expect_stored(&newest).await;
    compaction.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_s_day_on_a_single_server() {
    day(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_s_day_in_high_availability() {
    day(3).await;
}

/// Nothing bears a key that was only prepared, so that nothing has to be waited for: etcd's history is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_only_prepared_is_taken_back_at_once() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    fill(&direct).await;
    let servers = Servers::start(Shared::new(&etcd, K3S), direct, 1);
    servers
        .run(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    servers.run(&["prepare"], "prepare completed successfully").await;
    servers.run(&["abort", "--timeout=20s"], "rotation aborted").await;
    servers
        .expect_status("Enabled", "reencrypt_finished", &["aescbckey"])
        .await;
    // One that has written is in the history, which nobody compacts here.
    servers.run(&["prepare"], "prepare completed successfully").await;
    servers.run(&["rotate"], "rotate completed successfully").await;
    let client = servers.proxies[0].client().await;
    client.put(key(0), "under the new key").await;
    let outcome = servers.shared.run(&["abort", "--timeout=1s"]).await;
    assert_eq!(outcome.code, Some(6), "{outcome:#?}");
    assert!(outcome.stderr.contains("history"), "{outcome:#?}");
}
