//! Certificates and files for the tests of this room, made anew in each test.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SigningKey,
    date_time_ymd,
};
use tempfile::TempDir;

/// A CA.
pub(in crate::tls) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(in crate::tls) struct Issued {
    /// PEM.
    pub(in crate::tls) cert: String,
    pub(in crate::tls) key: KeyPair,
}

impl Authority {
    pub(in crate::tls) fn new(name: &str) -> Self {
        let (params, key) = ca_params(name);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(in crate::tls) fn expired(name: &str) -> Self {
        let (mut params, key) = ca_params(name);
        expire(&mut params);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A CA below this one.
    pub(in crate::tls) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = ca_params(name);
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub(in crate::tls) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a subject with these common names and alternative names.
    pub(in crate::tls) fn issue(&self, common_name: &str, names: &[&str]) -> Issued {
        self.issue_with(common_name, names, |_| {})
    }

    pub(in crate::tls) fn issue_with(
        &self,
        cn: &str,
        names: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let key = KeyPair::generate().unwrap();
        let cert = self.issue_for(&key, cn, names, edit);
        Issued { cert, key }
    }

    pub(in crate::tls) fn issue_for(
        &self,
        key: &impl SigningKey,
        common_name: &str,
        names: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        edit(&mut params);
        params.signed_by(key, &self.0).unwrap().pem()
    }
}

/// A certificate that is its own CA's, for these names, as `openssl req -x509` makes one.
pub(in crate::tls) fn self_signed(names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Issued {
    let (ca, key) = ca_params("self-signed");
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = ca.distinguished_name;
    params.is_ca = ca.is_ca;
    edit(&mut params);
    let cert = params.self_signed(&key).unwrap().pem();
    Issued { cert, key }
}

/// Has the certificate end at 2001-09-09 00:00 UTC, which is [`EXPIRED_AT`].
pub(in crate::tls) fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2001, 9, 9);
}

/// The end that [`expire`] sets, in Unix time.
pub(in crate::tls) const EXPIRED_AT: i64 = 999_993_600;

/// A folder of PEM files, gone after the test.
pub(in crate::tls) struct Folder(TempDir);

impl Folder {
    pub(in crate::tls) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(in crate::tls) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(in crate::tls) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes a certificate and its key, and gives the two paths.
    pub(in crate::tls) fn write_pair(&self, name: &str, issued: &Issued) -> (PathBuf, PathBuf) {
        let cert = self.write(&format!("{name}.crt"), &issued.cert);
        (cert, self.write(&format!("{name}.key"), issued.key.serialize_pem()))
    }
}

fn ca_params(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params, KeyPair::generate().unwrap())
}
