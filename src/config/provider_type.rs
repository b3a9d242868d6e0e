//! What kind of provider seals a value, by the name that records and reports give it. Pure.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::keys::KeyType;
use super::model::KmsApiVersion;

/// A kind of provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProviderType {
    /// Its keys stand in the configuration.
    Keys(KeyType),
    /// A plugin has its key.
    Kms(KmsApiVersion),
    /// It has none: values are stored in the clear.
    Identity,
}

impl ProviderType {
    const ALL: [Self; 6] = [
        Self::Keys(KeyType::AesCbc),
        Self::Keys(KeyType::AesGcm),
        Self::Keys(KeyType::Secretbox),
        Self::Kms(KmsApiVersion::V1),
        Self::Kms(KmsApiVersion::V2),
        Self::Identity,
    ];

    /// Its name, as members' records and inventories have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keys(of) => of.as_str(),
            Self::Kms(KmsApiVersion::V1) => "kms v1",
            Self::Kms(KmsApiVersion::V2) => "kms v2",
            Self::Identity => "identity",
        }
    }

    /// What its keys are for, if they stand in the configuration.
    pub fn key_type(self) -> Option<KeyType> {
        match self {
            Self::Keys(of) => Some(of),
            Self::Kms(_) | Self::Identity => None,
        }
    }
}

impl From<KeyType> for ProviderType {
    fn from(of: KeyType) -> Self {
        Self::Keys(of)
    }
}

impl PartialEq<ProviderType> for KeyType {
    fn eq(&self, other: &ProviderType) -> bool {
        ProviderType::Keys(*self) == *other
    }
}

impl PartialEq<KeyType> for ProviderType {
    fn eq(&self, other: &KeyType) -> bool {
        other == self
    }
}

impl fmt::Display for ProviderType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kms(KmsApiVersion::V1) => "KMS v1",
            Self::Kms(KmsApiVersion::V2) => "KMS v2",
            _ => self.as_str(),
        })
    }
}

impl Serialize for ProviderType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProviderType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let found = Self::ALL.into_iter().find(|of| of.as_str() == text);
        found.ok_or_else(|| de::Error::custom("a provider that this version does not know"))
    }
}
