//! A site with a CA and a server, and whole handshakes with it over a pipe in memory.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::pki::{Authority, Folder, Issued};
use crate::tls::{ALPN_H2, Allowed, ClientAuth, ClientFiles, ClientTls, ServerFiles, client_config, server_config};

/// A CA, a server certificate of it, and the folder they lie in.
pub(super) struct Site {
    pub(super) ca: Authority,
    pub(super) folder: Folder,
    pub(super) server: ServerFiles,
}

impl Site {
    pub(super) fn new() -> Self {
        let (ca, folder) = (Authority::new("etcd-ca"), Folder::new());
        folder.write("ca.crt", ca.pem());
        let (cert_file, key_file) = folder.write_pair("server", &ca.issue("server", &["localhost", "127.0.0.1"]));
        let client_auth = ClientAuth::default();
        Self {
            ca,
            folder,
            server: ServerFiles {
                cert_file,
                key_file,
                client_auth,
            },
        }
    }

    /// The listener's configuration, clients being checked against the CA.
    pub(super) fn server_for(&self, allowed: Allowed) -> Arc<ServerConfig> {
        let trusted_ca_file = Some(self.folder.path("ca.crt"));
        let client_auth = ClientAuth {
            required: false,
            trusted_ca_file,
            allowed,
        };
        server_config(&ServerFiles {
            client_auth,
            ..self.server.clone()
        })
        .unwrap()
        .config
    }

    pub(super) fn open_server(&self) -> Arc<ServerConfig> {
        server_config(&self.server).unwrap().config
    }

    pub(super) fn client(&self, identity: Option<&Issued>) -> ClientTls {
        let (cert_file, key_file) = identity.map(|issued| self.folder.write_pair("client", issued)).unzip();
        client_config(&ClientFiles {
            ca_file: Some(self.folder.path("ca.crt")),
            cert_file,
            key_file,
        })
        .unwrap()
    }
}

pub(super) type Outcome = (
    Result<server::TlsStream<DuplexStream>, rustls::Error>,
    Result<client::TlsStream<DuplexStream>, rustls::Error>,
);

/// Both sides of a handshake; where both succeed, a byte has crossed each way.
pub(super) async fn shake_as(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &'static str) -> Outcome {
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from(name).unwrap();
    let serve = async {
        let mut stream = TlsAcceptor::from(server.clone()).accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte + 1).await?;
        stream.flush().await?;
        Ok(stream)
    };
    let call = async {
        let mut stream = TlsConnector::from(client.clone()).connect(name, near).await?;
        stream.write_u8(1).await?;
        stream.flush().await?;
        assert_eq!(stream.read_u8().await?, 2);
        Ok(stream)
    };
    let (accepted, connected) = tokio::join!(serve, call);
    (accepted.map_err(tls_error), connected.map_err(tls_error))
}

pub(super) async fn shake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Outcome {
    shake_as(server, client, "localhost").await
}

pub(super) fn tls_error(error: io::Error) -> rustls::Error {
    let text = error.to_string();
    let inner = error
        .into_inner()
        .and_then(|inner| inner.downcast::<rustls::Error>().ok());
    inner.map_or(rustls::Error::General(text), |inner| *inner)
}

/// A client as the tests need it and [`client_config`] does not make it.
pub(super) fn foreign_client(
    site: &Site,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = site.ca.pem();
    roots
        .add(rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A server that does resume sessions, of these versions, with the site's certificate.
pub(super) fn foreign_server(site: &Site, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
    let mut config = builder.with_cert_resolver(site.open_server().cert_resolver.clone());
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Arc::new(config)
}
