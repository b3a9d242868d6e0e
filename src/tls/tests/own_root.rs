//! Certificates that are trusted themselves: taken as Go takes them, and nothing beside them.

use rustls::CertificateError;

use super::handshake::{Outcome, Site, shake, shake_as};
use super::pki::{Authority, Issued, expire, self_signed};
use crate::tls::{Allowed, ClientAuth, ClientFiles, ServerFiles, client_config, server_config};

/// A handshake with a server that shows `shown`, by a client that trusts what is in `bundle`.
async fn with_server(shown: &Issued, bundle: &str, name: &'static str) -> Outcome {
    let site = Site::new();
    let (cert_file, key_file) = site.folder.write_pair("shown", shown);
    let server = ServerFiles {
        cert_file,
        key_file,
        client_auth: ClientAuth::default(),
    };
    let client = client_config(&ClientFiles {
        ca_file: Some(site.folder.write("bundle.crt", bundle)),
        ..ClientFiles::default()
    });
    shake_as(&server_config(&server).unwrap().config, &client.unwrap().grpc, name).await
}

#[tokio::test]
async fn etcd_may_show_a_certificate_that_is_in_the_bundle_itself() {
    let own = self_signed(&["localhost", "127.0.0.1"], |_| {});
    let bundle = Authority::new("other").pem() + &own.cert;
    for name in ["localhost", "127.0.0.1"] {
        let (_, connected) = with_server(&own, &bundle, name).await;
        connected.expect(name);
    }
    // The name and the dates are checked as those of any other.
    let (_, connected) = with_server(&own, &bundle, "elsewhere").await;
    assert!(matches!(
        connected.unwrap_err(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName
        )
    ));
    let expired = self_signed(&["localhost"], expire);
    let (_, connected) = with_server(&expired, &expired.cert, "localhost").await;
    assert!(matches!(
        connected.unwrap_err(),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
    ));
}

#[tokio::test]
async fn one_that_is_not_in_the_bundle_is_refused_in_words() {
    let own = self_signed(&["localhost"], |_| {});
    // The same names, another key.
    for bundle in [Authority::new("other").pem(), self_signed(&["localhost"], |_| {}).cert] {
        let (_, connected) = with_server(&own, &bundle, "localhost").await;
        let said = connected.unwrap_err().to_string();
        assert!(
            said.contains("it is a CA's own") && said.contains("--etcd-cafile"),
            "{said}"
        );
    }
    // What it has signed needs no words, and has a chain.
    let (ca, bundle) = (Authority::new("ca"), Authority::new("ca").pem());
    let (_, connected) = with_server(&ca.issue("server", &["localhost"]), &bundle, "localhost").await;
    assert!(!connected.unwrap_err().to_string().contains("it is a CA's own"));
}

#[tokio::test]
async fn clients_may_show_one_that_is_trusted_itself_and_rules_hold_for_it() {
    let own = self_signed(&["client.test"], |_| {});
    let stranger = self_signed(&["client.test"], |_| {});
    let server = |site: &Site, allowed| {
        let client_auth = ClientAuth {
            required: true,
            trusted_ca_file: Some(site.folder.write("clients.crt", &own.cert)),
            allowed,
        };
        server_config(&ServerFiles {
            client_auth,
            ..site.server.clone()
        })
        .unwrap()
        .config
    };
    let site = Site::new();
    let open = server(&site, Allowed::Any);
    let (accepted, _) = shake(&open, &site.client(Some(&own)).grpc).await;
    accepted.unwrap();
    let (accepted, _) = shake(&open, &site.client(Some(&stranger)).grpc).await;
    let said = accepted.unwrap_err().to_string();
    assert!(said.contains("--trusted-ca-file"), "{said}");
    let named = server(&site, Allowed::CommonName("kube-apiserver".to_owned()));
    let (accepted, _) = shake(&named, &site.client(Some(&own)).grpc).await;
    assert!(accepted.unwrap_err().to_string().contains("--client-cert-allowed-cn"));
}
