//! Which files are taken, and what is said of the others.

use std::path::Path;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};

use super::pki::{Authority, EXPIRED_AT, Folder, expire};
use crate::tls::error::{Error, FileRole};
use crate::tls::files::{Identity, PemFile};
use crate::tls::validity::Warning;

/// Loads the two texts as a server's certificate and key.
fn load(cert: &str, key: &str) -> Result<Identity, Error> {
    let folder = Folder::new();
    let (cert, key) = (folder.write("tls.crt", cert), folder.write("tls.key", key));
    load_files(&cert, &key)
}

fn load_files(cert: &Path, key: &Path) -> Result<Identity, Error> {
    Identity::load(
        PemFile {
            role: FileRole::ServerCert,
            file: cert,
        },
        PemFile {
            role: FileRole::ServerKey,
            file: key,
        },
    )
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

fn failure(cert: &str, key: &str) -> Error {
    load(cert, key).map(|_| "loaded").unwrap_err()
}

#[test]
fn every_usual_form_of_a_private_key_is_read() {
    let ca = Authority::new("ca");
    let issue = |key: &KeyPair| ca.issue_for(key, "server", &["localhost"], |_| {});

    let ec = KeyPair::generate().unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, ec.serialized_der()).unwrap();
    let sec1 = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&pair.private_key()).unwrap();
    // What `openssl ecparam -genkey` writes: the name of the curve comes first.
    let sec1 = pem("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]) + &pem("EC PRIVATE KEY", sec1.as_ref());

    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    // PKCS#8 wraps PKCS#1 of 2048 bits in 26 bytes of header.
    let pkcs1 = pem("RSA PRIVATE KEY", &rsa.serialized_der()[26..]);
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();

    for (key, text) in [
        (&ec, ec.serialize_pem()),
        (&ec, sec1),
        (&rsa, rsa.serialize_pem()),
        (&rsa, pkcs1),
        (&ed25519, ed25519.serialize_pem()),
        // Everything in one file, notes in between, lines ended as on Windows.
        (
            &ec,
            format!("notes\n{}{}", issue(&ec), ec.serialize_pem()).replace('\n', "\r\n"),
        ),
    ] {
        load(&issue(key), &text).map(|_| ()).unwrap();
    }
}

#[test]
fn each_fault_of_a_file_has_its_own_error() {
    let ca = Authority::new("ca");
    let issued = ca.issue("server", &["localhost"]);
    let (cert, key) = (issued.cert.as_str(), issued.key.serialize_pem());

    assert!(matches!(failure("", &key), Error::NoCertificate { .. }));
    assert!(matches!(failure(&key, &key), Error::NoCertificate { .. }));
    assert!(matches!(failure(cert, cert), Error::NoKey { .. }));
    assert!(matches!(failure(cert, ""), Error::NoKey { .. }));
    assert!(matches!(
        failure(&cert.replace("-----END", "----"), &key),
        Error::BadPem { .. }
    ));
    assert!(matches!(
        failure(cert, &key.replace("-----END", "----")),
        Error::BadPem { .. }
    ));
    assert!(matches!(
        failure(&(cert.to_owned() + &pem("CERTIFICATE", b"?")), &key),
        Error::BadCertificate { position: 2, .. }
    ));
    assert!(matches!(failure(cert, &pem("PRIVATE KEY", b"?")), Error::BadKey { .. }));
    assert!(matches!(
        failure(cert, &pem("ENCRYPTED PRIVATE KEY", b"?")),
        Error::EncryptedKey { .. }
    ));
    let old_style = key.replace(
        "KEY-----\n",
        "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n",
    );
    assert!(matches!(failure(cert, &old_style), Error::EncryptedKey { .. }));
    // The issuer in front of the server's own certificate.
    assert!(matches!(failure(&(ca.pem() + cert), &key), Error::KeyMismatch { .. }));
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert!(matches!(failure(cert, &other), Error::KeyMismatch { .. }));
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_flag() {
    let folder = Folder::new();
    let (cert, key) = folder.write_pair("server", &Authority::new("ca").issue("server", &[]));
    let missing = folder.path("missing.pem");
    for (result, flag, file) in [
        (load_files(&missing, &key), "--cert-file", &missing),
        (load_files(&cert, &missing), "--key-file", &missing),
        (load_files(&folder.path(""), &key), "--cert-file", &folder.path("")),
    ] {
        let error = result.map(|_| "loaded").unwrap_err();
        assert!(matches!(error, Error::Read { .. }));
        assert_eq!(error.to_string(), format!("{flag} {file:?} cannot be read"));
    }
    let endless = load_files(&cert, Path::new("/dev/zero")).map(|_| "loaded").unwrap_err();
    assert!(matches!(endless, Error::TooLarge { .. }));
}

#[test]
fn no_error_repeats_what_a_key_file_holds() {
    let issued = Authority::new("ca").issue("server", &[]);
    let key = issued.key.serialize_pem();
    let secret = "SECRETSECRETSECRET";
    for (cert, key) in [
        (issued.cert.as_str(), key.replacen('M', &format!("{secret}!"), 1)),
        (&issued.cert, format!("-----BEGIN {secret}\n{key}")),
        (&issued.cert, format!("-----BEGIN PRIVATE KEY-----\n{secret}")),
        // A combined file, whose key part is broken, named as the certificate.
        (
            &format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----\n"),
            key.clone(),
        ),
    ] {
        let error = failure(cert, &key);
        let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
        assert!(
            !shown.contains(secret) && !shown.contains("83, 69, 67") && !shown.contains("InvalidCh"),
            "{shown}"
        );
    }
}

#[test]
fn what_has_expired_is_loaded_with_a_warning() {
    let ca = Authority::expired("ca");
    let issued = ca.issue_with("server", &[], expire);
    let identity = load(&issued.cert, &issued.key.serialize_pem()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(identity.validity.not_after, EXPIRED_AT);
    assert!(matches!(
        identity.warnings[..],
        [Warning::Expired {
            not_after: EXPIRED_AT,
            position: 1,
            ..
        }]
    ));

    let folder = Folder::new();
    let file = folder.write("ca.crt", Authority::new("current").pem() + &ca.pem());
    let roots = PemFile {
        role: FileRole::TrustedCa,
        file: &file,
    }
    .roots()
    .unwrap();
    assert_eq!((roots.store.len(), roots.certificates.len()), (2, 2));
    assert!(matches!(
        roots.warnings[..],
        [Warning::Expired {
            role: FileRole::TrustedCa,
            position: 2,
            ..
        }]
    ));
}

#[test]
fn one_unfit_ca_refuses_the_file() {
    let folder = Folder::new();
    let file = folder.write("ca.crt", Authority::new("ca").pem() + &pem("CERTIFICATE", b"?"));
    let error = PemFile {
        role: FileRole::EtcdCa,
        file: &file,
    }
    .roots()
    .err()
    .unwrap();
    assert!(matches!(
        error,
        Error::BadCertificate {
            role: FileRole::EtcdCa,
            position: 2,
            ..
        }
    ));
}
