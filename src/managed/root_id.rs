//! The public name of a root: it tells roots apart in records and messages, and nothing of a root can be had from it but
//! what a guess at the whole root would show.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const LEN: usize = 8;

/// What an ID is of, so that no two kinds share one.
const OF_KEY: &[u8] = b"etcd-encryption-proxy root id v1";
const OF_KMS_KEY: &[u8] = b"etcd-encryption-proxy KMS root id v1";

/// Sixteen hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId([u8; LEN]);

impl RootId {
    /// The ID of a root key of 32 uniform bytes.
    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        Self::derived(key, OF_KEY)
    }

    /// The ID of a KMS plugin's key, by the key's own public ID.
    pub(super) fn of_kms_key(key_id: &str) -> Option<Self> {
        Self::derived(key_id.as_bytes(), OF_KMS_KEY)
    }

    /// What HKDF makes of `from`. It fails for no input that there is.
    fn derived(from: &[u8], of: &[u8]) -> Option<Self> {
        struct Len;
        impl KeyType for Len {
            fn len(&self) -> usize {
                LEN
            }
        }
        let mut id = [0; LEN];
        let prk = Salt::new(HKDF_SHA256, &[]).extract(from);
        prk.expand(&[of], Len).and_then(|okm| okm.fill(&mut id)).ok()?;
        Some(Self(id))
    }

    /// Reads what is displayed.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * LEN || !text.as_bytes().iter().all(is_digit) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(|id| Self(id.to_be_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RootId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RootId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a root's ID is 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records hold IDs, so they must never come out otherwise.
    #[test]
    fn an_id_is_what_it_was_and_reads_back() {
        let id = RootId::of_key(&[7; 32]).unwrap();
        assert_eq!(id.to_string(), "7d623f6c831c40b4");
        assert_eq!(RootId::parse(&id.to_string()), Some(id));
        assert_ne!(RootId::of_kms_key("\x07"), RootId::of_key(&[7]));
        for broken in [
            "",
            "7d623f6c831c40b",
            "7D623F6C831C40B4",
            "+d623f6c831c40b4",
            "7d623f6c831c40b40",
        ] {
            assert_eq!(RootId::parse(broken), None, "{broken}");
        }
    }
}
