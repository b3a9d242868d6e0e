//! Values that no rule of the configuration covers any more keep the key that they need; and a value that does not open after
//! all is told of by whoever meets it, until a proof answers for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, replace};
use crate::common::rotation::{Home, Outcome, Shared};
use crate::common::tools::Version;

const ALDER: &str = "{aescbc: {keys: [{name: alder, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}}";

const OBJECTS: usize = 20;

fn document(resources: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [{resources}]\n  \
         providers: [{ALDER}, {{identity: {{}}}}]\n"
    )
}

fn key(resource: &str, index: usize) -> String {
    format!("/registry/{resource}/default/{index:02}")
}

async fn fill(client: &Client) {
    for index in 0..OBJECTS {
        for resource in ["secrets", "configmaps"] {
            let key = key(resource, index);
            client.put(key.clone(), key).await;
        }
    }
}

/// How many of both are as they were written, by what `client` reads.
async fn readable(client: &Client) -> [usize; 2] {
    let mut readable = [0, 0];
    for index in 0..OBJECTS {
        for (count, resource) in readable.iter_mut().zip(["secrets", "configmaps"]) {
            let key = key(resource, index);
            *count += usize::from(client.value(&key).await == key.as_bytes());
        }
    }
    readable
}

/// Puts `text` in the place of the configuration, as an operator does, and waits until the members have loaded it.
async fn configure(home: Home, shared: &Shared, text: String) {
    match home {
        Home::File => replace(&shared.path(), text),
        Home::Etcd => shared.in_strongbox(async move |strongbox| {
            let current = strongbox.read().await.expect("it opens").expect("it is there");
            let replaced = strongbox.replace(&current, text.as_bytes(), false).await;
            replaced.expect("nobody else is at it");
        }),
    }
    until("members that have loaded it", async || {
        shared.status().await["hashmatch"] == Value::Bool(true)
    })
    .await;
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "{what} do not come");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The command ends with code 7, and names them and the way on.
fn expect_in_the_way(outcome: &Outcome, what: &str, way: &str) {
    let is_named = outcome.stderr.contains(what) && outcome.stderr.contains(way);
    assert!(outcome.code == Some(7) && is_named, "{outcome:#?}");
}

async fn a_resource_out_of_the_rules(home: Home, version: Version) {
    let etcd = Etcd::start(version).await;
    let shared = Shared::at(home, &etcd.endpoint(), &document("secrets, configmaps"));
    let proxies = [shared.member("a"), shared.member("b")];
    let client = proxies[0].client().await;
    fill(&client).await;
    let direct = etcd.client().await;
    let under_alder = direct.value(&key("configmaps", 3)).await;
    configure(home, &shared, document("secrets")).await;
    let maps = "20 values of configmaps under aescbc key \"alder\" (such as /registry/configmaps/default/00";

    let counted = shared.run(&["status", "--count"]).await;
    assert!(
        counted.stdout.contains("Encrypted values that no rule covers"),
        "{counted:#?}"
    );
    let counted = shared.run(&["status", "--count", "-ojson"]).await;
    let status: Value = serde_json::from_str(&counted.stdout).expect("JSON");
    let row = &status["uncovered"]["rows"][0];
    assert_eq!(
        [&row["resource"], &row["key"], &row["objects"], &row["opens"]],
        [&json!("configmaps"), &json!("alder"), &json!(20), &json!(true)],
        "{status:#}"
    );
    let planned = shared.run(&["rotate-keys", "--dry-run"]).await;
    assert!(
        planned.code == Some(0) && planned.stdout.contains("end there with code 7") && planned.stdout.contains(maps),
        "{planned:#?}"
    );

    let rotating = ["rotate-keys", "--compact"];
    let way = "Put a rule for these resources back";
    expect_in_the_way(&shared.run(&rotating).await, maps, way);
    let keys = shared.keys();
    assert!(keys.len() == 2 && keys[1] == "alder", "{keys:?}");
    // However often it is asked for.
    expect_in_the_way(&shared.run(&rotating).await, maps, way);

    let now = shared.text();
    let back = now.replacen("- secrets\n", "- secrets\n  - configmaps\n", 1);
    assert_ne!(now, back);
    configure(home, &shared, back).await;
    for proxy in &proxies {
        assert_eq!(readable(&proxy.client().await).await, [OBJECTS, OBJECTS]);
    }
    shared.succeed(&rotating, "keys rotated, reencryption finished").await;
    let keys = shared.keys();
    assert!(keys.len() == 1 && keys[0] != "alder", "{keys:?}");
    if home == Home::Etcd {
        // The archive has it still, and keeps it as long as something bears its name.
        let purging = ["purge", "--all", "--yes"];
        direct.put("/registry/leases/default/a", under_alder).await;
        let what = "1 value of leases.coordination.k8s.io under aescbc key \"alder\"";
        expect_in_the_way(&shared.run(&purging).await, what, "the archive alone");
        direct.delete("/registry/leases/default/a").await;
        let purged = shared.run(&purging).await;
        assert_eq!(purged.code, Some(0), "{purged:#?}");
    }
    for proxy in &proxies {
        assert_eq!(readable(&proxy.client().await).await, [OBJECTS, OBJECTS]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_taken_out_of_the_file_keeps_its_key() {
    a_resource_out_of_the_rules(Home::File, Version::share()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_taken_out_of_the_keyring_keeps_its_key() {
    a_resource_out_of_the_rules(Home::Etcd, Version::V3_4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_outside_of_the_prefix_keep_their_key() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document("secrets"));
    // As it was served until somebody gave it another prefix: with a file of its own, or it would be one that serves two stores.
    let own = Shared::new(&etcd, &document("secrets"));
    let former = own
        .setup("former")
        .flag("--etcd-prefix=/elsewhere")
        .flag("--state-prefix=/other/");
    let far = "/elsewhere/secrets/default/far";
    former.start().client().await.put(far, "far").await;
    let near = shared.member("near");
    near.client().await.put(key("secrets", 0), "near").await;
    let what = "1 value of /elsewhere/secrets/ under aescbc key \"alder\", outside of --etcd-prefix";
    let way = "add its prefix to --etcd-prefix";
    // What another cluster may have is not this one's: it does not open.
    direct
        .put(
            "/third/secrets/a",
            "k8s:enc:aescbc:v1:alder:0123456789abcdef0123456789abcdef",
        )
        .await;
    expect_in_the_way(&shared.run(&["rotate-keys", "--compact"]).await, what, way);
    // Before the new key has come first anywhere else it can be taken back.
    shared.succeed(&["abort", "--compact"], "rotation aborted").await;
    assert_eq!(shared.keys(), ["alder"]);
    direct.delete(far).await;
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    assert_eq!(near.client().await.value(&key("secrets", 0)).await, b"near");
}

/// What is said of the sweep.
async fn sweep(proxy: &Proxy) -> String {
    let answer = http::get(&proxy.metrics_url(), "/readyz?verbose")
        .await
        .expect("an answer");
    assert_eq!(answer.status, 200, "kube-apiserver is served all the same: {answer:?}");
    let mut lines = answer.body.lines().filter(|line| line.contains("]sweep "));
    lines.next().expect("a check of that name").to_owned()
}

async fn gauge(proxy: &Proxy) -> String {
    let metrics = proxy.metrics().await;
    let mut lines = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("etcd_encryption_proxy_unopened_values "));
    lines.next().expect("the gauge").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_does_not_open_after_the_end_does_not_hide() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let shared = Shared::new(&etcd, &document("secrets"));
    let proxies = [
        shared.member("lenient"),
        shared.setup("strict").flag("--on-undecryptable=fail").start(),
    ];
    let lost = key("secrets", 7);
    proxies[0].client().await.put(lost.clone(), "value").await;
    let under_alder = direct.value(&lost).await;
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    let done = "done: every value is as the rules write it";
    until("proofs", async || {
        sweep(&proxies[0]).await.contains(done) && sweep(&proxies[1]).await.contains(done)
    })
    .await;
    assert!(!shared.run(&["status"]).await.stdout.contains("Unreadable"));
    assert_eq!(gauge(&proxies[0]).await, "0");

    // However it came there.
    direct.put(lost.clone(), under_alder.clone()).await;
    assert_eq!(proxies[0].client().await.value(&lost).await, under_alder);
    let mut strict = proxies[1].client().await.kv();
    let request = crate::common::pb::etcdserverpb::RangeRequest {
        key: lost.clone().into(),
        ..Default::default()
    };
    strict.range(request).await.expect_err("it does not open");
    for proxy in &proxies {
        let text = sweep(proxy).await;
        assert!(
            text.contains("no key here opens: 1 at least") && !text.contains(done),
            "{text}"
        );
        assert_eq!(gauge(proxy).await, "1");
        assert!(
            proxy
                .metrics()
                .await
                .contains("etcd_encryption_proxy_undecryptable_values_total 1")
        );
    }
    until("both in the status", async || {
        shared.status().await["unopened"]
            .as_array()
            .is_some_and(|members| members.len() == 2)
    })
    .await;
    let text = shared.run(&["status"]).await.stdout;
    assert!(
        text.contains("Unreadable: lenient has met encrypted values that none of its keys opens, 1 at least")
            && text.contains("Unreadable: strict has met")
            && text.contains("`status --count` counts"),
        "{text}"
    );
    let text = shared.run(&["status", "--count"]).await.stdout;
    assert!(text.contains("By this count 1 under the rules do not open"), "{text}");

    // Only a proof that began later answers for it.
    direct.delete(lost).await;
    let text = shared.run(&["status", "--count"]).await.stdout;
    assert!(text.contains("By this count every value under a rule opens"), "{text}");
    shared
        .succeed(&["reencrypt", "--force", "--skip"], "reencryption started")
        .await;
    until("proofs", async || {
        sweep(&proxies[0]).await.contains(done) && sweep(&proxies[1]).await.contains(done)
    })
    .await;
    assert_eq!(gauge(&proxies[1]).await, "0");
    until("a status without", async || shared.status().await["unopened"].is_null()).await;
}
