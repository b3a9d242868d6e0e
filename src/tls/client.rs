//! The side that connects to etcd.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};

use super::error::{Error, FileRole};
use super::files::{Identity, PemFile};
use super::own_root::OrTrustedItself;
use super::validity::Warning;
use super::{ALPN_H2, ALPN_HTTP1};

/// The files with which etcd is reached over TLS.
#[derive(Clone, Debug, Default)]
pub struct ClientFiles {
    /// `--etcd-cafile`: the CAs that sign etcd's certificates.
    pub ca_file: Option<PathBuf>,
    /// `--etcd-certfile`: the certificate to show to etcd, then those of its issuers.
    pub cert_file: Option<PathBuf>,
    /// `--etcd-keyfile`: the private key of the first of them.
    pub key_file: Option<PathBuf>,
}

impl ClientFiles {
    /// Whether any file is given, which decides on TLS for endpoints that do not say.
    pub fn is_any_given(&self) -> bool {
        self.ca_file.is_some() || self.cert_file.is_some() || self.key_file.is_some()
    }
}

/// Our side of TLS towards etcd.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Offers `h2` alone. A server that does not speak ALPN at all completes the handshake all the same: whoever connects
    /// compares the connection's protocol with [`ALPN_H2`], as current gRPC clients do.
    pub grpc: Arc<ClientConfig>,
    /// Offers `http/1.1` alone; otherwise the same. etcd chooses no protocol then, and speaks HTTP/1.1.
    pub http1: Arc<ClientConfig>,
    /// Last second in which our own certificate is valid, in Unix time; `None` if there is none.
    pub not_after: Option<i64>,
    /// For the operator.
    pub warnings: Vec<Warning>,
}

/// Loads the files; called only where an endpoint is reached over TLS.
///
/// Where `--etcd-cafile` is missing, kube-apiserver trusts every CA of the system. Here that is refused: etcd's CA is a
/// private one nearly everywhere, and whoever holds a public certificate for a host of that name would otherwise be given
/// every value of the cluster. Who means it names the system's bundle.
///
/// Sessions are not resumed: that would carry the old certificate past its replacement, to save little on connections that
/// live for days.
///
/// # Errors
/// If a file is missing, unreadable or unfit, or the key is not the certificate's.
pub fn client_config(files: &ClientFiles) -> Result<ClientTls, Error> {
    let ca_file = files.ca_file.as_ref().ok_or(Error::NoEtcdCa)?;
    let identity = match (&files.cert_file, &files.key_file) {
        (Some(cert), Some(key)) => Some(Identity::load(
            PemFile {
                role: FileRole::EtcdCert,
                file: cert,
            },
            PemFile {
                role: FileRole::EtcdKey,
                file: key,
            },
        )?),
        (None, None) => None,
        (Some(_), None) => return Err(Error::HalfIdentity(FileRole::EtcdKey)),
        (None, Some(_)) => return Err(Error::HalfIdentity(FileRole::EtcdCert)),
    };
    let roots = PemFile {
        role: FileRole::EtcdCa,
        file: ca_file,
    }
    .roots()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain: Arc<dyn ServerCertVerifier> = WebPkiServerVerifier::builder_with_provider(roots.store, provider.clone())
        .build()
        .map_err(Error::Verifier)?;
    let verifier = OrTrustedItself::new(chain, roots.certificates, FileRole::EtcdCa);
    let mut warnings = roots.warnings;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(Error::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let not_after = identity.as_ref().map(|identity| identity.validity.not_after);
    let mut grpc = match identity {
        Some(identity) => {
            warnings.extend(identity.warnings);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)))
        }
        None => builder.with_no_client_auth(),
    };
    grpc.resumption = Resumption::disabled();
    grpc.alpn_protocols = vec![ALPN_H2.to_vec()];
    let mut http1 = grpc.clone();
    http1.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
    Ok(ClientTls {
        grpc: Arc::new(grpc),
        http1: Arc::new(http1),
        not_after,
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::pki::{Authority, Folder};
    use super::*;

    #[test]
    fn a_ca_is_needed_and_half_an_identity_is_none() {
        let (folder, ca) = (Folder::new(), Authority::new("ca"));
        let (cert, key) = folder.write_pair("client", &ca.issue("client", &[]));
        let ca_file = Some(folder.write("ca.crt", ca.pem()));
        let load = |ca_file: &Option<PathBuf>, cert: Option<&PathBuf>, key: Option<&PathBuf>| {
            let files = ClientFiles {
                ca_file: ca_file.clone(),
                cert_file: cert.cloned(),
                key_file: key.cloned(),
            };
            client_config(&files)
        };
        assert!(matches!(load(&None, Some(&cert), Some(&key)), Err(Error::NoEtcdCa)));
        assert!(matches!(
            load(&ca_file, Some(&cert), None),
            Err(Error::HalfIdentity(FileRole::EtcdKey))
        ));
        assert!(matches!(
            load(&ca_file, None, Some(&key)),
            Err(Error::HalfIdentity(FileRole::EtcdCert))
        ));
        assert_eq!(load(&ca_file, None, None).unwrap().not_after, None);
        assert!(load(&ca_file, Some(&cert), Some(&key)).unwrap().not_after.is_some());
    }
}
