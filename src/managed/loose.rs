//! Records that were found elsewhere than in an etcd that answers: in a snapshot of one. Opened as they lay, and never written.

use super::error::Error;
use super::keyring_record::KeyringRecord;
use super::record::Name;
use super::roots::Roots;
use crate::types::{Fingerprint, SecretBytes, StatePrefix};

/// A record that opened.
#[derive(Debug)]
pub struct Loose {
    /// Its key below the state prefix, fit to be shown.
    pub name: String,
    /// Whether it is the keyring, and not of the archive.
    pub is_keyring: bool,
    /// Of which generation of the keyring its document is.
    pub generation: u64,
    /// The SHA-256 of its document.
    pub fingerprint: Fingerprint,
    /// The EncryptionConfiguration.
    pub document: SecretBytes,
}

/// Whether the keyring, or a record of its archive, lies under `key`.
pub fn is_record(state: &StatePrefix, key: &[u8]) -> bool {
    let name = Name::of(state, key);
    state.contains(key) && (name == Name::keyring() || name.fingerprint().is_some())
}

/// Opens `value`, which lay under `key`.
///
/// # Errors
/// It is none of this version's records, or none of `roots` opens it.
pub async fn open_loose(roots: &Roots, state: &StatePrefix, key: &[u8], value: &[u8]) -> Result<Loose, Error> {
    let name = Name::of(state, key);
    let is_keyring = name == Name::keyring();
    let (generation, fingerprint, opened) = if is_keyring {
        let record = KeyringRecord::parse(value)?;
        let about = &record.about;
        (about.generation, about.fingerprint, record.open(key, roots).await)
    } else {
        let record = name.parse_archived(value)?;
        let about = &record.about;
        (about.generation, about.fingerprint, record.open(key, roots).await)
    };
    Ok(Loose {
        name: name.shown(),
        is_keyring,
        generation,
        fingerprint,
        document: opened.map_err(|source| Error::Open {
            name: name.shown(),
            source,
        })?,
    })
}
