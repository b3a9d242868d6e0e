//! A root of 32 bytes, and the key that each sealing has of its own. Its bytes leave it in no other way.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

use super::root_id::RootId;
use crate::types::SecretBytes;

/// What a derived key is for.
const CONTENT_KEY: &[u8] = b"etcd-encryption-proxy content key v1";

/// Random bytes that make a sealing's key its own.
pub(super) const CONTENT_SALT: usize = 32;

/// A root.
pub(super) struct Root {
    id: RootId,
    key: SecretBytes,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.id).finish()
    }
}

impl Root {
    /// Takes 32 uniform bytes: random ones, or what Argon2id has made.
    pub(super) fn new(key: SecretBytes) -> Option<Self> {
        let id = RootId::of_key(key.expose())?;
        Some(Self { id, key })
    }

    pub(super) fn id(&self) -> RootId {
        self.id
    }

    /// HKDF-SHA256 of the root with a salt of the sealing's own: 256 random bits keep any two apart, so that no key ever
    /// seals two documents and none wears out.
    pub(super) fn content_key(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let prk = Salt::new(HKDF_SHA256, salt).extract(self.key.expose());
        let key = prk.expand(&[CONTENT_KEY], &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}
