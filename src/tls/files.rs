//! PEM files: read, split into certificates and keys, and checked against each other.
//!
//! A private key's text and DER are wiped once aws-lc-rs has made its own key of them, which lives as long as the
//! configuration does. (The PEM parser's scratch space is beyond our reach.)

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::error::{Error, FileRole};
use super::validity::{Validity, Warning};
use crate::files;

/// Longest PEM file that is read, in bytes: a system's whole CA bundle has about 250 KB.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// A file and the flag that named it.
#[derive(Clone, Copy)]
pub(super) struct PemFile<'a> {
    pub(super) role: FileRole,
    pub(super) file: &'a Path,
}

/// The CAs of a file.
pub(super) struct Roots {
    pub(super) store: Arc<RootCertStore>,
    /// The same, as they stand in the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) warnings: Vec<Warning>,
}

/// A certificate with its issuers and its private key.
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
    pub(super) warnings: Vec<Warning>,
}

impl Identity {
    /// Loads both files. The certificate may have expired: that is a warning.
    pub(super) fn load(cert: PemFile<'_>, key: PemFile<'_>) -> Result<Self, Error> {
        let chain = cert.certificates()?;
        for (position, der) in (1..).zip(&chain) {
            ParsedCertificate::try_from(der).map_err(|source| cert.bad_certificate(position, source))?;
        }
        let leaf = chain.first().ok_or_else(|| cert.no_certificate())?;
        let validity = Validity::of(leaf).map_err(|source| cert.bad_certificate(1, source))?;
        let certified = CertifiedKey::new(chain, key.signing_key()?);
        // Both public keys are known, so that anything but a match is a mismatch.
        certified.keys_match().map_err(|_| Error::KeyMismatch {
            cert_role: cert.role,
            cert_file: cert.file.to_owned(),
            key_role: key.role,
            key_file: key.file.to_owned(),
        })?;
        let warnings = validity.warning(cert.role, cert.file, 1).into_iter().collect();
        Ok(Self {
            key: Arc::new(certified),
            validity,
            warnings,
        })
    }
}

impl PemFile<'_> {
    /// The CAs in the file; one that cannot be used refuses the file, as etcd does.
    ///
    /// webpki, unlike Go, takes an expired CA's signature; each is a warning.
    pub(super) fn roots(self) -> Result<Roots, Error> {
        let mut store = RootCertStore::empty();
        let mut warnings = Vec::new();
        let certificates = self.certificates()?;
        for (position, der) in (1..).zip(&certificates) {
            // A CA of which only the dates cannot be read is no less usable.
            if let Ok(validity) = Validity::of(der) {
                warnings.extend(validity.warning(self.role, self.file, position));
            }
            store
                .add(der.clone())
                .map_err(|source| self.bad_certificate(position, source))?;
        }
        Ok(Roots {
            store: Arc::new(store),
            certificates,
            warnings,
        })
    }

    /// All certificates in the file, at least one.
    fn certificates(self) -> Result<Vec<CertificateDer<'static>>, Error> {
        let text = self.read()?;
        let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| self.bad_pem(&error))?;
        if found.is_empty() {
            Err(self.no_certificate())
        } else {
            Ok(found)
        }
    }

    /// The first private key in the file.
    fn signing_key(self) -> Result<Arc<dyn rustls::sign::SigningKey>, Error> {
        let (role, file) = (self.role, self.file.to_owned());
        let text = self.read()?;
        let key = match PrivateKeyDer::from_pem_slice(&text) {
            Ok(key) => Zeroizing::new(key),
            Err(_) if is_encrypted(&text) => return Err(Error::EncryptedKey { role, file }),
            Err(pem::Error::NoItemsFound) => return Err(Error::NoKey { role, file }),
            Err(error) => return Err(self.bad_pem(&error)),
        };
        // What the key parser says adds nothing that the operator could act on.
        any_supported_type(&key).map_err(|_| Error::BadKey { role, file })
    }

    fn read(self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (role, file) = (self.role, self.file.to_owned());
        match files::read(self.file, MAX_FILE_BYTES) {
            Ok(contents) => Ok(contents.bytes),
            Err(files::Error::Read { source, .. }) => Err(Error::Read { role, file, source }),
            Err(files::Error::TooLarge { .. }) => Err(Error::TooLarge { role, file }),
        }
    }

    fn no_certificate(self) -> Error {
        Error::NoCertificate {
            role: self.role,
            file: self.file.to_owned(),
        }
    }

    fn bad_certificate(self, position: usize, source: rustls::Error) -> Error {
        Error::BadCertificate {
            role: self.role,
            file: self.file.to_owned(),
            position,
            source,
        }
    }

    fn bad_pem(self, error: &pem::Error) -> Error {
        let problem = match error {
            pem::Error::MissingSectionEnd { .. } => "a block has no END line",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
            pem::Error::Base64Decode(_) => "a block is not base64",
            _ => "a block cannot be read",
        };
        Error::BadPem {
            role: self.role,
            file: self.file.to_owned(),
            problem,
        }
    }
}

/// Whether a key file's text is that of an encrypted key, in PKCS#8's way or OpenSSL's older one.
fn is_encrypted(text: &[u8]) -> bool {
    let holds = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED")
}
