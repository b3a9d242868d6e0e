//! The rules for lists of named keys. What a message says of a secret is its length at most.

use crate::{
    config::{
        error::Problems,
        go::decode_base64,
        model::Key,
        path::Path,
        schema::{KeyFields, List},
    },
    types::KeyName,
};

/// Lengths of AES-128, AES-192 and AES-256 keys, in bytes.
pub(super) const AES_LENGTHS: &[usize] = &[16, 24, 32];

/// The length of an XSalsa20-Poly1305 key, in bytes.
pub(super) const SECRETBOX_LENGTHS: &[usize] = &[32];

/// The keys of `list` without those that have problems.
pub(super) fn validate_keys(
    list: &List<KeyFields<'_>>,
    path: Path<'_>,
    lengths: &[usize],
    problems: &mut Problems,
) -> Vec<Key> {
    if list.value.is_empty() {
        problems.push(list.at, || path.required("at least one keys is required"));
    }
    let fields = list.value.iter().enumerate();
    fields
        .filter_map(|(index, fields)| validate_key(fields, path.element(index), lengths, problems))
        .collect()
}

fn validate_key(
    KeyFields { name, secret }: &KeyFields<'_>,
    path: Path<'_>,
    lengths: &[usize],
    problems: &mut Problems,
) -> Option<Key> {
    if name.value.is_empty() {
        let detail = "name is a mandatory field for a key";
        problems.push(name.at, || path.field("name").required(detail));
    }
    let path = path.field("secret");
    if secret.value.is_empty() {
        problems.push(secret.at, || path.required("secret is a mandatory field for a key"));
        return None;
    }
    let Some(bytes) = decode_base64(secret.value) else {
        problems.push(secret.at, || {
            path.invalid("\"REDACTED\"", "secrets must be base64 encoded")
        });
        return None;
    };
    if !lengths.contains(&bytes.len()) {
        problems.push(secret.at, || {
            let expected: Vec<String> = lengths.iter().map(usize::to_string).collect();
            let detail = format_args!(
                "secret is not of the expected length, got {}, expected one of [{}]",
                bytes.len(),
                expected.join(" ")
            );
            path.invalid("\"REDACTED\"", detail)
        });
        return None;
    }
    (!name.value.is_empty()).then(|| Key {
        name: KeyName::new(name.value),
        secret: bytes,
    })
}
