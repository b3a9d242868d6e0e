//! Why TLS could not be set up. Every text names the file and its flag, and no byte that a key file holds.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::files::MAX_FILE_BYTES;
use super::validity::Warning;
use crate::files::{self, Exposure};

/// What is wrong with the TLS files or flags.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing, a folder, or not readable for this user.
    #[error("{role} {file:?} cannot be read")]
    Read {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than [`MAX_FILE_BYTES`].
    #[error("{role} {file:?} is larger than {MAX_FILE_BYTES} bytes, too much for a PEM file")]
    TooLarge {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
    },
    /// The PEM framing or its base64 is broken.
    #[error("{role} {file:?} is not intact PEM: {problem}")]
    BadPem {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
        /// What is broken. The parser's own error is not kept: it quotes what it read.
        problem: &'static str,
    },
    /// There is no certificate in the file.
    #[error(
        "{role} {file:?} holds no certificate: PEM blocks that begin with -----BEGIN CERTIFICATE----- are expected"
    )]
    NoCertificate {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
    },
    /// One of the file's certificates is not one that TLS can use.
    #[error("certificate {position} in {role} {file:?} cannot be used: an X.509 version 3 certificate is expected")]
    BadCertificate {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
        /// Which certificate of the file, from 1.
        position: usize,
        /// What the certificate parser said.
        source: rustls::Error,
    },
    /// There is no private key in the file.
    #[error("{role} {file:?} holds no private key: a PEM block of PKCS#8, PKCS#1 (RSA) or SEC1 (EC) is expected")]
    NoKey {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
    },
    /// The private key needs a passphrase, which nobody is there to type.
    #[error(
        "the private key in {role} {file:?} is encrypted; store it without a passphrase, readable by this user only"
    )]
    EncryptedKey {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
    },
    /// The private key is broken or of a kind that TLS here has no use for.
    #[error(
        "the private key in {role} {file:?} cannot be used: it is broken, or not one of RSA (2048 to 8192 bits), ECDSA \
         (P-256, P-384, P-521) and Ed25519"
    )]
    BadKey {
        /// Which flag named it.
        role: FileRole,
        /// The file.
        file: PathBuf,
    },
    /// The private key belongs to another certificate.
    #[error(
        "the private key in {key_role} {key_file:?} does not belong to the first certificate in {cert_role} {cert_file:?}; \
         the certificate of the key itself comes first, those of its issuers after it"
    )]
    KeyMismatch {
        /// Which flag named the certificate.
        cert_role: FileRole,
        /// The certificate's file.
        cert_file: PathBuf,
        /// Which flag named the key.
        key_role: FileRole,
        /// The key's file.
        key_file: PathBuf,
    },
    /// A client certificate for etcd without its key, or the other way round.
    #[error("{0} is missing: --etcd-certfile and --etcd-keyfile are given together or not at all")]
    HalfIdentity(FileRole),
    /// An etcd server is to be reached over TLS, and nothing says whose certificate to trust.
    #[error(
        "{} is missing: without it no certificate of an etcd server can be checked. If a public CA really signed it, name \
         the system's bundle, such as /etc/ssl/certs/ca-certificates.crt",
        FileRole::EtcdCa
    )]
    NoEtcdCa,
    /// Client certificates are demanded, and nothing says whose.
    #[error(
        "--client-cert-auth needs {}: the CA that signs the clients' certificates",
        FileRole::TrustedCa
    )]
    ClientAuthWithoutCa,
    /// Only some clients are allowed, but no client would be asked who it is.
    #[error(
        "--client-cert-allowed-cn and --client-cert-allowed-hostname need {}: no client is asked for a certificate without it",
        FileRole::TrustedCa
    )]
    AllowedWithoutCa,
    /// Two rules that etcd, too, does not take together.
    #[error("--client-cert-allowed-cn and --client-cert-allowed-hostname exclude each other")]
    AllowedTwice,
    /// An empty name would allow either nobody or everybody, and both are likely a slip.
    #[error("an empty name was given to --client-cert-allowed-cn or --client-cert-allowed-hostname")]
    AllowedEmpty,
    /// Neither a DNS name nor an IP address; wildcards belong in certificates.
    #[error("--client-cert-allowed-hostname {name:?} is neither a DNS name nor an IP address; wildcards are not taken")]
    BadAllowedHostname {
        /// What was given.
        name: String,
    },
    /// Others can read the private key, and that is refused.
    #[error("{role}: {exposure}")]
    Exposed {
        /// Which flag named it.
        role: FileRole,
        /// Who can.
        exposure: Exposure,
    },
    /// A new certificate of ours that no peer would accept.
    #[error("{0}; no peer would accept it")]
    NotValidNow(Warning),
    /// Something that is no file has taken a file's place.
    #[error(transparent)]
    Kind(files::Error),
    /// The files were replaced again each time they were read.
    #[error("the TLS files change faster than they can be loaded")]
    Restless,
    /// rustls refused the client verifier; not to be expected once the files have been read.
    #[error("the check of certificates cannot be set up")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// rustls refused its own protocol versions; not to be expected.
    #[error("TLS 1.2 and 1.3 cannot be set up")]
    Protocol(#[source] rustls::Error),
}

/// What a file is for; shown as the flag that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRole {
    /// The certificate shown to downstream clients, issuers after it.
    ServerCert,
    /// Its private key.
    ServerKey,
    /// The CAs of downstream clients' certificates.
    TrustedCa,
    /// The CAs of etcd's certificates.
    EtcdCa,
    /// The certificate shown to etcd.
    EtcdCert,
    /// Its private key.
    EtcdKey,
}

impl fmt::Display for FileRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerCert => "--cert-file",
            Self::ServerKey => "--key-file",
            Self::TrustedCa => "--trusted-ca-file",
            Self::EtcdCa => "--etcd-cafile",
            Self::EtcdCert => "--etcd-certfile",
            Self::EtcdKey => "--etcd-keyfile",
        })
    }
}
