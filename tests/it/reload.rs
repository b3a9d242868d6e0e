//! Files that are replaced while the proxy runs: the configuration, certificates on both sides, and what is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::{Etcd, Setup as EtcdSetup};
use crate::common::pki::{Pair, Pki};
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup, replace};
use crate::common::tools::Version;

const SECRET: &str = "/registry/secrets/default/a";

/// A rule for secrets whose providers are `providers`, and nothing else.
fn with(providers: &[&str]) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{}]\n",
        providers.join(", ")
    )
}

fn old_key() -> String {
    format!("{{aescbc: {{keys: [{{name: k1, secret: {}}}]}}}}", config::KEY)
}

fn new_key() -> String {
    format!("{{secretbox: {{keys: [{{name: k2, secret: {}}}]}}}}", config::KEY_2)
}

/// Waits for a word in the log.
fn logged(proxy: &mut Proxy, word: &str) {
    proxy
        .process()
        .wait_for(word, |output| output.contains(word).then_some(()));
}

/// Waits until the metrics have a line.
async fn shows(proxy: &Proxy, line: &str) {
    let start = Instant::now();
    while !proxy.metrics().await.lines().any(|shown| shown == line) {
        assert!(start.elapsed() < PATIENCE, "no {line} among\n{}", proxy.metrics().await);
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_new_first_key_writes_and_the_old_one_still_reads() {
    let etcd = Etcd::start(Version::share()).await;
    let direct = etcd.client().await;
    let mut proxy = Proxy::before(&etcd, with(&[&old_key()]));
    let client = proxy.client().await;
    client.put(SECRET, "of before").await;
    proxy.replace_config(&with(&[&new_key(), &old_key()]));
    logged(&mut proxy, "a new encryption provider configuration is in use");
    assert_eq!(client.value(SECRET).await, b"of before");
    client.put(SECRET, "of after").await;
    assert!(direct.value(SECRET).await.starts_with(b"k8s:enc:secretbox:v1:k2:"));
    assert_eq!(client.value(SECRET).await, b"of after");
    assert!(!proxy.output().contains("UNREADABLE"), "nothing was lost");

    let metrics = proxy.metrics().await;
    let series = |name: &str| -> Vec<_> {
        let of = |line: &&str| line.starts_with(name) && !line.starts_with('#');
        metrics.lines().filter(of).map(ToOwned::to_owned).collect()
    };
    let reloads = series("apiserver_encryption_config_controller_automatic_reloads_total");
    assert!(
        reloads.len() == 1 && reloads[0].contains("status=\"success\"") && reloads[0].ends_with(" 1"),
        "{reloads:?}"
    );
    let info = series("apiserver_encryption_config_controller_last_config_info");
    assert!(
        info.len() == 1 && info[0].contains("apiserver_id_hash=\"sha256:"),
        "{info:?}"
    );
    assert_eq!(
        series("etcd_encryption_proxy_config_reload_failing"),
        ["etcd_encryption_proxy_config_reload_failing 0"]
    );

    // Taking the old key away is allowed, and said out loud.
    proxy.replace_config(&with(&[&new_key()]));
    logged(&mut proxy, "secrets: aescbc key \"k1\" is gone");
}

#[tokio::test]
async fn a_broken_configuration_is_refused_by_line_and_the_old_one_serves_on() {
    let etcd = Etcd::start(Version::share()).await;
    let mut proxy = Proxy::before(&etcd, with(&[&old_key()]));
    let client = proxy.client().await;
    let broken = with(&["{aescbc: {keys: [{name: k1, secret: c2hvcnQ=}]}}"]);
    // In place, by a writer who takes their time: half a document is refused, and so is the whole one.
    fs::write(proxy.config(), broken.split_at(100).0).unwrap();
    shows(&proxy, "etcd_encryption_proxy_config_reload_failing 1").await;
    fs::write(proxy.config(), &broken).unwrap();
    let place = format!("{}:5:", proxy.config().display());
    logged(&mut proxy, &place);
    client.put(SECRET, "value").await;
    assert!(config::is_sealed(&etcd.client().await.value(SECRET).await));
    assert!(!proxy.output().contains("c2hvcnQ"), "a key is shown");

    fs::write(proxy.config(), with(&[&old_key()])).unwrap();
    shows(&proxy, "etcd_encryption_proxy_config_reload_failing 0").await;
    fs::remove_file(proxy.config()).unwrap();
    shows(&proxy, "etcd_encryption_proxy_config_reload_failing 1").await;
    fs::write(proxy.config(), with(&[&new_key(), &old_key()])).unwrap();
    shows(&proxy, "etcd_encryption_proxy_config_reload_failing 0").await;
    assert_eq!(client.value(SECRET).await, b"value");
}

#[tokio::test]
async fn kubernetes_swaps_the_folder_beneath() {
    let etcd = Etcd::start(Version::share()).await;
    let mut proxy = Proxy::before(&etcd, with(&[&old_key()]));
    let client = proxy.client().await;
    let folder = proxy.folder().to_owned();
    // As the kubelet does it: a new folder, a new link renamed over `..data`, the folder of before removed.
    let publish = |name: &str, text: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        replace(&folder.join(name).join("encryption.yaml"), text);
        symlink(name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    publish("..1", &with(&[&old_key()]));
    symlink("..data/encryption.yaml", folder.join("link")).unwrap();
    fs::rename(folder.join("link"), proxy.config()).unwrap();
    for (reloads, name, before, first, prefix) in [
        (1, "..2", "..1", [new_key(), old_key()], "k8s:enc:secretbox:v1:k2:"),
        (2, "..3", "..2", [old_key(), new_key()], "k8s:enc:aescbc:v1:k1:"),
    ] {
        let text = with(&[&first[0], &first[1]]);
        publish(name, &text);
        fs::remove_dir_all(folder.join(before)).unwrap();
        proxy.process().wait_for("the reload", |output| {
            (output.matches("configuration is in use").count() == reloads).then_some(())
        });
        client.put(SECRET, name).await;
        assert!(etcd.client().await.value(SECRET).await.starts_with(prefix.as_bytes()));
        assert_eq!(client.value(SECRET).await, name.as_bytes());
    }
}

#[tokio::test]
async fn the_configuration_stays_where_reloading_is_off() {
    let etcd = Etcd::start(Version::share()).await;
    let folder = TempDir::new().unwrap();
    let pki = Pki::generate(folder.path(), &["127.0.0.1", "localhost"]);
    let mut proxy = Setup::new(etcd.endpoint(), with(&[&old_key()]))
        .flag("--encryption-provider-config-automatic-reload=false")
        .listen(&["http://127.0.0.1:0", "https://127.0.0.1:0"])
        .flag(format!("--cert-file={}", pki.server_cert.display()))
        .flag(format!("--key-file={}", pki.server_key.display()))
        .start();
    let client = proxy.client().await;
    proxy.replace_config(&with(&[&new_key(), &old_key()]));
    // What is replaced later is in use: if the configuration were to be, it would be as well.
    put_pair(&pki.sign("other", &["localhost"]), &pki.server_cert, &pki.server_key);
    proxy.process().signal("HUP");
    logged(&mut proxy, "SIGHUP");
    logged(&mut proxy, "new TLS files are in use");
    client.put(SECRET, "value").await;
    assert!(config::is_sealed(&etcd.client().await.value(SECRET).await));
}

#[tokio::test]
async fn files_that_others_can_read_are_told_of_or_refused() {
    let etcd = Etcd::start(Version::share()).await;
    let folder = TempDir::new().unwrap();
    let pki = Pki::generate(folder.path(), &["127.0.0.1", "localhost"]);
    fs::set_permissions(&pki.server_key, fs::Permissions::from_mode(0o644)).unwrap();
    let setup = |flag: &str| {
        Setup::new(etcd.endpoint(), with(&[&old_key()]))
            .listen(&["https://127.0.0.1:0"])
            .flag(format!("--cert-file={}", pki.server_cert.display()))
            .flag(format!("--key-file={}", pki.server_key.display()))
            .flag(flag)
    };
    let mut proxy = setup("--strict-permissions=false").start();
    let key = pki.server_key.display().to_string();
    logged(&mut proxy, &format!("\"{key}\" holds keys, has mode 0644"));
    let (status, output) = setup("--strict-permissions").refused();
    assert!(
        !status.success() && output.contains("0644") && output.contains(&key),
        "{output}"
    );

    fs::set_permissions(&pki.server_key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut strict = setup("--strict-permissions").start();
    fs::write(strict.config(), with(&[&new_key(), &old_key()])).unwrap();
    logged(&mut strict, "a new encryption provider configuration is in use");
    let exposed = strict.config().with_extension("exposed");
    fs::write(&exposed, with(&[&old_key(), &new_key()])).unwrap();
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o640)).unwrap();
    fs::rename(&exposed, strict.config()).unwrap();
    logged(&mut strict, "has mode 0640");
    shows(&strict, "etcd_encryption_proxy_config_reload_failing 1").await;
    // Nothing but the mode was wrong.
    fs::set_permissions(strict.config(), fs::Permissions::from_mode(0o600)).unwrap();
    shows(&strict, "etcd_encryption_proxy_config_reload_failing 0").await;
}

/// Renames the pair over the two files, one after the other.
fn put_pair(pair: &Pair, cert: &Path, key: &Path) {
    replace(cert, fs::read(&pair.cert).unwrap());
    replace(key, fs::read(&pair.key).unwrap());
}

#[tokio::test]
async fn a_new_server_certificate_greets_new_connections_and_old_ones_go_on() {
    let etcd = Etcd::start(Version::share()).await;
    let [ours, theirs] = [(); 2].map(|()| TempDir::new().unwrap());
    let pki = Pki::generate(ours.path(), &["127.0.0.1", "localhost"]);
    let next = Pki::generate(theirs.path(), &["127.0.0.1", "localhost"]);
    let mut proxy = Setup::new(etcd.endpoint(), config::secrets())
        .listen(&["https://127.0.0.1:0"])
        .flag(format!("--cert-file={}", pki.server_cert.display()))
        .flag(format!("--key-file={}", pki.server_key.display()))
        .flag(format!("--trusted-ca-file={}", pki.ca.display()))
        .flag("--client-cert-auth")
        .start();
    let client = Client::connect_tls(proxy.url(), pki.client_tls()).await;
    client.put(SECRET, "before").await;
    let old_tls = pki.client_tls();
    // First what cannot be: a certificate without its key.
    replace(&pki.server_cert, fs::read(&next.server_cert).unwrap());
    logged(&mut proxy, "does not belong");
    Client::connect_tls(proxy.url(), old_tls.clone())
        .await
        .put(SECRET, "still")
        .await;
    // Then all of it, the clients' CA too.
    replace(&pki.server_key, fs::read(&next.server_key).unwrap());
    replace(&pki.ca, fs::read(&next.ca).unwrap());
    let start = Instant::now();
    while Client::try_connect_tls(proxy.url(), next.client_tls()).await.is_none() {
        assert!(start.elapsed() < PATIENCE, "the new authority's clients are not let in");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(Client::try_connect_tls(proxy.url(), old_tls).await.is_none());
    assert_eq!(client.value(SECRET).await, b"still");
    let metrics = proxy.metrics().await;
    for line in [
        "etcd_encryption_proxy_certificate_reloads_total{which=\"server\",status=\"failure\"}",
        "etcd_encryption_proxy_certificate_reloads_total{which=\"server\",status=\"success\"}",
        "etcd_encryption_proxy_certificate_expiration_timestamp_seconds{which=\"server\"}",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
}

#[tokio::test]
async fn an_etcd_that_changed_its_authority_is_reached_with_new_files() {
    let mut etcd = EtcdSetup::new(Version::share()).with_tls().start().await;
    let [ours, theirs] = [(); 2].map(|()| TempDir::new().unwrap());
    let files = Pki::generate(ours.path(), &["127.0.0.1"]);
    let pki = etcd.pki();
    fs::copy(&pki.ca, &files.ca).unwrap();
    put_pair(
        &Pair {
            cert: pki.client_cert.clone(),
            key: pki.client_key.clone(),
        },
        &files.client_cert,
        &files.client_key,
    );
    let mut proxy = Setup::new(etcd.endpoint(), config::secrets())
        .flag(format!("--etcd-cafile={}", files.ca.display()))
        .flag(format!("--etcd-certfile={}", files.client_cert.display()))
        .flag(format!("--etcd-keyfile={}", files.client_key.display()))
        .start();
    let client = proxy.client().await;
    client.put(SECRET, "before").await;

    let next = Pki::generate(theirs.path(), &["127.0.0.1", "localhost"]);
    etcd.kill();
    for (from, to) in [
        (&next.ca, &pki_path(&etcd, "ca.pem")),
        (&next.server_cert, &pki_path(&etcd, "server.pem")),
        (&next.server_key, &pki_path(&etcd, "server.key")),
        (&next.client_cert, &pki_path(&etcd, "client.pem")),
        (&next.client_key, &pki_path(&etcd, "client.key")),
        (&next.ca, &files.ca),
        (&next.client_cert, &files.client_cert),
        (&next.client_key, &files.client_key),
    ] {
        replace(to, fs::read(from).unwrap());
    }
    logged(&mut proxy, "new TLS files are in use");
    etcd.spawn();
    etcd.ready().await;
    assert_eq!(client.value(SECRET).await, b"before");
    client.put(SECRET, "after").await;
    assert!(config::is_sealed(&etcd.client().await.value(SECRET).await));
}

/// One of the files that etcd serves with.
fn pki_path(etcd: &Etcd, name: &str) -> std::path::PathBuf {
    etcd.folder().join(name)
}

#[tokio::test]
async fn a_file_is_not_rotated_by_those_who_serve_it() {
    let etcd = Etcd::start(Version::share()).await;
    let setup = Setup::new(etcd.endpoint(), with(&[&old_key()])).member("a");
    let (status, said) = setup.flag("--rotate-every=2160h").refused();
    assert!(!status.success() && said.contains("--keyring-root-file"), "{said}");
}
