//! Which of the clients whose certificate a trusted CA signed are served: all, those of one CN, or those of some names.
//!
//! The rule is part of rustls's check of the client certificate, so that a client it turns away never completes a
//! handshake, whatever the code above does.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::Error;

/// Which clients with a trusted certificate are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// Every one of them.
    #[default]
    Any,
    /// Those whose certificate's subject has exactly this common name; of several, the last one counts, as in Go.
    CommonName(String),
    /// Those whose certificate is valid for one of these names: a DNS name matches the DNS names of the subject
    /// alternative name (its wildcards included), an IP address the IP addresses. The common name does not count.
    Hostnames(Vec<ServerName<'static>>),
}

impl Allowed {
    /// What `--client-cert-allowed-cn` and `--client-cert-allowed-hostname` say together.
    ///
    /// # Errors
    /// If both are given, as etcd refuses it; if a name is empty; if a host name is none.
    pub fn new(common_name: Option<&str>, hostnames: &[String]) -> Result<Self, Error> {
        match (common_name, hostnames) {
            (None, []) => Ok(Self::Any),
            (Some(_), [_, ..]) => Err(Error::AllowedTwice),
            (Some(""), []) => Err(Error::AllowedEmpty),
            (Some(name), []) => Ok(Self::CommonName(name.to_owned())),
            (None, names) => names
                .iter()
                .map(|name| hostname(name.trim()))
                .collect::<Result<_, _>>()
                .map(Self::Hostnames),
        }
    }

    /// Adds the rule to the check of a client's chain.
    pub(super) fn on_top_of(self, chain: Arc<dyn ClientCertVerifier>) -> Arc<dyn ClientCertVerifier> {
        if self == Self::Any {
            chain
        } else {
            Arc::new(AllowedClients { chain, allowed: self })
        }
    }

    /// Decides on a certificate whose chain has been verified.
    fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let refused = |refusal| Err(CertificateError::Other(OtherError(Arc::new(refusal))).into());
        match self {
            Self::Any => Ok(()),
            Self::CommonName(wanted) => {
                let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
                let last = certificate.subject().iter_common_name().last();
                match last.and_then(|name| name.as_str().ok()) {
                    Some(name) if name == wanted => Ok(()),
                    other => refused(NotAllowed::CommonName(other.unwrap_or_default().to_owned())),
                }
            }
            Self::Hostnames(wanted) => {
                let certificate = ParsedCertificate::try_from(leaf)?;
                if wanted.iter().any(|name| verify_server_name(&certificate, name).is_ok()) {
                    Ok(())
                } else {
                    refused(NotAllowed::Hostname)
                }
            }
        }
    }
}

fn hostname(name: &str) -> Result<ServerName<'static>, Error> {
    if name.is_empty() {
        return Err(Error::AllowedEmpty);
    }
    ServerName::try_from(name.to_owned()).map_err(|_| Error::BadAllowedHostname { name: name.to_owned() })
}

/// Why a client with a trusted certificate was turned away, for the log: inside the handshake's rustls error.
#[derive(Clone, PartialEq, Eq)]
pub enum NotAllowed {
    /// The certificate has this common name, or none (empty).
    CommonName(String),
    /// None of the certificate's alternative names is an allowed one.
    Hostname,
}

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommonName(name) => {
                write!(
                    f,
                    "trusted, but its common name {name:?} is not the one that --client-cert-allowed-cn names"
                )
            }
            Self::Hostname => {
                f.write_str("trusted, but not valid for any name that --client-cert-allowed-hostname names")
            }
        }
    }
}

impl fmt::Debug for NotAllowed {
    /// The same text: rustls shows what it carries by `Debug` alone, and the log should say why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NotAllowed {}

/// The check of the chain, then the rule; everything else is the chain's verifier's.
#[derive(Debug)]
struct AllowedClients {
    chain: Arc<dyn ClientCertVerifier>,
    allowed: Allowed,
}

impl ClientCertVerifier for AllowedClients {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_or_none_and_never_an_empty_one() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(Allowed::new(None, &[]).unwrap(), Allowed::Any);
        assert_eq!(
            Allowed::new(Some("kube"), &[]).unwrap(),
            Allowed::CommonName("kube".to_owned())
        );
        assert!(
            matches!(Allowed::new(None, &names(&["a.b", " ::1"])), Ok(Allowed::Hostnames(found)) if found.len() == 2)
        );
        assert!(matches!(
            Allowed::new(Some("kube"), &names(&["a.b"])),
            Err(Error::AllowedTwice)
        ));
        assert!(matches!(Allowed::new(Some(""), &[]), Err(Error::AllowedEmpty)));
        assert!(matches!(
            Allowed::new(None, &names(&["a.b", ""])),
            Err(Error::AllowedEmpty)
        ));
        assert!(matches!(
            Allowed::new(None, &names(&["*.a.b"])),
            Err(Error::BadAllowedHostname { .. })
        ));
    }
}
