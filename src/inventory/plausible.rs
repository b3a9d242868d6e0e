//! Whether what a value opens to can be what was sealed. Pure.

use crate::value::{ProviderKind, is_sealed};

/// Whether `plaintext`, which a provider of this kind has opened a value to, can be what kube-apiserver has stored.
///
/// AES-CBC authenticates nothing: with a wrong key of the right name every 256th value opens, to random bytes. KMS v1 has
/// written with it too. So what they open to has to be protobuf or CBOR, which begin with a mark of their own, text, such as
/// JSON, or a value that kube-apiserver has sealed itself.
pub fn is_plausible(kind: ProviderKind, plaintext: &[u8]) -> bool {
    const PROTOBUF: &[u8] = b"k8s\0";
    const CBOR: &[u8] = b"\xd9\xd9\xf7";
    !matches!(kind, ProviderKind::AesCbc | ProviderKind::KmsV1)
        || plaintext.starts_with(PROTOBUF)
        || plaintext.starts_with(CBOR)
        || is_sealed(plaintext)
        || str::from_utf8(plaintext).is_ok()
}
