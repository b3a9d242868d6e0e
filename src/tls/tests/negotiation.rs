//! Versions, protocols and sessions that the two sides agree on.

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsAcceptor;

use super::handshake::{Site, foreign_client, foreign_server, shake, tls_error};
use crate::tls::{ALPN_H2, ALPN_HTTP1};

#[tokio::test]
async fn tls_1_2_and_1_3_are_both_spoken() {
    let site = Site::new();
    let server = site.open_server();
    for (versions, expected) in [
        (&[&TLS12][..], ProtocolVersion::TLSv1_2),
        (&[&TLS13], ProtocolVersion::TLSv1_3),
        (&[&TLS12, &TLS13], ProtocolVersion::TLSv1_3),
    ] {
        let (accepted, connected) = shake(&server, &foreign_client(&site, versions, &[ALPN_H2])).await;
        connected.unwrap();
        assert_eq!(accepted.unwrap().get_ref().1.protocol_version(), Some(expected));
    }
    let (_, connected) = shake(&foreign_server(&site, &[&TLS12]), &site.client(None).grpc).await;
    let stream = connected.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
}

#[tokio::test]
async fn tls_1_1_is_turned_away_with_an_alert() {
    let site = Site::new();
    // A ClientHello of TLS 1.1 with TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, no compression, and signature_algorithms of
    // TLS 1.2, so that the version is all that is wrong.
    let mut hello = vec![0x03, 0x02];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 0x03, 0x01, 0, length + 4, 0x01, 0, 0, length];
    record.append(&mut hello);

    let (mut near, far) = duplex(1 << 16);
    near.write_all(&record).await.unwrap();
    let error = TlsAcceptor::from(site.open_server()).accept(far).await.unwrap_err();
    assert!(matches!(tls_error(error), rustls::Error::PeerIncompatible(_)));
    let mut alert = Vec::new();
    near.read_to_end(&mut alert).await.unwrap();
    // A fatal alert, protocol_version.
    assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]));
}

#[tokio::test]
async fn h2_is_preferred_and_a_client_without_alpn_is_let_in() {
    let site = Site::new();
    let server = site.open_server();
    for (offered, chosen) in [
        (&[ALPN_HTTP1, ALPN_H2][..], Some(ALPN_H2)),
        (&[ALPN_HTTP1], Some(ALPN_HTTP1)),
        (&[b"grpc-exp", ALPN_H2], Some(ALPN_H2)),
        (&[], None),
    ] {
        let (accepted, connected) = shake(&server, &foreign_client(&site, &[&TLS13, &TLS12], offered)).await;
        connected.unwrap();
        assert_eq!(accepted.unwrap().get_ref().1.alpn_protocol(), chosen);
    }
    let (accepted, connected) = shake(&server, &foreign_client(&site, &[&TLS13, &TLS12], &[b"spdy/3"])).await;
    assert_eq!(accepted.unwrap_err(), rustls::Error::NoApplicationProtocol);
    assert_eq!(
        connected.unwrap_err(),
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
    );
}

#[tokio::test]
async fn each_client_configuration_asks_for_its_protocol() {
    let site = Site::new();
    let (server, client) = (site.open_server(), site.client(None));
    for (config, protocol) in [(&client.grpc, ALPN_H2), (&client.http1, ALPN_HTTP1)] {
        let (_, connected) = shake(&server, config).await;
        assert_eq!(connected.unwrap().get_ref().1.alpn_protocol(), Some(protocol));
    }
}

#[tokio::test]
async fn no_session_is_resumed() {
    let site = Site::new();
    for versions in [[&TLS12], [&TLS13]] {
        let (their_server, their_client) = (
            foreign_server(&site, &versions),
            foreign_client(&site, &versions, &[ALPN_H2]),
        );
        for (server, client, resumed) in [
            // The two others do resume: the test would see it.
            (&their_server, &their_client, true),
            (&site.open_server(), &their_client, false),
            (&their_server, &site.client(None).grpc, false),
        ] {
            let _ = shake(server, client).await;
            let (accepted, _) = shake(server, client).await;
            let kind = accepted.unwrap().get_ref().1.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), resumed);
        }
    }
}
