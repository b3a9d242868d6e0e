//! The side that kube-apiserver connects to.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};

use super::allowed::Allowed;
use super::error::{Error, FileRole};
use super::files::{Identity, PemFile};
use super::own_root::OrTrustedItself;
use super::validity::Warning;
use super::{ALPN_H2, ALPN_HTTP1};

/// The files and rules of a TLS listener.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    /// `--cert-file`: the server's certificate, then those of its issuers.
    pub cert_file: PathBuf,
    /// `--key-file`: the private key of the first of them.
    pub key_file: PathBuf,
    /// Who may connect.
    pub client_auth: ClientAuth,
}

/// Who may connect to a TLS listener. The default is anybody.
#[derive(Clone, Debug, Default)]
pub struct ClientAuth {
    /// `--client-cert-auth`. As in etcd, a CA file alone demands client certificates too.
    pub required: bool,
    /// `--trusted-ca-file`: the CAs that sign the clients' certificates.
    pub trusted_ca_file: Option<PathBuf>,
    /// Which of these clients are served.
    pub allowed: Allowed,
}

/// A listener's side of TLS.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Offers `h2` before `http/1.1`. A client that knows neither is refused; one that does not name its protocols at all
    /// is let in without one, as Go lets it in, and is to be taken for what its first bytes say.
    pub config: Arc<ServerConfig>,
    /// Last second in which the server's own certificate is valid, in Unix time.
    pub not_after: i64,
    /// For the operator.
    pub warnings: Vec<Warning>,
}

/// Loads a listener's files.
///
/// With a CA file every client must show a certificate that one of its CAs signed, `--client-cert-auth` or not: so it is
/// in etcd. Two things that etcd lets pass are refused: `--client-cert-auth` without a CA file, for which etcd trusts every
/// CA of the system, and a rule on clients without a CA file, which etcd does not apply.
///
/// There are no sessions to resume: a resumed one would skip the check of the client's certificate, and clients of etcd
/// keep their connections.
///
/// # Errors
/// If a file is missing, unreadable or unfit, the key is not the certificate's, or the rules contradict each other.
pub fn server_config(files: &ServerFiles) -> Result<ServerTls, Error> {
    let identity = Identity::load(
        PemFile {
            role: FileRole::ServerCert,
            file: &files.cert_file,
        },
        PemFile {
            role: FileRole::ServerKey,
            file: &files.key_file,
        },
    )?;
    let (verifier, ca_warnings) = client_verifier(&files.client_auth)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(Error::Protocol)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)));
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let warnings = [identity.warnings, ca_warnings].concat();
    Ok(ServerTls {
        config: Arc::new(config),
        not_after: identity.validity.not_after,
        warnings,
    })
}

fn client_verifier(auth: &ClientAuth) -> Result<(Arc<dyn ClientCertVerifier>, Vec<Warning>), Error> {
    let Some(file) = &auth.trusted_ca_file else {
        return match auth.allowed {
            _ if auth.required => Err(Error::ClientAuthWithoutCa),
            Allowed::Any => Ok((Arc::new(NoClientAuth), Vec::new())),
            Allowed::CommonName(_) | Allowed::Hostnames(_) => Err(Error::AllowedWithoutCa),
        };
    };
    let roots = PemFile {
        role: FileRole::TrustedCa,
        file,
    }
    .roots()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = WebPkiClientVerifier::builder_with_provider(roots.store, provider)
        .build()
        .map_err(Error::Verifier)?;
    let verifier = OrTrustedItself::new(chain, roots.certificates, FileRole::TrustedCa);
    Ok((auth.allowed.clone().on_top_of(Arc::new(verifier)), roots.warnings))
}

#[cfg(test)]
mod tests {
    use super::super::tests::pki::{Authority, EXPIRED_AT, Folder, expire};
    use super::*;

    #[test]
    fn rules_on_clients_that_nothing_could_check_are_refused() {
        let (folder, ca) = (Folder::new(), Authority::new("ca"));
        let (cert_file, key_file) = folder.write_pair("server", &ca.issue("server", &["localhost"]));
        let load = |required, allowed| {
            let client_auth = ClientAuth {
                required,
                trusted_ca_file: None,
                allowed,
            };
            server_config(&ServerFiles {
                cert_file: cert_file.clone(),
                key_file: key_file.clone(),
                client_auth,
            })
        };
        assert!(matches!(load(true, Allowed::Any), Err(Error::ClientAuthWithoutCa)));
        assert!(matches!(
            load(false, Allowed::CommonName("kube".to_owned())),
            Err(Error::AllowedWithoutCa)
        ));
        assert!(matches!(
            load(false, Allowed::Hostnames(Vec::new())),
            Err(Error::AllowedWithoutCa)
        ));
        load(false, Allowed::Any).unwrap();
    }

    #[test]
    fn warnings_of_both_files_are_told() {
        let (folder, ca) = (Folder::new(), Authority::expired("ca"));
        let (cert_file, key_file) = folder.write_pair("server", &ca.issue_with("server", &[], expire));
        let client_auth = ClientAuth {
            trusted_ca_file: Some(folder.write("ca.crt", ca.pem())),
            ..ClientAuth::default()
        };
        let tls = server_config(&ServerFiles {
            cert_file,
            key_file,
            client_auth,
        })
        .unwrap();
        assert_eq!(tls.not_after, EXPIRED_AT);
        let roles: Vec<_> = tls.warnings.iter().map(Warning::role).collect();
        assert_eq!(roles, [FileRole::ServerCert, FileRole::TrustedCa]);
    }
}
