//! A peer's certificate that is itself one of the trusted ones: self-signed and a CA's own, as `openssl req -x509` makes it.
//!
//! webpki refuses every certificate with `CA:TRUE` as an end entity's; Go, and so etcd and kube-apiserver, take one that lies in the
//! bundle. To take it gives nothing away: who has its key could sign any other certificate with it. It has to be that very
//! certificate, byte for byte, within its dates, for the name that was asked for, and with its key shown in the handshake. Nothing is
//! taken here that is merely signed by something.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use super::error::FileRole;
use super::validity::Validity;

/// The check of a chain, and beside it that of a certificate that is trusted itself.
#[derive(Debug)]
pub(super) struct OrTrustedItself<V: ?Sized> {
    chain: Arc<V>,
    trusted: Vec<CertificateDer<'static>>,
    role: FileRole,
}

impl<V: ?Sized> OrTrustedItself<V> {
    /// `trusted` are the certificates of the file that `role` names.
    pub(super) fn new(chain: Arc<V>, trusted: Vec<CertificateDer<'static>>, role: FileRole) -> Self {
        Self { chain, trusted, role }
    }

    fn is_trusted_itself(&self, leaf: &CertificateDer<'_>) -> bool {
        self.trusted.iter().any(|trusted| trusted.as_ref() == leaf.as_ref())
    }

    /// What the peer's operator can do about `error`, where that is that a CA's certificate was shown.
    fn in_words(&self, error: Error) -> Error {
        match &error {
            // webpki's error has no name in rustls. A text that it changes costs no more than these words.
            Error::InvalidCertificate(CertificateError::Other(OtherError(other)))
                if format!("{other:?}").contains("CaUsedAsEndEntity") =>
            {
                let words = CaShown { role: self.role };
                CertificateError::Other(OtherError(Arc::new(words))).into()
            }
            _ => error,
        }
    }
}

/// Whether `now` lies within the certificate's dates.
fn is_valid_at(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = Validity::of(leaf)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > validity.not_after {
        return Err(CertificateError::Expired.into());
    }
    if now < validity.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(())
}

/// A CA's own certificate was shown, and it is not in the bundle.
#[derive(Clone, PartialEq, Eq)]
struct CaShown {
    role: FileRole,
}

impl fmt::Display for CaShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it is a CA's own (CA:TRUE, as `openssl req -x509` makes it), which is taken only where that very certificate is in {}: \
             add it there, or have one shown that a CA in that file has signed",
            self.role
        )
    }
}

impl fmt::Debug for CaShown {
    /// The same text: rustls shows what it carries by `Debug` alone, and the log should say why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for CaShown {}

impl ServerCertVerifier for OrTrustedItself<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_trusted_itself(end_entity) {
            is_valid_at(end_entity, now)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.chain
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| self.in_words(error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ClientCertVerifier for OrTrustedItself<dyn ClientCertVerifier> {
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
    ) -> Result<ClientCertVerified, Error> {
        if self.is_trusted_itself(end_entity) {
            is_valid_at(end_entity, now)?;
            return Ok(ClientCertVerified::assertion());
        }
        self.chain
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| self.in_words(error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
