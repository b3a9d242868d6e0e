//! A change of the configuration as the machine names it, made to a draft; new keys are drawn here, and nowhere else.

use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::config::{Draft, EncryptionConfiguration, Key, KeyId};
use crate::rotation::Error;
use crate::rotation::machine::Change;
use crate::types::SecretBytes;

/// Bytes of a new key: those of AES-256 and of secretbox.
const KEY_BYTES: usize = 32;

/// The configuration with `change` made to it.
pub(super) fn changed(config: &EncryptionConfiguration, change: Change) -> Result<Draft, Error> {
    let mut draft = Draft::of(config);
    match change {
        Change::Append(pairs) => {
            for (writer, key) in pairs {
                draft.append(&writer, key.provider, &drawn(&key)?);
            }
        }
        Change::Promote(pairs) => {
            for (key, over) in pairs {
                draft.promote(&key, &over);
            }
        }
        Change::Reinstate(pairs) => {
            for (key, over) in pairs {
                draft.reinstate(&key, &over);
            }
        }
        Change::ReadWith(readers) => {
            for reader in readers {
                draft.read_with(&reader.rule, reader.id.provider, &reader.key);
            }
        }
        Change::AddProvider(key) => draft.add_provider(key.provider, &drawn(&key)?),
        Change::AddIdentity => draft.add_identity(),
        Change::IdentityFirst => draft.identity_first(),
        Change::IdentityLast => draft.identity_last(),
    }
    Ok(draft)
}

/// A key of that name, drawn from the operating system.
fn drawn(key: &KeyId) -> Result<Key, Error> {
    let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| Error::Random)?;
    Ok(Key {
        name: key.name.clone(),
        secret: SecretBytes::new(std::mem::take(&mut bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyType;
    use crate::types::KeyName;

    /// Bytes that are not drawn are the same each time, or zero.
    #[test]
    fn no_two_keys_are_the_same_and_none_is_empty() {
        let id = KeyId {
            provider: KeyType::AesGcm,
            name: KeyName::new("k"),
        };
        let mut seen = std::collections::HashSet::new();
        for _ in 0..64 {
            let key = drawn(&id).unwrap();
            let bytes = key.secret.expose().to_vec();
            assert_eq!(bytes.len(), KEY_BYTES);
            // Of 32 bytes half at least are different ones, but for one key in 2^128.
            let different: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
            assert!(different.len() >= KEY_BYTES / 2, "{} different bytes", different.len());
            assert!(seen.insert(bytes), "a key was drawn twice");
        }
    }
}
