//! TLS and unix sockets, on both sides, and who is let in.

use crate::common::client::Client;
use crate::common::config;
use crate::common::etcd::{Etcd, Setup as EtcdSetup, free_ports};
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::pki::{Pair, Pki, self_signed};
use crate::common::proxy::{Proxy, Setup};
use crate::common::tools::Version;
use tempfile::TempDir;

const SECRET: &str = "/registry/secrets/default/a";

/// A proxy that listens with TLS and asks for client certificates.
fn mutual(etcd: &Etcd, pki: &Pki, more: &[&str]) -> Proxy {
    let setup = Setup::new(etcd.endpoint(), config::secrets())
        .listen(&["https://127.0.0.1:0"])
        .flag(format!("--cert-file={}", pki.server_cert.display()))
        .flag(format!("--key-file={}", pki.server_key.display()))
        .flag(format!("--trusted-ca-file={}", pki.ca.display()))
        .flag("--client-cert-auth");
    more.iter().fold(setup, |setup, &flag| setup.flag(flag)).start()
}

async fn works(client: &Client) {
    client.put(SECRET, "over TLS").await;
    assert_eq!(client.value(SECRET).await, b"over TLS");
}

#[tokio::test]
async fn clients_need_a_certificate_of_the_authority() {
    let etcd = Etcd::start(Version::share()).await;
    let [ours, theirs] = [(); 2].map(|()| TempDir::new().unwrap());
    let pki = Pki::generate(ours.path(), &["127.0.0.1", "localhost"]);
    let stranger = Pki::generate(theirs.path(), &["127.0.0.1", "localhost"]);
    let proxy = mutual(&etcd, &pki, &[]);
    works(&Client::connect_tls(proxy.url(), pki.client_tls()).await).await;
    let stranger = Pair {
        cert: stranger.client_cert.clone(),
        key: stranger.client_key.clone(),
    };
    for refused in [pki.anonymous_tls(), pki.client_tls_with(&stranger)] {
        assert!(Client::try_connect_tls(proxy.url(), refused).await.is_none());
    }
    let plain = proxy.url().replace("https://", "http://");
    let range = RangeRequest {
        key: SECRET.into(),
        ..RangeRequest::default()
    };
    assert!(Client::lazy(&plain).kv().range(range).await.is_err());
    // The log says who was refused and why, without being asked for more.
    let told = proxy.output();
    let line = told.lines().find(|line| line.contains("a client was refused"));
    let line = line.unwrap_or_else(|| panic!("nothing is said of it: {told}"));
    assert!(
        line.contains("INFO") && line.contains("127.0.0.1") && line.contains("certificate"),
        "{line}"
    );
    // Nobody else is any worse off for it.
    works(&Client::connect_tls(proxy.url(), pki.client_tls()).await).await;
}

#[tokio::test]
async fn clients_may_need_a_certain_name() {
    let etcd = Etcd::start(Version::share()).await;
    let folder = TempDir::new().unwrap();
    let pki = Pki::generate(folder.path(), &["127.0.0.1", "localhost"]);
    let apiserver = pki.sign("kube-apiserver", &["apiserver.test"]);
    let other = pki.sign("kubelet", &["node.test"]);
    for flag in [
        "--client-cert-allowed-hostname=apiserver.test",
        "--client-cert-allowed-cn=kube-apiserver",
    ] {
        let proxy = mutual(&etcd, &pki, &[flag]);
        works(&Client::connect_tls(proxy.url(), pki.client_tls_with(&apiserver)).await).await;
        let refused = Client::try_connect_tls(proxy.url(), pki.client_tls_with(&other)).await;
        assert!(refused.is_none(), "{flag}");
    }
}

#[tokio::test]
async fn server_certificates_alone_are_enough_where_nothing_is_asked_of_clients() {
    let etcd = Etcd::start(Version::share()).await;
    let folder = TempDir::new().unwrap();
    let pki = Pki::generate(folder.path(), &["127.0.0.1", "localhost"]);
    let proxy = Setup::new(etcd.endpoint(), config::secrets())
        .listen(&["https://127.0.0.1:0"])
        .flag(format!("--cert-file={}", pki.server_cert.display()))
        .flag(format!("--key-file={}", pki.server_key.display()))
        .start();
    works(&Client::connect_tls(proxy.url(), pki.anonymous_tls()).await).await;
}

#[tokio::test]
async fn a_listener_on_the_network_asks_who_is_there_or_is_refused() {
    let etcd = Etcd::start(Version::share()).await;
    let folder = TempDir::new().unwrap();
    let pki = Pki::generate(folder.path(), &["127.0.0.1", "localhost"]);
    let setup = |url: &str| {
        Setup::new(etcd.endpoint(), config::secrets())
            .listen(&["https://127.0.0.1:0", url])
            .flag(format!("--cert-file={}", pki.server_cert.display()))
            .flag(format!("--key-file={}", pki.server_key.display()))
    };
    for url in ["https://0.0.0.0:0", "https://[::]:0", "https://192.0.2.1:1"] {
        let (status, output) = setup(url).refused();
        assert!(!status.success(), "{url}");
        for said in [url, "--client-cert-auth", "--allow-anonymous-clients-on-network"] {
            assert!(output.contains(said), "{url}: {output}");
        }
    }
    let allowed = setup("https://0.0.0.0:0")
        .flag("--allow-anonymous-clients-on-network")
        .start();
    let reached = |proxy: &Proxy| proxy.urls()[1].replace("0.0.0.0", "127.0.0.1");
    works(&Client::connect_tls(&reached(&allowed), pki.anonymous_tls()).await).await;
    // As in etcd, a CA alone asks for certificates.
    let asking = setup("https://0.0.0.0:0")
        .flag(format!("--trusted-ca-file={}", pki.ca.display()))
        .start();
    works(&Client::connect_tls(&reached(&asking), pki.client_tls()).await).await;
    let anonymous = Client::try_connect_tls(&reached(&asking), pki.anonymous_tls()).await;
    assert!(anonymous.is_none());
    // Plaintext is no way around it.
    let (status, output) = setup("http://0.0.0.0:0")
        .flag("--allow-anonymous-clients-on-network")
        .refused();
    assert!(!status.success());
    assert!(output.contains("--allow-plaintext-on-network"), "{output}");
}

#[tokio::test]
async fn etcd_behind_tls() {
    for version in Version::all() {
        let etcd = EtcdSetup::new(version).with_tls().start().await;
        let pki = etcd.pki();
        let proxy = Setup::new(etcd.endpoint(), config::secrets())
            .flag(format!("--etcd-cafile={}", pki.ca.display()))
            .flag(format!("--etcd-certfile={}", pki.client_cert.display()))
            .flag(format!("--etcd-keyfile={}", pki.client_key.display()))
            .start();
        works(&proxy.client().await).await;
        assert!(config::is_sealed(&etcd.client().await.value(SECRET).await));
    }
}

#[tokio::test]
async fn an_etcd_with_a_self_signed_certificate_is_reached_where_it_is_in_the_bundle() {
    let mut etcd = Etcd::prepare(EtcdSetup::new(Version::share()));
    let pair = self_signed(etcd.folder(), &["127.0.0.1"]);
    let [port] = free_ports();
    let with_tls = format!("https://127.0.0.1:{port}");
    etcd.add_flag(format!("--listen-client-urls={},{with_tls}", etcd.endpoint()));
    etcd.add_flag(format!("--cert-file={}", pair.cert.display()));
    etcd.add_flag(format!("--key-file={}", pair.key.display()));
    etcd.spawn();
    etcd.ready().await;
    let proxy = Setup::new(with_tls, config::secrets())
        .flag(format!("--etcd-cafile={}", pair.cert.display()))
        .start();
    works(&proxy.client().await).await;
    assert!(config::is_sealed(&etcd.client().await.value(SECRET).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_nobody_vouches_for_gets_nothing() {
    let etcd = EtcdSetup::new(Version::share()).with_tls().start().await;
    let folder = TempDir::new().unwrap();
    let stranger = Pki::generate(folder.path(), &["127.0.0.1"]);
    let mut proxy = Setup::new(etcd.endpoint(), config::secrets())
        .flag(format!("--etcd-cafile={}", stranger.ca.display()))
        .flag(format!("--etcd-certfile={}", etcd.pki().client_cert.display()))
        .flag(format!("--etcd-keyfile={}", etcd.pki().client_key.display()))
        .start();
    let range = RangeRequest {
        key: SECRET.into(),
        ..RangeRequest::default()
    };
    let client = proxy.client().await;
    let call = tokio::spawn(async move { client.kv().range(range).await });
    // Whoever reads the log has to be told why; the call itself waits for a member that can be trusted.
    proxy
        .process()
        .wait_for("the reason", |output| output.contains("certificate").then_some(()));
    assert!(!call.is_finished());
    call.abort();
}

#[tokio::test]
async fn unix_sockets_on_both_sides() {
    let folder = TempDir::new().unwrap();
    let [plain, with_tls] = ["plain.sock", "tls.sock"].map(|name| folder.path().join(name));
    let pki = Pki::generate(folder.path(), &["localhost"]);
    let mut etcd = Etcd::prepare(EtcdSetup::new(Version::share()));
    // etcd wants a host and a port of every URL, and makes a file name of the two.
    let upstream = etcd.folder().join("etcd.sock:1");
    etcd.add_flag(format!("--listen-client-urls={},unix://etcd.sock:1", etcd.endpoint()));
    etcd.spawn();
    etcd.ready().await;
    let proxy = Setup::new(format!("unix://{}", upstream.display()), config::secrets())
        .listen(&[
            &format!("unix://{}", plain.display()),
            &format!("unixs://{}", with_tls.display()),
        ])
        .flag(format!("--cert-file={}", pki.server_cert.display()))
        .flag(format!("--key-file={}", pki.server_key.display()))
        .start();
    assert_eq!(proxy.urls().len(), 2);
    works(&Client::connect_unix(plain).await).await;
    works(&Client::connect_unix_tls(with_tls, pki.anonymous_tls()).await).await;
    assert!(config::is_sealed(&etcd.client().await.value(SECRET).await));
}
