//! A key as etcd has it, which is also the additional authenticated data of the AEAD providers.

/// The complete etcd key of a value, prefix included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageKey<'a>(pub &'a [u8]);

impl<'a> StorageKey<'a> {
    /// The key's bytes, as additional authenticated data.
    pub fn aad(self) -> &'a [u8] {
        self.0
    }
}
