//! EncryptionConfiguration documents that the tests use, and what values look like that they sealed.

/// The 32-byte key of every test document.
pub const KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";

/// Another one.
pub const KEY_2: &str = "emFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6OTg3NjU=";

/// A document with one rule: `resources` are written with `provider` under the key named `k1` and read with it or as
/// plain text.
pub fn document(resources: &str, provider: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\n\
         kind: EncryptionConfiguration\n\
         resources:\n\
         - resources: ['{resources}']\n  \
           providers:\n  \
           - {provider}: {{keys: [{{name: k1, secret: {KEY}}}]}}\n  \
           - identity: {{}}\n"
    )
}

/// Rule `secrets` alone, with aescbc.
pub fn secrets() -> String {
    document("secrets", "aescbc")
}

/// Every resource, with aescbc.
pub fn everything() -> String {
    document("*.*", "aescbc")
}

/// Whether a value as etcd holds it was sealed by [`document`]'s provider.
pub fn is_sealed_with(value: &[u8], provider: &str) -> bool {
    value.starts_with(format!("k8s:enc:{provider}:v1:k1:").as_bytes())
}

/// Whether a value as etcd holds it was sealed by [`secrets`] or [`everything`].
pub fn is_sealed(value: &[u8]) -> bool {
    is_sealed_with(value, "aescbc")
}
