//! The provider and key that a value is sealed with, by name. Pure.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::value::{Chain, Opened, ProviderKind, is_sealed, sealed_by};

/// The provider and key that a value is sealed with, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Under {
    /// As a configuration names it, kms with its version: `aescbc`, `kms v2`; `identity` for plaintext; `unknown` where
    /// a sealed value does not say it in a way that can be shown.
    pub provider: Cow<'static, str>,
    /// The name of the key, or of the KMS plugin; empty for identity.
    pub key: String,
}

impl Under {
    /// What is not among the rows of its own in a list that is full.
    pub fn others() -> Self {
        Self {
            provider: Cow::Borrowed("(others)"),
            key: String::new(),
        }
    }

    /// No encryption.
    pub fn identity() -> Self {
        Self::of(ProviderKind::Identity, "")
    }

    /// A provider of this kind, with this key.
    pub fn of(kind: ProviderKind, key: &str) -> Self {
        let provider = match kind {
            ProviderKind::Identity => "identity",
            ProviderKind::AesCbc => "aescbc",
            ProviderKind::AesGcm => "aesgcm",
            ProviderKind::Secretbox => "secretbox",
            ProviderKind::KmsV1 => "kms v1",
            ProviderKind::KmsV2 => "kms v2",
        };
        Self {
            provider: Cow::Borrowed(provider),
            key: key.to_owned(),
        }
    }

    /// What a value was under that `chain` has opened.
    pub fn opened(chain: &Chain, opened: Opened) -> Self {
        chain
            .readers()
            .nth(opened.provider)
            .map_or_else(Self::identity, |provider| {
                let name = provider.key_names().get(opened.key);
                Self::of(provider.kind(), name.map_or("", |name| name.as_str()))
            })
    }

    /// What it would take to open `stored`: the keys that the rule knows by that name come first, because only they tell
    /// where a name with colons ends.
    pub fn needed(chain: &Chain, stored: &[u8]) -> Self {
        Self::known(chain, stored).unwrap_or_else(|| Self::claimed(stored))
    }

    /// The key of `chain` whose name `stored` bears, if there is one. Nothing is said of KMS plugins, which have one name
    /// for all their keys.
    pub fn known(chain: &Chain, stored: &[u8]) -> Option<Self> {
        chain.candidates(stored).find_map(|candidate| {
            let provider = chain.readers().nth(candidate.provider)?;
            let key = candidate.keys().next()?;
            Some(Self::of(provider.kind(), provider.key_names().get(key)?.as_str()))
        })
    }

    /// What `stored` says of itself, whether or not anybody has such a key.
    pub fn claimed(stored: &[u8]) -> Self {
        match sealed_by(stored) {
            _ if !is_sealed(stored) => Self::identity(),
            Some(found) => Self {
                provider: Cow::Owned(found.provider),
                key: found.key,
            },
            None => Self {
                provider: Cow::Borrowed("unknown"),
                key: String::new(),
            },
        }
    }
}

/// For people: `aescbc key "k1"`, `identity`.
impl std::fmt::Display for Under {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Both may be out of a stored value.
        write!(f, "{}", self.provider.escape_debug())?;
        match self.key.as_str() {
            "" => Ok(()),
            key => write!(f, " key {key:?}"),
        }
    }
}
