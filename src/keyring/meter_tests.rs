//! What is counted is what kube-apiserver would have counted. Each expectation was read off its prefix chain: for every
//! candidate one sample, for a nested chain that knows no key an `unknown` one, nothing for an identity that declines.

use std::sync::Arc;

use super::sealer::Metered;
use crate::config::ResourceSelector;
use crate::telemetry::Registry;
use crate::types::{GroupResource, KeyName, SecretBytes, StorageKey};
use crate::value::{Chain, Deks, Provider};

fn named(name: &str) -> (KeyName, SecretBytes) {
    (
        KeyName::new(name),
        SecretBytes::new(name.bytes().cycle().take(32).collect()),
    )
}

fn aescbc(names: &[&str]) -> Provider {
    let keys: Vec<_> = names.iter().map(|name| named(name)).collect();
    Provider::aescbc(keys.iter().map(|(name, key)| (name, key))).unwrap()
}

fn secrets() -> ResourceSelector {
    ResourceSelector::Exact(GroupResource::new("", "secrets"))
}

fn sealed(by: Provider) -> Vec<u8> {
    let mut out = Vec::new();
    let chain = Chain::new(vec![by]).unwrap();
    chain
        .to_storage(StorageKey(b"k"), b"value", &Deks::default(), &mut out)
        .unwrap();
    out
}

/// Every counter's series but for those with `except` in them, after `work` with a rule of `providers`.
fn counted<const N: usize>(
    selector: &ResourceSelector,
    providers: [Provider; N],
    resource: (&str, &str),
    work: impl Fn(super::Sealer<'_>),
) -> Vec<String> {
    let registry = Registry::new(super::FAMILIES);
    metrics::with_local_recorder(&registry, || {
        let chain = Arc::new(Chain::new(providers.into()).unwrap());
        work(Metered::new(selector, &chain, &Arc::default()).sealer(Some(resource)));
    });
    let text = registry.render();
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("apiserver_storage_transformation_operations") || line.starts_with("etcd_"))
        .map(|line| {
            let line = line.replace("apiserver_storage_transformation_operations_total", "ops");
            let line = line
                .replace("etcd_encryption_proxy_", "")
                .replace("transformation_type=", "");
            line.replace("transformer_prefix=", "")
                .replace("resource=", "")
                .replace("status=", "")
        })
        .collect();
    lines.sort();
    lines
}

fn read(stored: Vec<u8>) -> impl Fn(super::Sealer<'_>) {
    move |sealer| drop(sealer.from_storage(StorageKey(b"k"), &stored, &Deks::default(), &mut Vec::new()))
}

#[test]
fn a_write_counts_for_the_provider_and_for_the_key() {
    let write = |sealer: super::Sealer<'_>| {
        for _ in 0..2 {
            sealer
                .to_storage(StorageKey(b"k"), b"value", &Deks::default(), &mut Vec::new())
                .unwrap();
        }
    };
    let lines = counted(&secrets(), [aescbc(&["w2", "w1"])], ("", "secrets"), write);
    assert_eq!(
        lines,
        [
            r#"key_writes_total{provider="aescbc",key="w2"} 2"#,
            r#"ops{"secrets","to_storage","k8s:enc:aescbc:v1:","OK"} 2"#,
            r#"ops{"secrets","to_storage","w2:","OK"} 2"#,
        ]
    );
    let lines = counted(&secrets(), [Provider::identity()], ("", "secrets"), write);
    assert_eq!(lines, [r#"ops{"secrets","to_storage","","OK"} 2"#]);
}

#[test]
fn a_read_counts_for_the_provider_and_for_the_key_that_opened_it() {
    let lines = counted(
        &secrets(),
        [aescbc(&["a"])],
        ("", "secrets"),
        read(sealed(aescbc(&["a"]))),
    );
    assert_eq!(
        lines,
        [
            r#"ops{"secrets","from_storage","a:","OK"} 1"#,
            r#"ops{"secrets","from_storage","k8s:enc:aescbc:v1:","OK"} 1"#,
            r#"values_opened_total{"secrets",provider="aescbc",key="a",stale="false"} 1"#,
        ]
    );
    let providers = [aescbc(&["a"]), Provider::identity()];
    let lines = counted(&secrets(), providers, ("", "secrets"), read(b"plain".to_vec()));
    assert_eq!(
        lines,
        [
            r#"ops{"secrets","from_storage","identity","OK"} 1"#,
            r#"values_opened_total{"secrets",provider="identity",key="",stale="true"} 1"#,
        ]
    );
}

#[test]
fn what_failed_on_the_way_counts_too() {
    let providers = [Provider::identity(), aescbc(&["b"]), aescbc(&["c", "a"])];
    let lines = counted(&secrets(), providers, ("", "secrets"), read(sealed(aescbc(&["a"]))));
    assert_eq!(
        lines,
        [
            r#"ops{"secrets","from_storage","a:","OK"} 1"#,
            r#"ops{"secrets","from_storage","k8s:enc:aescbc:v1:","OK"} 1"#,
            r#"ops{"secrets","from_storage","k8s:enc:aescbc:v1:","unknown-non-grpc"} 1"#,
            r#"ops{"secrets","from_storage","unknown","unknown-non-grpc"} 1"#,
            r#"values_opened_total{"secrets",provider="aescbc",key="a",stale="true"} 1"#,
        ]
    );
    // The key is there and its bytes are others: the key's own prefix, then its provider's.
    let mut broken = sealed(aescbc(&["a"]));
    broken.truncate(broken.len() - 1);
    let lines = counted(&secrets(), [aescbc(&["a"])], ("", "secrets"), read(broken));
    assert_eq!(
        lines,
        [
            r#"ops{"secrets","from_storage","a:","unknown-non-grpc"} 1"#,
            r#"ops{"secrets","from_storage","k8s:enc:aescbc:v1:","unknown-non-grpc"} 1"#,
        ]
    );
}

#[test]
fn what_nothing_recognises_is_unknown() {
    let lines = counted(&secrets(), [aescbc(&["a"])], ("", "secrets"), read(b"plain".to_vec()));
    assert_eq!(
        lines,
        [r#"ops{"secrets","from_storage","unknown","unknown-non-grpc"} 1"#]
    );
    let lines = counted(
        &secrets(),
        [Provider::identity()],
        ("", "secrets"),
        read(sealed(aescbc(&["a"]))),
    );
    assert_eq!(
        lines,
        [r#"ops{"secrets","from_storage","unknown","unknown-non-grpc"} 1"#]
    );
}

#[test]
fn under_a_rule_for_many_resources_only_built_in_ones_have_a_label_of_their_own() {
    let label = |selector: &ResourceSelector, resource| {
        let lines = counted(selector, [Provider::identity()], resource, read(b"plain".to_vec()));
        lines[0].split('"').nth(1).unwrap().to_owned()
    };
    let apps = ResourceSelector::Group("apps".to_owned());
    assert_eq!(label(&ResourceSelector::All, ("", "secrets")), "secrets");
    assert_eq!(
        label(&ResourceSelector::All, ("apps", "deployments")),
        "deployments.apps"
    );
    assert_eq!(label(&ResourceSelector::All, ("bears.example", "pandas")), "*.*");
    assert_eq!(label(&apps, ("apps", "deployments")), "deployments.apps");
    assert_eq!(label(&apps, ("apps", "invented")), "*.apps");
    let pandas = ResourceSelector::Exact(GroupResource::new("bears.example", "pandas"));
    assert_eq!(label(&pandas, ("bears.example", "pandas")), "pandas.bears.example");
}
