//! Where resources lie: what no table knows, what an operator names, OpenShift's layout, and what is told of rules that match
//! nothing and of keys that nothing accounts for.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::common::etcd::Etcd;
use crate::common::http;
use crate::common::process::PATIENCE;
use crate::common::proxy::{BINARY, Proxy, Setup};
use crate::common::rotation::{Shared, write_private};
use crate::common::tools::Version;

/// One entry for all of the resources.
fn rules(resources: &[&str]) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [{}]\n  providers:\n  \
         - secretbox: {{keys: [{{name: k1, secret: A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=}}]}}\n  - identity: {{}}\n",
        resources.join(", ")
    )
}

fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(b"k8s:enc:secretbox:v1:k1:")
}

/// The verb with a configuration of these rules.
fn run(verb: &[&str], etcd: Option<&Etcd>, resources: &[&str], flags: &[&str]) -> Output {
    let folder = TempDir::with_prefix("keyspace-").unwrap();
    let config = folder.path().join("encryption.yaml");
    write_private(&config, &rules(resources));
    let mut command = Command::new(BINARY);
    command.args(verb).args(flags);
    match etcd {
        None => command.arg(&config),
        Some(etcd) => command
            .arg(format!("--etcd-servers={}", etcd.endpoint()))
            .arg(format!("--encryption-provider-config={}", config.display())),
    };
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Waits until the check `name` says `wanted`.
async fn until(proxy: &Proxy, name: &str, wanted: &str) -> String {
    let mut said = String::new();
    let wait = async {
        while !said.contains(wanted) {
            sleep(Duration::from_millis(50)).await;
            let answer = http::get(&proxy.metrics_url(), &format!("/readyz/{name}")).await;
            said = answer.expect("an answer").body;
        }
    };
    let found = timeout(PATIENCE, wait).await.is_ok();
    assert!(found, "never {wanted:?}, but {said:?}\n{}", proxy.output());
    said
}

#[tokio::test]
async fn what_no_table_knows_is_sealed_wherever_it_may_lie() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    direct.put("/registry/gadgets/default/a", "in the clear").await;
    direct.put("/registry/gadgets/default/b", "in the clear").await;
    let config = rules(&[
        "widgets.future.k8s.io",
        "compositepodgroups.scheduling.k8s.io",
        "secrets",
    ]);
    let proxy = Setup::new(etcd.endpoint(), config).member("a").start();
    // Looked at before anything else is there.
    until(
        &proxy,
        "key-space",
        "2 keys are of no resource that this version knows: /registry/gadgets/",
    )
    .await;
    let client = proxy.client().await;
    for key in [
        "/registry/widgets/default/a",
        "/registry/future.k8s.io/widgets/default/a",
        "/registry/compositepodgroups/default/a",
    ] {
        client.put(key, "value").await;
        assert!(is_sealed(&direct.value(key).await), "{key}");
        assert_eq!(client.value(key).await, b"value", "{key}");
    }
    client.put("/registry/gadgets/default/c", "value").await;
    assert_eq!(direct.value("/registry/gadgets/default/c").await, b"value");
    let log = proxy.output();
    let told = log
        .matches("covers both /widgets/ (a built-in one that is newer)")
        .count();
    assert_eq!(told, 1, "{log}");
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("etcd_encryption_proxy_unlisted_keys 2\n"), "{metrics}");
    assert!(metrics.contains("etcd_encryption_proxy_missed_rules 0\n"), "{metrics}");
    let told = proxy.output().matches("covered by no rule").count();
    assert_eq!(told, 1, "{}", proxy.output());
    // With another configuration it is looked at anew, at once.
    proxy.replace_config(&rules(&[
        "widgets.future.k8s.io",
        "gadgets.future.k8s.io",
        "secrets",
        "compositepodgroups.scheduling.k8s.io",
    ]));
    until(
        &proxy,
        "key-space",
        "every key below --etcd-prefix is of a resource that is known",
    )
    .await;
    assert!(
        proxy
            .metrics()
            .await
            .contains("etcd_encryption_proxy_unlisted_keys 0\n")
    );
}

#[tokio::test]
async fn a_path_that_an_operator_names_is_sealed_swept_and_told_to_others() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    direct.put("/registry/gadgets/default/a", "before").await;
    let resources = ["gadgets.apps", "configmaps"];
    let paths = "--resource-path=gadgets.apps=/gadgets/,configmaps=/core/configmaps/";
    let named = Setup::new(etcd.endpoint(), rules(&resources))
        .member("named")
        .flag(paths)
        .start();
    let client = named.client().await;
    until(&named, "sweep", "done: every value is as the rules write it").await;
    assert!(is_sealed(&direct.value("/registry/gadgets/default/a").await));
    assert_eq!(client.value("/registry/gadgets/default/a").await, b"before");
    for key in ["/registry/core/configmaps/default/a", "/registry/configmaps/default/a"] {
        client.put(key, "value").await;
        assert!(is_sealed(&direct.value(key).await), "{key}");
    }
    until(
        &named,
        "key-space",
        "every key below --etcd-prefix is of a resource that is known",
    )
    .await;
    // A command that has other paths is told so before it writes, one that has the same does its work.
    let other = run(&["sweep"], Some(&etcd), &resources, &[]);
    let said = text(&other);
    assert!(
        other.status.code() == Some(7) && said.contains("the same --resource-path"),
        "{said}"
    );
    let same = run(&["sweep"], Some(&etcd), &resources, &[paths]);
    let said = text(&same);
    assert!(
        same.status.success() && said.contains("Every value is as its rule writes it"),
        "{said}"
    );
    let without = Setup::new(etcd.endpoint(), rules(&resources)).member("without").start();
    let said = until(&without, "sweep", "looks for resources elsewhere").await;
    assert!(said.contains("gadgets.apps=/registry/gadgets/"), "{said}");
}

#[tokio::test]
async fn openshifts_resources_are_sealed_where_its_api_servers_keep_them() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    let keys = [
        "/kubernetes.io/secrets/default/a",
        "/openshift.io/routes/default/a",
        "/openshift.io/oauth/accesstokens/sha256~a",
    ];
    for key in keys {
        direct.put(key, "value").await;
    }
    let resources = ["secrets", "routes.route.openshift.io", "'*.oauth.openshift.io'"];
    let prefixes = "--etcd-prefix=kubernetes.io,openshift.io";
    let swept = run(&["sweep"], Some(&etcd), &resources, &[prefixes]);
    assert!(swept.status.success(), "{}", text(&swept));
    for key in keys {
        assert!(is_sealed(&direct.value(key).await), "{key}");
    }
}

#[tokio::test]
async fn a_rule_that_matches_nothing_of_its_name_is_told_and_no_sweep_says_that_all_is_well() {
    let etcd = Etcd::start(Version::V3_5).await;
    let direct = etcd.client().await;
    for key in [
        "/os/routes/default/a",
        "/os/routes/default/b",
        "/os/secrets/default/a",
        "/os/ranges/serviceips",
        "/os/masterleases/10.0.0.1",
    ] {
        direct.put(key, "value").await;
    }
    let resources = ["secrets", "routes.route.openshift.io", "configmaps"];
    let prefix = "--etcd-prefix=/os";
    let swept = run(&["sweep", "-ojson"], Some(&etcd), &resources, &[prefix]);
    let report: Value = serde_json::from_slice(&swept.stdout).expect("a report");
    assert_eq!(swept.status.code(), Some(8), "{report:#}");
    let missed = json!([{"rule": "routes.route.openshift.io", "stored": ["/os/routes/"]}]);
    assert_eq!(report["missed"], missed, "{report:#}");
    let unlisted = json!([{"path": "/os/routes/", "keys": 2, "isCovered": false}]);
    assert_eq!(report["unlisted"], unlisted, "{report:#}");
    let swept = text(&run(&["sweep"], Some(&etcd), &resources, &[prefix]));
    assert!(!swept.contains("Every value is as its rule"), "{swept}");
    assert!(swept.contains("1 rules match nothing of what is stored"), "{swept}");

    let shared = Shared::on(&etcd.endpoint(), &rules(&resources));
    let status = shared.run(&["status", prefix]).await;
    assert!(
        status.stdout.contains("routes.route.openshift.io: /os/routes/"),
        "{status:#?}"
    );
    let proxy = Setup::new(etcd.endpoint(), rules(&resources))
        .member("a")
        .flag(prefix)
        .start();
    until(
        &proxy,
        "key-space",
        "the rule for routes.route.openshift.io matches nothing, although /os/routes/",
    )
    .await;
    until(&proxy, "sweep", "but see key-space").await;
    assert!(proxy.metrics().await.contains("etcd_encryption_proxy_missed_rules 1\n"));

    // With the path named, there is nothing left to tell.
    let path = "--resource-path=routes.route.openshift.io=/routes/";
    drop(proxy);
    let swept = run(&["sweep", "--force"], Some(&etcd), &resources, &[prefix, path]);
    assert!(swept.status.success(), "{}", text(&swept));
    assert!(is_sealed(&direct.value("/os/routes/default/b").await));
}

#[tokio::test]
async fn a_wrong_prefix_is_told_where_no_rule_matches_anything() {
    let etcd = Etcd::start(Version::V3_5).await;
    etcd.client().await.put("/registry/secrets/default/a", "value").await;
    let swept = run(&["sweep"], Some(&etcd), &["secrets"], &["--etcd-prefix=cilium"]);
    assert_eq!(swept.status.code(), Some(9), "{}", text(&swept));
    let flags = ["--etcd-prefix=cilium", "--allow-empty-store"];
    let swept = run(&["sweep"], Some(&etcd), &["secrets"], &flags);
    let said = text(&swept);
    assert_eq!(swept.status.code(), Some(8), "{said}");
    assert!(
        said.contains("secrets: /registry/secrets/, outside of --etcd-prefix"),
        "{said}"
    );
}

#[test]
fn a_path_that_cannot_be_is_refused_and_one_that_can_is_taken_by_config_check() {
    let check = |resources: &[&str], flags: &[&str]| {
        let output = run(&["config", "check", "--strict"], None, resources, flags);
        (output.status.code(), text(&output))
    };
    let (code, said) = check(&["gadgets.apps"], &[]);
    assert!(code == Some(3) && said.contains("--resource-path"), "{said}");
    let (code, said) = check(&["gadgets.apps"], &["--resource-path=gadgets.apps=/gadgets/"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check(&["secrets"], &["--resource-path=gadgets.apps=/secrets/"]);
    let what = "--resource-path: gadgets.apps=/secrets/: at, above or below that path lie secrets";
    assert!(code == Some(1) && said.contains(what), "{said}");
    let (code, said) = check(&["secrets"], &["--resource-path=gadgets.apps=gadgets"]);
    assert!(code == Some(2) && said.contains("expected /SEGMENT/"), "{said}");
    // What is only to be known is no reason to fail.
    let (code, said) = check(&["widgets.future.k8s.io", "'*.gateway.networking.k8s.io'"], &[]);
    assert!(code == Some(0) && said.contains("covers both /widgets/"), "{said}");
    assert!(said.contains("covered once it is named"), "{said}");
}
