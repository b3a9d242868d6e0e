//! Who is let in and who is turned away, on both sides.

use rcgen::ExtendedKeyUsagePurpose;
use rustls::version::TLS12;
use rustls::{AlertDescription, CertificateError};

use super::handshake::{Site, foreign_client, shake, shake_as};
use super::pki::{Authority, expire};
use crate::tls::{Allowed, NotAllowed, ServerFiles, server_config};

#[tokio::test]
async fn with_a_ca_file_only_its_clients_get_in() {
    let site = Site::new();
    let server = site.server_for(Allowed::Any);
    let stranger = Authority::new("etcd-ca").issue("kube", &[]);
    let expired = site.ca.issue_with("kube", &[], expire);
    let usage = |usage| {
        site.ca
            .issue_with("kube", &[], |params| params.extended_key_usages = vec![usage])
    };
    let server_only = usage(ExtendedKeyUsagePurpose::ServerAuth);

    let (accepted, connected) = shake(&server, &site.client(None).grpc).await;
    assert_eq!(accepted.unwrap_err(), rustls::Error::NoCertificatesPresented);
    assert_eq!(
        connected.unwrap_err(),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired)
    );

    for (identity, is_expected) in [
        // Same name of the CA, another key.
        (
            &stranger,
            (|error| matches!(error, CertificateError::BadSignature)) as fn(&CertificateError) -> bool,
        ),
        (&expired, |error| {
            matches!(error, CertificateError::ExpiredContext { .. })
        }),
        (&server_only, |error| {
            matches!(error, CertificateError::InvalidPurposeContext { .. })
        }),
    ] {
        let (accepted, connected) = shake(&server, &site.client(Some(identity)).grpc).await;
        let error = accepted.unwrap_err();
        assert!(
            matches!(&error, rustls::Error::InvalidCertificate(error) if is_expected(error)),
            "{error:?}"
        );
        assert!(matches!(connected.unwrap_err(), rustls::Error::AlertReceived(_)));
    }

    for identity in [site.ca.issue("kube", &[]), usage(ExtendedKeyUsagePurpose::ClientAuth)] {
        let (accepted, connected) = shake(&server, &site.client(Some(&identity)).grpc).await;
        connected.unwrap();
        assert_eq!(
            accepted.unwrap().get_ref().1.peer_certificates().map(<[_]>::len),
            Some(1)
        );
    }
}

#[tokio::test]
async fn the_check_of_clients_is_the_same_in_tls_1_2() {
    let site = Site::new();
    let server = site.server_for(Allowed::CommonName("kube".to_owned()));
    let (accepted, _) = shake(&server, &foreign_client(&site, &[&TLS12], &[])).await;
    assert_eq!(accepted.unwrap_err(), rustls::Error::NoCertificatesPresented);
}

#[tokio::test]
async fn an_allowed_cn_is_matched_exactly() {
    let site = Site::new();
    let server = site.server_for(Allowed::new(Some("kube-apiserver"), &[]).unwrap());
    let (accepted, connected) = shake(&server, &site.client(Some(&site.ca.issue("kube-apiserver", &[]))).grpc).await;
    connected.unwrap();
    accepted.unwrap();

    for other in ["kube-apiserver2", "Kube-apiserver", ""] {
        // The name among the alternative ones does not help.
        let identity = site.ca.issue(other, &["kube-apiserver"]);
        let (accepted, connected) = shake(&server, &site.client(Some(&identity)).grpc).await;
        connected.unwrap_err();
        let shown = accepted.unwrap_err().to_string();
        let reason =
            format!("trusted, but its common name {other:?} is not the one that --client-cert-allowed-cn names");
        assert!(shown.contains(&reason), "{shown}");
    }

    // The CA comes first: an allowed name of a stranger is a stranger's.
    let stranger = Authority::new("other-ca").issue("kube-apiserver", &[]);
    let (accepted, _) = shake(&server, &site.client(Some(&stranger)).grpc).await;
    assert_eq!(
        accepted.unwrap_err(),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
    );
}

#[tokio::test]
async fn an_allowed_hostname_is_looked_for_among_the_alternative_names() {
    let site = Site::new();
    let allowed = ["api.example.com", "10.0.0.7"].map(str::to_owned);
    let server = site.server_for(Allowed::new(None, &allowed).unwrap());
    for (names, let_in) in [
        (&["x.example.com", "API.example.com"][..], true),
        (&["*.example.com"], true),
        (&["10.0.0.7"], true),
        (&["10.0.0.8"], false),
        (&["*.com"], false),
        (&["example.com"], false),
        (&[], false),
    ] {
        // The common name is allowed, and does not count.
        let identity = site.ca.issue("api.example.com", names);
        let (accepted, connected) = shake(&server, &site.client(Some(&identity)).grpc).await;
        assert_eq!((accepted.is_ok(), connected.is_ok()), (let_in, let_in), "{names:?}");
        if let Err(error) = accepted {
            assert!(
                error.to_string().contains(&NotAllowed::Hostname.to_string()),
                "{names:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn etcd_must_have_a_current_certificate_of_the_ca_for_the_name_dialled() {
    let site = Site::new();
    let (server, client) = (site.open_server(), site.client(None));
    for (name, valid) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("etcd.example.com", false),
        ("127.0.0.2", false),
    ] {
        let (_, connected) = shake_as(&server, &client.grpc, name).await;
        match connected {
            Ok(_) => assert!(valid, "{name}"),
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => {
                assert!(!valid, "{name}");
            }
            Err(error) => panic!("{name}: {error:?}"),
        }
    }

    let stranger = Authority::new("other-ca").issue("server", &["localhost"]);
    let expired = site.ca.issue_with("server", &["localhost"], expire);
    for (identity, error_is) in [
        (
            stranger,
            (|error| matches!(error, CertificateError::UnknownIssuer)) as fn(&CertificateError) -> bool,
        ),
        (expired, |error| {
            matches!(error, CertificateError::ExpiredContext { .. })
        }),
    ] {
        let (cert_file, key_file) = site.folder.write_pair("other", &identity);
        let server = server_config(&ServerFiles {
            cert_file,
            key_file,
            ..site.server.clone()
        })
        .unwrap()
        .config;
        let (_, connected) = shake(&server, &client.grpc).await;
        let error = connected.unwrap_err();
        assert!(
            matches!(&error, rustls::Error::InvalidCertificate(error) if error_is(error)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_chain_is_sent_whole() {
    let site = Site::new();
    let middle = site.ca.intermediate("middle-ca");
    let mut server = middle.issue("server", &["localhost"]);
    server.cert += &middle.pem();
    let (cert_file, key_file) = site.folder.write_pair("chained", &server);
    let server = server_config(&ServerFiles {
        cert_file,
        key_file,
        ..site.server.clone()
    })
    .unwrap()
    .config;
    let (accepted, connected) = shake(&server, &site.client(None).grpc).await;
    accepted.unwrap();
    connected.unwrap();
}
