//! Whether what a plugin returned for a key can be its wrapped form. Some mistakes would show only when values are read
//! again, or never, and by then they lie in etcd.

use super::failure::CallError;
use crate::types::SecretBytes;

/// Checks that `wrapped`, what a plugin returned for `key` in several parts, is something, and that no part of it shows the
/// key. kube-apiserver would store both: values that nobody can open, or with their key beside them.
///
/// # Errors
/// It is empty, or has the key in it as it is.
pub(super) fn check<'a>(key: &SecretBytes, wrapped: impl IntoIterator<Item = &'a [u8]>) -> Result<(), CallError> {
    let key = key.expose();
    let mut is_empty = true;
    for part in wrapped {
        is_empty &= part.is_empty();
        if part.windows(key.len().max(1)).any(|window| window == key) {
            return Err(CallError::Unusable(
                "the plugin returned the key that it was to encrypt, not encrypted".to_owned(),
            ));
        }
    }
    if is_empty {
        return Err(CallError::Unusable(
            "the plugin returned nothing for the key".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_nothing_nor_the_key_itself_is_a_wrapped_key() {
        let key = SecretBytes::new((0..32).collect());
        let shown = [b"prefix", key.expose()].concat();
        assert_eq!(check(&key, [&b"wrapped"[..], b""]), Ok(()));
        for unfit in [[&b""[..], b""], [b"wrapped", &shown]] {
            let error = check(&key, unfit).unwrap_err();
            assert!(!error.is_transient());
        }
    }
}
