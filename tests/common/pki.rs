//! A certificate authority made for one test, and the certificates it signed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Where a certificate and its key lie.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM.
    pub cert: PathBuf,
    /// PEM, PKCS #8.
    pub key: PathBuf,
}

/// An authority with a server's and a client's certificate, as files.
#[derive(Debug)]
pub struct Pki {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate, good for the names it was generated for.
    pub server_cert: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// The client's certificate, with CN `client` and SAN `client.test`.
    pub client_cert: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Pki {
    /// Makes an authority and signs a server for `names` and a client, all in `folder`.
    pub fn generate(folder: &Path, names: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("empty names are valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key pair");
        let ca = folder.join("ca.pem");
        fs::write(&ca, params.self_signed(&key).expect("a self-signed certificate").pem()).expect("a file");
        let issuer = Issuer::new(params, key);
        let server = sign(&issuer, folder, "server", names, |_| {});
        let client = sign(&issuer, folder, "client", &["client.test"], |_| {});
        Self {
            ca,
            server_cert: server.cert,
            server_key: server.key,
            client_cert: client.cert,
            client_key: client.key,
            issuer,
            folder: folder.to_owned(),
        }
    }

    /// Signs one more certificate, with `name` as CN and file name.
    pub fn sign(&self, name: &str, sans: &[&str]) -> Pair {
        sign(&self.issuer, &self.folder, name, sans, |_| {})
    }

    /// The same without a CN, which etcd's grpc-proxy wants of the certificate that it shows to etcd.
    pub fn sign_nameless(&self, name: &str, sans: &[&str]) -> Pair {
        sign(&self.issuer, &self.folder, name, sans, |params| {
            params.distinguished_name = DistinguishedName::new();
        })
    }

    /// The same, valid until the first day of `year`; gives that moment in Unix time too.
    pub fn sign_until(&self, name: &str, sans: &[&str], year: i32) -> (Pair, i64) {
        let end = date_time_ymd(year, 1, 1);
        let pair = sign(&self.issuer, &self.folder, name, sans, |params| params.not_after = end);
        (pair, end.unix_timestamp())
    }

    /// What a client needs that trusts the authority and shows its certificate.
    pub fn client_tls(&self) -> ClientTlsConfig {
        self.client_tls_with(&Pair {
            cert: self.client_cert.clone(),
            key: self.client_key.clone(),
        })
    }

    /// The same with another certificate.
    pub fn client_tls_with(&self, pair: &Pair) -> ClientTlsConfig {
        let read = |path: &Path| fs::read(path).expect("a certificate file");
        self.anonymous_tls()
            .identity(Identity::from_pem(read(&pair.cert), read(&pair.key)))
    }

    /// What a client needs that trusts the authority and shows nothing.
    pub fn anonymous_tls(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(fs::read(&self.ca).expect("the authority's file")))
            .domain_name("localhost")
    }
}

/// A certificate for `names` that is its own CA's, as `openssl req -x509` makes one, in `folder`.
pub fn self_signed(folder: &Path, names: &[&str]) -> Pair {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("valid names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key pair");
    let certificate = params.self_signed(&key).expect("a self-signed certificate");
    let pair = Pair {
        cert: folder.join("self-signed.pem"),
        key: folder.join("self-signed.key"),
    };
    fs::write(&pair.cert, certificate.pem()).expect("a file");
    fs::write(&pair.key, key.serialize_pem()).expect("a file");
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o600)).expect("its permissions");
    pair
}

fn sign(
    issuer: &Issuer<'static, KeyPair>,
    folder: &Path,
    name: &str,
    sans: &[&str],
    edit: impl FnOnce(&mut CertificateParams),
) -> Pair {
    let sans: Vec<_> = sans.iter().map(|&san| san.to_owned()).collect();
    let mut params = CertificateParams::new(sans).expect("valid names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // etcd dials itself with its server certificate, which therefore has to do as a client's too.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    edit(&mut params);
    let key = KeyPair::generate().expect("a key pair");
    let certificate = params.signed_by(&key, issuer).expect("a signed certificate");
    let pair = Pair {
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&pair.cert, certificate.pem()).expect("a file");
    fs::write(&pair.key, key.serialize_pem()).expect("a file");
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o600)).expect("its permissions");
    pair
}
