//! identity: the stored value is the plaintext. It protects nothing; it is there to read and to write what is not
//! encrypted, and never returns a sealed value as if it were plaintext.

use rand::CryptoRng;

use super::prefix_chain::{Opened, Place, Transformer};
use super::{Deks, OpenError, SealError, is_sealed};
use crate::types::StorageKey;

/// The provider that changes nothing.
#[derive(Clone)]
pub(super) struct Identity;

impl Transformer for Identity {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        plaintext_len
    }

    /// Writes whatever it is given, as kube-apiserver does: not even a plaintext that looks sealed is refused, because
    /// an API server with a provider of its own behind this one writes just that.
    fn to_storage<R: CryptoRng>(
        &self,
        _key: StorageKey<'_>,
        plaintext: &[u8],
        _nonces: &mut R,
        _deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        out.extend_from_slice(plaintext);
        Ok(())
    }

    fn from_storage(
        &self,
        _key: StorageKey<'_>,
        body: &mut [u8],
        _deks: &Deks,
        _spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        if is_sealed(body) {
            return Err(OpenError::IdentityReadSealed);
        }
        Ok((Opened::fresh(), 0..body.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kube-apiserver does for a resource without a rule: identity with nothing around it.
    #[test]
    fn alone_it_refuses_a_sealed_value_in_kube_apiservers_words() {
        let mut body = b"k8s:enc:aescbc:v1:key1:...".to_vec();
        let error = Identity
            .from_storage(StorageKey(b"k"), &mut body, &Deks::default(), &mut Vec::new())
            .unwrap_err();
        assert_eq!(error.to_string(), "identity transformer tried to read encrypted data");
        assert_eq!(body, b"k8s:enc:aescbc:v1:key1:...");
    }
}
