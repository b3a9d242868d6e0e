//! The body of a KMS v2 value: a protobuf message `v2.EncryptedObject` of k8s.io/kms, read and validated as
//! kube-apiserver does, and written in the order of its field numbers. Opens nothing.

use std::borrow::Cow;

use aws_lc_rs::digest::{Context, SHA256};

use crate::wire::{Body, Field, Fields, Value, WireError, put_bytes, put_varint};

/// `EncryptedObject`'s field numbers.
const ENCRYPTED_DATA: u32 = 1;
const KEY_ID: u32 = 2;
const ENCRYPTED_DEK_SOURCE: u32 = 3;
const ANNOTATIONS: u32 = 4;
const ENCRYPTED_DEK_SOURCE_TYPE: u32 = 5;

/// Field numbers of an entry of a protobuf map.
const MAP_KEY: u32 = 1;
const MAP_VALUE: u32 = 2;

/// Longest key ID and longest wrapped DEK, bytes; kube-apiserver's bounds.
const MAX_KEY_ID: usize = 1024;
const MAX_DEK_SOURCE: usize = 1024;

/// All annotations, keys and values, bytes; kube-apiserver's bound.
const MAX_ANNOTATIONS: usize = 32 * 1024;

/// Longest DNS name and longest label of one (RFC 1123), characters.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// What is wrong with a KMS v2 value, or with what a plugin answered. The texts begin as kube-apiserver's do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// Not the message that it should be.
    #[error("the stored data is no EncryptedObject: {0}")]
    Malformed(WireError),
    /// A field that should be bytes, text or a number is something else, or a text is not UTF-8.
    #[error("the stored data is no EncryptedObject: field {0} is not of its type")]
    FieldType(u32),
    /// There is nothing to decrypt.
    #[error("encrypted data is empty")]
    NoData,
    /// A DEK source of a type that did not exist when this was written.
    #[error("unknown encryptedDEKSourceType: {0}")]
    SourceType(u64),
    /// The wrapped DEK is empty or too long.
    #[error("failed to validate encrypted DEK source: {0}")]
    Source(LengthError),
    /// The key ID is empty or too long.
    #[error("failed to validate key id: {0}")]
    KeyId(LengthError),
    /// An annotation's key is no fully qualified domain name, or there are too many bytes of them.
    #[error("failed to validate annotations: {0}")]
    Annotations(&'static str),
}

// Not as its source: what it says is told already.
impl From<WireError> for ObjectError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

/// Something that must have 1 to so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// It has none.
    #[error("it is empty")]
    Empty,
    /// It has more.
    #[error("it is {actual} bytes, at most {limit} are allowed")]
    TooLong {
        /// How many it has.
        actual: usize,
        /// How many it may have.
        limit: usize,
    },
}

/// What a wrapped DEK is, by the numbers of `EncryptedDEKSourceType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DekKind {
    /// `AES_GCM_KEY`: the key that opens the value. Written by Kubernetes 1.25 to 1.28.
    AesGcmKey = 0,
    /// `HKDF_SHA256_XNONCE_AES_GCM_SEED`: a seed from which each value's key is derived. All that is written since 1.29.
    HkdfSeed = 1,
}

/// A wrapped DEK with all that the plugin needs to unwrap it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedDek<'a> {
    /// What is wrapped.
    pub kind: DekKind,
    /// The plugin's ciphertext, 1 to 1024 bytes.
    pub source: Cow<'a, [u8]>,
    /// Which key of the KMS wraps it, 1 to 1024 bytes.
    pub key_id: Cow<'a, str>,
    /// What else the plugin asked to be kept, sorted by key, no key twice.
    pub annotations: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
}

/// An `EncryptedObject`, borrowed from its bytes.
#[derive(Debug)]
pub(super) struct EncryptedObject<'a> {
    /// What is encrypted, with its place in the message.
    pub(super) data: Body<'a>,
    pub(super) dek: WrappedDek<'a>,
}

impl<'a> EncryptedObject<'a> {
    /// Reads and validates `body`. Unknown fields are skipped, and of a field that comes twice the last one counts.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ObjectError> {
        let (mut data, mut source, mut key_id, mut kind) = (None, &[][..], "", 0);
        let mut annotations = Vec::new();
        for field in Fields::new(body) {
            let field = field?;
            match field.number {
                ENCRYPTED_DATA => data = Some(body_of(&field)?),
                KEY_ID => key_id = text(&field)?,
                ENCRYPTED_DEK_SOURCE => source = bytes(&field)?,
                ANNOTATIONS => annotations.push(annotation(&field)?),
                ENCRYPTED_DEK_SOURCE_TYPE => kind = varint(&field)?,
                _ => {}
            }
        }
        let kind = match kind {
            0 => DekKind::AesGcmKey,
            1 => DekKind::HkdfSeed,
            other => return Err(ObjectError::SourceType(other)),
        };
        let data = data.filter(|data| !data.bytes.is_empty()).ok_or(ObjectError::NoData)?;
        let dek = WrappedDek {
            kind,
            source: source.into(),
            key_id: key_id.into(),
            annotations: sorted(annotations),
        };
        dek.validate()?;
        Ok(Self { data, dek })
    }
}

impl WrappedDek<'_> {
    /// Checks what kube-apiserver checks of it, when reading and when writing.
    ///
    /// # Errors
    /// The first of source, key ID and annotations that is out of bounds.
    pub fn validate(&self) -> Result<(), ObjectError> {
        check_length(self.source.len(), MAX_DEK_SOURCE).map_err(ObjectError::Source)?;
        check_key_id(&self.key_id).map_err(ObjectError::KeyId)?;
        let sizes = self.annotations.iter().map(|(key, value)| key.len() + value.len());
        if sizes.sum::<usize>() > MAX_ANNOTATIONS {
            return Err(ObjectError::Annotations("they have more than 32768 bytes in all"));
        }
        if !self.annotations.iter().all(|(key, _)| is_fully_qualified(key)) {
            return Err(ObjectError::Annotations("a key is not a fully qualified domain name"));
        }
        Ok(())
    }

    /// The same, owning its bytes.
    pub fn into_owned(self) -> WrappedDek<'static> {
        let own = |(key, value): (Cow<'_, str>, Cow<'_, [u8]>)| (key.into_owned().into(), value.into_owned().into());
        WrappedDek {
            kind: self.kind,
            source: self.source.into_owned().into(),
            key_id: self.key_id.into_owned().into(),
            annotations: self.annotations.into_iter().map(own).collect(),
        }
    }

    /// A name for it under which its DEK can be kept: SHA-256 over all of it, each part behind its length.
    pub fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&[self.kind as u8]);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(&self.source);
        part(self.key_id.as_bytes());
        for (key, value) in &self.annotations {
            part(key.as_bytes());
            part(value);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    /// Appends fields 2 to 5 of the `EncryptedObject`, all that follows the encrypted data.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, KEY_ID, self.key_id.as_bytes());
        put_bytes(out, ENCRYPTED_DEK_SOURCE, &self.source);
        for (key, value) in &self.annotations {
            let mut entry = Vec::new();
            put_bytes(&mut entry, MAP_KEY, key.as_bytes());
            put_bytes(&mut entry, MAP_VALUE, value);
            put_bytes(out, ANNOTATIONS, &entry);
        }
        // proto3 leaves a zero out.
        if self.kind != DekKind::AesGcmKey {
            put_varint(out, ENCRYPTED_DEK_SOURCE_TYPE, self.kind as u64);
        }
    }
}

/// Appends field 1, the encrypted data, but for its content, which is to follow.
pub(super) fn encode_data_header(out: &mut Vec<u8>, len: usize) {
    crate::wire::put_bytes_header(out, ENCRYPTED_DATA, len);
}

/// Checks a key ID as a plugin names it: 1 to 1024 bytes.
///
/// # Errors
/// It is empty or too long.
pub fn check_key_id(key_id: &str) -> Result<(), LengthError> {
    check_length(key_id.len(), MAX_KEY_ID)
}

fn check_length(actual: usize, limit: usize) -> Result<(), LengthError> {
    match actual {
        0 => Err(LengthError::Empty),
        _ if actual > limit => Err(LengthError::TooLong { actual, limit }),
        _ => Ok(()),
    }
}

/// Whether `name` is at least two lower-case RFC 1123 labels; one dot at the end is let pass.
fn is_fully_qualified(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        label.len() <= MAX_LABEL
            && label.bytes().all(|byte| is_inner(byte) || byte == b'-')
            && label.bytes().next().is_some_and(is_inner)
            && label.bytes().last().is_some_and(is_inner)
    };
    name.len() <= MAX_NAME && name.contains('.') && name.split('.').all(is_label)
}

/// A map of the annotations: of a key that comes twice the last entry counts.
fn sorted<'a>(mut annotations: Vec<(&'a str, &'a [u8])>) -> Vec<(Cow<'a, str>, Cow<'a, [u8]>)> {
    // From the back, so that of equal keys the last entry comes first and is the one that stays.
    annotations.reverse();
    annotations.sort_by_key(|&(key, _)| key);
    annotations.dedup_by_key(|&mut (key, _)| key);
    annotations
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn annotation<'a>(entry: &Field<'a>) -> Result<(&'a str, &'a [u8]), ObjectError> {
    let (mut key, mut value) = ("", &[][..]);
    for field in Fields::new(bytes(entry)?) {
        let field = field?;
        match field.number {
            MAP_KEY => key = text(&field)?,
            MAP_VALUE => value = bytes(&field)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn body_of<'a>(field: &Field<'a>) -> Result<Body<'a>, ObjectError> {
    match field.value {
        Value::Bytes(body) => Ok(body),
        _ => Err(ObjectError::FieldType(field.number)),
    }
}

fn bytes<'a>(field: &Field<'a>) -> Result<&'a [u8], ObjectError> {
    Ok(body_of(field)?.bytes)
}

fn text<'a>(field: &Field<'a>) -> Result<&'a str, ObjectError> {
    std::str::from_utf8(bytes(field)?).map_err(|_| ObjectError::FieldType(field.number))
}

fn varint(field: &Field<'_>) -> Result<u64, ObjectError> {
    match field.value {
        Value::Varint(value) => Ok(value),
        _ => Err(ObjectError::FieldType(field.number)),
    }
}
