//! From when to when a certificate is valid, and what the operator should hear of it.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::CertificateError;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use super::error::FileRole;

/// Something to tell the operator at start that is no reason not to start: etcd would start too, and a certificate may be
/// replaced, or a clock be set, at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No peer will accept this certificate; for a CA: Go's TLS would accept nothing that it signed.
    Expired {
        /// Which flag named the file.
        role: FileRole,
        /// The file.
        file: PathBuf,
        /// Which certificate of the file, from 1.
        position: usize,
        /// Last valid second, in Unix time.
        not_after: i64,
    },
    /// No peer will accept this certificate yet, or this machine's clock is wrong.
    NotYetValid {
        /// Which flag named the file.
        role: FileRole,
        /// The file.
        file: PathBuf,
        /// Which certificate of the file, from 1.
        position: usize,
        /// First valid second, in Unix time.
        not_before: i64,
    },
}

impl Warning {
    /// Which flag named the certificate's file.
    pub fn role(&self) -> FileRole {
        match self {
            Self::Expired { role, .. } | Self::NotYetValid { role, .. } => *role,
        }
    }
}

impl fmt::Display for Warning {
    #[expect(
        clippy::unnecessary_debug_formatting,
        reason = "a path may hold anything; quotes and escapes show where it ends"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (role, file, position, what, at) = match self {
            Self::Expired {
                role,
                file,
                position,
                not_after,
            } => (role, file, position, "expired at", not_after),
            Self::NotYetValid {
                role,
                file,
                position,
                not_before,
            } => (role, file, position, "is not valid before", not_before),
        };
        write!(f, "certificate {position} in {role} {file:?} {what} ")?;
        match ASN1Time::from_timestamp(*at) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "Unix time {at}"),
        }
    }
}

/// A certificate's dates, both included, in seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Validity {
    pub(super) fn of(der: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
        let validity = certificate.validity();
        Ok(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// What there is to say of the certificate today.
    pub(super) fn warning(self, role: FileRole, file: &Path, position: usize) -> Option<Warning> {
        self.warning_at(ASN1Time::now().timestamp(), role, file, position)
    }

    fn warning_at(self, now: i64, role: FileRole, file: &Path, position: usize) -> Option<Warning> {
        let file = file.to_owned();
        if now > self.not_after {
            Some(Warning::Expired {
                role,
                file,
                position,
                not_after: self.not_after,
            })
        } else if now < self.not_before {
            Some(Warning::NotYetValid {
                role,
                file,
                position,
                not_before: self.not_before,
            })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_valid_and_what_lies_outside_is_told() {
        let validity = Validity {
            not_before: 100,
            not_after: 200,
        };
        let told = |now| {
            let warning = validity.warning_at(now, FileRole::ServerCert, Path::new("a.pem"), 1);
            warning.map(|warning| warning.to_string())
        };
        assert_eq!((told(100), told(200)), (None, None));
        assert_eq!(
            told(99).as_deref(),
            Some("certificate 1 in --cert-file \"a.pem\" is not valid before Jan  1 00:01:40 1970 +00:00")
        );
        assert_eq!(
            told(201).as_deref(),
            Some("certificate 1 in --cert-file \"a.pem\" expired at Jan  1 00:03:20 1970 +00:00")
        );
    }
}
