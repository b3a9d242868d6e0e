//! A change of the configuration as the machine names it, made to a draft; new keys are drawn here, and nowhere else.

use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::config::{Draft, EncryptionConfiguration, Key, KeyId, Kms, Provider, ProviderType, Target};
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
                let of = key.key_type().ok_or(Error::NoKey)?;
                draft.append(&writer, of, &drawn(&key)?);
            }
        }
        Change::Introduce(pairs, to) => introduce(&mut draft, config, &pairs, &to)?,
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
                let of = reader.id.key_type().ok_or(Error::NoKey)?;
                draft.read_with(&reader.rule, of, &reader.key);
            }
        }
        Change::AddProvider(key) => {
            let of = key.key_type().ok_or(Error::NoKey)?;
            draft.add_provider(of, &drawn(&key)?);
        }
        Change::AddIdentity => draft.add_identity(),
        Change::IdentityFirst => draft.identity_first(),
        Change::IdentityLast => draft.identity_last(),
    }
    Ok(draft)
}

/// What follows each writer of `pairs` is listed behind it.
fn introduce(
    draft: &mut Draft,
    config: &EncryptionConfiguration,
    pairs: &[(KeyId, KeyId)],
    to: &Target,
) -> Result<(), Error> {
    // One key is one key, in however many entries it comes to stand.
    let mut keys: Vec<(KeyId, Key)> = Vec::new();
    for (_, id) in pairs.iter().filter(|(_, id)| id.key_type().is_some()) {
        if keys.iter().all(|(known, _)| known != id) {
            let key = config.key(id).cloned();
            keys.push((id.clone(), key.map_or_else(|| drawn(id), Ok)?));
        }
    }
    draft.introduce(pairs, |id| match (id.provider, to) {
        (ProviderType::Keys(of), _) => {
            let key = keys.iter().find(|(known, _)| known == id);
            key.map(|(_, key)| Provider::with_keys(of, vec![key.clone()]))
        }
        (ProviderType::Kms(_), Target::Kms(kms)) => Some(Provider::Kms(Kms {
            name: id.name.clone(),
            ..kms.clone()
        })),
        (ProviderType::Identity, _) => Some(Provider::Identity),
        (ProviderType::Kms(_), _) => None,
    });
    Ok(())
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
            provider: KeyType::AesGcm.into(),
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
