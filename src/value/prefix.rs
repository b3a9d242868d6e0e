//! How stored values begin: the only place that spells `k8s:enc:`. Never looks behind the prefix.

use crate::types::KeyName;

/// What every sealed value of every provider begins with, whatever wrote it.
const SEALED: &[u8] = b"k8s:enc:";

/// identity adds nothing: the stored value is the plaintext.
pub(super) const IDENTITY: &str = "";
/// AES-CBC with PKCS#7 padding.
pub(super) const AESCBC: &str = "k8s:enc:aescbc:v1:";
/// AES-GCM with a random nonce.
pub(super) const AESGCM: &str = "k8s:enc:aesgcm:v1:";
/// `XSalsa20` with Poly1305, a secretbox in the words of its authors.
pub(super) const SECRETBOX: &str = "k8s:enc:secretbox:v1:";

/// A KMS v1 plugin's, its name and a colon behind it.
pub(super) const KMS_V1: &str = "k8s:enc:kms:v1:";
/// A KMS v2 plugin's, its name and a colon behind it.
pub(super) const KMS_V2: &str = "k8s:enc:kms:v2:";

/// What stands between a provider's prefix and what its key `name` has sealed.
pub(super) fn of_key(name: &KeyName) -> String {
    format!("{name}:")
}

/// Whether `stored` was sealed by some provider at all, be it one that no rule lists.
///
/// kube-apiserver decides by the same eight bytes whether its identity transformer may return a value.
pub fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(SEALED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_sealed_by_its_first_eight_bytes_alone() {
        assert!(is_sealed(b"k8s:enc:"));
        assert!(is_sealed(b"k8s:enc:kms:v2:never-heard-of:\xff"));
        assert!(!is_sealed(b"k8s:enc"));
        assert!(!is_sealed(b""));
        assert!(!is_sealed(b"K8s:enc:aescbc:v1:"));
        assert!(!is_sealed(b" k8s:enc:aescbc:v1:"));
    }

    #[test]
    fn every_sealing_provider_writes_what_counts_as_sealed_and_identity_does_not() {
        assert!(
            [AESCBC, AESGCM, SECRETBOX, KMS_V1, KMS_V2]
                .iter()
                .all(|prefix| is_sealed(prefix.as_bytes()))
        );
        assert!(!is_sealed(IDENTITY.as_bytes()));
    }
}
