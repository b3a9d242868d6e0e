//! From a configuration back to JSON, where it was JSON: k3s reads its file with Go's `encoding/json` and nothing else. One
//! line, with the fields in the order in which k3s and Kubernetes write them, in ASCII.

use std::fmt::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::go::GoDuration;
use super::model::{Entry, Key, Kms, KmsApiVersion, Provider};
use crate::types::Fingerprint;

/// Bytes of the comment's hash that make the line of white space.
const MARK: usize = 8;

/// The document of `entries`, and behind it the mark of `comment`.
///
/// JSON has no comments, and no field is free for one: kube-apiserver refuses unknown fields and fields that are there twice.
/// But what a rotation writes needs a fingerprint of its own each time. White space behind the document is all that every
/// reader accepts and none looks at: a line of 64 spaces and tabs, which are the bits of a hash of the comment.
pub(super) fn write(entries: &[Entry], comment: &str, to: &mut impl Write) -> fmt::Result {
    to.write_str(r#"{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":["#)?;
    list(entries, to, write_entry)?;
    to.write_str("]}\n")?;
    for byte in Fingerprint::of(comment.as_bytes()).into_bytes().into_iter().take(MARK) {
        for bit in 0..8 {
            to.write_char(if byte >> bit & 1 == 0 { ' ' } else { '\t' })?;
        }
    }
    to.write_char('\n')
}

fn list<T, W: Write>(items: &[T], to: &mut W, one: impl Fn(&T, &mut W) -> fmt::Result) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            to.write_char(',')?;
        }
        one(item, to)?;
    }
    Ok(())
}

fn write_entry(entry: &Entry, to: &mut impl Write) -> fmt::Result {
    to.write_str(r#"{"resources":["#)?;
    list(&entry.resources, to, |resource, to| {
        write!(to, "{}", Text(&resource.to_string()))
    })?;
    to.write_str(r#"],"providers":["#)?;
    list(&entry.providers, to, |provider, to| match provider {
        Provider::Identity => to.write_str(r#"{"identity":{}}"#),
        Provider::Kms(kms) => write_kms(kms, to),
        Provider::AesCbc { keys } => write_keys("aescbc", keys, to),
        Provider::AesGcm { keys } => write_keys("aesgcm", keys, to),
        Provider::Secretbox { keys } => write_keys("secretbox", keys, to),
    })?;
    to.write_str("]}")
}

fn write_keys(provider: &str, keys: &[Key], to: &mut impl Write) -> fmt::Result {
    write!(to, r#"{{"{provider}":{{"keys":["#)?;
    list(keys, to, |key, to| {
        let secret = Zeroizing::new(STANDARD.encode(key.secret.expose()));
        write!(
            to,
            r#"{{"name":{},"secret":"{}"}}"#,
            Text(key.name.as_str()),
            secret.as_str()
        )
    })?;
    to.write_str("]}}")
}

fn write_kms(kms: &Kms, to: &mut impl Write) -> fmt::Result {
    let version = match kms.api_version {
        KmsApiVersion::V1 => "v1",
        KmsApiVersion::V2 => "v2",
    };
    let name = Text(kms.name.as_str());
    write!(to, r#"{{"kms":{{"apiVersion":"{version}","name":{name}"#)?;
    if let Some(size) = kms.cache_size {
        write!(to, r#","cachesize":{size}"#)?;
    }
    let nanoseconds = i64::try_from(kms.timeout.as_nanos()).unwrap_or(i64::MAX);
    let timeout = GoDuration(nanoseconds).to_string();
    write!(
        to,
        r#","endpoint":{},"timeout":{}}}}}"#,
        Text(&kms.endpoint),
        Text(&timeout)
    )
}

/// A string in quotes, with all escaped that is not printable ASCII.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => f.write_char(character)?,
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(f, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        f.write_char('"')
    }
}
