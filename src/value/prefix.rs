//! How stored values begin: the only place that spells `k8s:enc:`. Never looks behind the prefix.

use super::ProviderKind;
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

/// What every value begins with that the key `name` of a provider of this kind has sealed; a KMS's values bear the plugin's
/// name, whichever key that has. `None` for identity, whose values bear nothing.
pub fn header(kind: ProviderKind, name: &KeyName) -> Option<Vec<u8>> {
    let provider = match kind {
        ProviderKind::AesCbc => AESCBC,
        ProviderKind::AesGcm => AESGCM,
        ProviderKind::Secretbox => SECRETBOX,
        ProviderKind::KmsV1 => KMS_V1,
        ProviderKind::KmsV2 => KMS_V2,
        ProviderKind::Identity => return None,
    };
    Some([provider, &of_key(name)].concat().into_bytes())
}

/// Whether `stored` was sealed by some provider at all, be it one that no rule lists.
///
/// kube-apiserver decides by the same eight bytes whether its identity transformer may return a value.
pub fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(SEALED)
}

/// What a sealed value says of itself by its first bytes, whether or not any rule lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBy {
    /// The kind of provider: `aescbc`, `kms v2`.
    pub provider: String,
    /// Its key's name, for a KMS the plugin's. Cut at a colon, if the name has one.
    pub key: String,
}

/// What `stored` says that it was sealed by. `None` if it says nothing, or something that can't be shown.
pub fn sealed_by(stored: &[u8]) -> Option<SealedBy> {
    // As much as a name in a configuration could reasonably have, and a bound on what is copied.
    const LONGEST: usize = 256;
    let mut parts = stored.strip_prefix(SEALED)?.splitn(4, |&byte| byte == b':');
    let mut part = || {
        let part = str::from_utf8(parts.next()?).ok()?;
        (part.len() <= LONGEST && !part.contains(char::is_control)).then_some(part)
    };
    let (kind, version, key) = (part()?, part()?, part()?);
    // Without a colon behind it, it is no name but the rest of something else.
    parts.next()?;
    let provider = match (kind, version) {
        (_, "v1") if kind != "kms" => kind.to_owned(),
        _ => format!("{kind} {version}"),
    };
    Some(SealedBy {
        provider,
        key: key.to_owned(),
    })
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
    fn a_sealed_value_names_its_provider_and_key_and_shows_nothing_else() {
        for (stored, expected) in [
            (&b"k8s:enc:aescbc:v1:key1:\x01\x02"[..], Some(("aescbc", "key1"))),
            (b"k8s:enc:kms:v2:vault:\x01", Some(("kms v2", "vault"))),
            (b"k8s:enc:kms:v1:vault:", Some(("kms v1", "vault"))),
            (b"k8s:enc:new:v7:k:", Some(("new v7", "k"))),
            (b"k8s:enc:aescbc:v1:key1", None),
            (b"k8s:enc:aescbc:v1:\xff\xfe:", None),
            (b"k8s:enc:aescbc:v1:\x1b[31m:", None),
            (b"k8s:enc:", None),
            (b"plain", None),
        ] {
            let expected = expected.map(|(provider, key)| SealedBy {
                provider: provider.to_owned(),
                key: key.to_owned(),
            });
            assert_eq!(sealed_by(stored), expected, "{}", stored.escape_ascii());
        }
        let long = [b"k8s:enc:aescbc:v1:", &[b'a'; 300][..], b":"].concat();
        assert_eq!(sealed_by(&long), None);
    }

    #[test]
    fn a_header_is_what_values_of_that_key_alone_begin_with() {
        let header = |kind, name: &str| header(kind, &KeyName::new(name));
        assert_eq!(
            header(ProviderKind::AesGcm, "a:b").as_deref(),
            Some(&b"k8s:enc:aesgcm:v1:a:b:"[..])
        );
        assert_eq!(header(ProviderKind::Identity, ""), None);
        assert_eq!(
            header(ProviderKind::KmsV2, "vault").as_deref(),
            Some(&b"k8s:enc:kms:v2:vault:"[..])
        );
        let key1 = header(ProviderKind::AesCbc, "key1").unwrap();
        assert!(!header(ProviderKind::AesCbc, "key10").unwrap().starts_with(&key1));
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
