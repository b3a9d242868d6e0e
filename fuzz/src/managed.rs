//! Target: what the proxy reads of its own where others can write: a root file, and the records of a keyring that is kept in
//! etcd, which whoever writes to etcd may have made.

use etcd_encryption_proxy::managed::{RootSecret, fuzz::rewritten, parse_root_file};

use super::source::Source;

/// Where the seed's document lies in the archive.
const ARCHIVED: &str = "archive/sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A root file, or a record, by the first byte.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let is_record = source.flag();
    let bytes = source.rest();
    if is_record {
        records(bytes);
    } else {
        root_file(bytes);
    }
}

/// It gives roots of the lengths that they must have, or a reason that shows nothing of it.
fn root_file(bytes: &[u8]) {
    match parse_root_file(bytes) {
        Ok(roots) => {
            assert!((1..=8).contains(&roots.len()));
            for root in &roots {
                match &root.secret {
                    RootSecret::Key(key) => assert_eq!(key.len(), 32),
                    RootSecret::Passphrase(text) => assert!(text.len() >= 20),
                }
                // A file of bytes is no text.
                assert!(root.line > 0 || (bytes.len() == 32 && roots.len() == 1));
            }
            let shown = format!("{roots:?}");
            assert!(roots.iter().all(|root| match &root.secret {
                RootSecret::Key(key) | RootSecret::Passphrase(key) =>
                    str::from_utf8(key.expose()).map_or(true, |text| !shown.contains(text)),
            }));
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

/// What is taken is written in one way; what is refused names a field and can be shown.
fn records(bytes: &[u8]) {
    for name in ["keyring", ARCHIVED] {
        match rewritten(name, bytes) {
            Ok(once) => {
                let twice = rewritten(name, &once).expect("what was written is read");
                assert_eq!(once, twice);
            }
            Err(error) => {
                let told = error.to_string();
                assert!(!told.contains(char::is_control) && told.len() < 4_000, "{told:?}");
            }
        }
    }
}

/// Root files of each kind, and a record of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let key = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
    let bytes: Vec<u8> = (0..32).collect();
    let files = [
        bytes.as_slice(),
        b"passphrase:abcdefghijklmnopqrst\n",
        b"# old\nQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=\r\n\n passphrase: correct horse battery staple\n",
    ];
    let stretch = r#""stretch":{"algorithm":"argon2id-19","salt":"AAAAAAAAAAAAAAAAAAAAAA==","memoryKib":65536,"passes":3,"lanes":4}"#;
    let print = &ARCHIVED["archive/".len()..];
    let derived = format!(r#"{{"derived":"{key}"}}"#);
    let kms = r#"{"kms":{"keyId":"one","key":"AAAA","annotations":{"version.example.com":"AA=="}}}"#;
    let sealed = |key: &str| {
        format!(
            r#""sealed":{{"root":"0123456789abcdef","key":{key},"nonce":"AAAAAAAAAAAAAAAA","ciphertext":"{}"}}"#,
            "AAAA".repeat(8)
        )
    };
    let keyring = |key: &str| {
        format!(
            r#"{{"schema":1,"about":{{"generation":1,"fingerprint":"{print}","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z","by":"host","keys":[{{"provider":"aescbc","name":"k","since":"2026-01-01T00:00:00Z"}}],{stretch}}},{}}}"#,
            sealed(key)
        )
    };
    let archived = format!(
        r#"{{"schema":1,"about":{{"generation":1,"fingerprint":"{print}","retired":"2026-01-01T00:00:00Z","by":"host",{stretch}}},{}}}"#,
        sealed(&derived)
    );
    let records = [keyring(&derived), keyring(kms), archived];
    let files = files.iter().map(|file| [&[0], *file].concat());
    let records = records.iter().map(|record| [&[1], record.as_bytes()].concat());
    files.chain(records).collect()
}
