//! Tells whether two keys of one name have the same bytes, without the bytes: for a configuration held against the next one,
//! and for members that have copies of one configuration.

use std::fmt::{self, Write as _};

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use super::{KeyName, SecretBytes};

/// What sets this use of a key apart from its use in a cipher.
const LABEL: &[u8] = b"etcd-encryption-proxy key fingerprint v1";

/// 64 bits derived from a key, its type and its name. Displayed and stored as 16 hexadecimal digits.
///
/// It lies in etcd in the clear, in the records of members. That tells an attacker nothing that helps:
/// - The value is HKDF-Expand (RFC 5869, one block) of the key, cut to 64 bits. HMAC-SHA256 is a pseudorandom function, so
///   who does not have the key cannot tell the value from random bits, and cannot get from it to the key, to what AES or
///   `XSalsa20` makes of the key, or to a fingerprint of the key under another name or type.
/// - Who guesses keys can test a guess with it, as with any stored value that the key sealed and that lies in the same etcd:
///   a guess is as hard as before, 2^128 at least for a drawn key.
/// - Names and types go into it, so that it does not even tell that two names have one key.
///
/// Two different keys of one name have equal fingerprints by an accident of one in 2^64. Nobody can bring that about for a key
/// that they do not know, and who knows the key has no need to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyPrint(String);

impl KeyPrint {
    /// The fingerprint of a `provider`'s key called `name`.
    pub fn of(provider: &str, name: &KeyName, secret: &SecretBytes) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        let mut context = hmac::Context::with_key(&key);
        // No provider's name holds a zero byte, so that the two cannot be cut otherwise.
        for part in [LABEL, &[0], provider.as_bytes(), &[0], name.as_str().as_bytes(), &[1]] {
            context.update(part);
        }
        let tag = context.sign();
        let digits = tag.as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self(digits)
    }
}

impl fmt::Display for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(provider: &str, name: &str, secret: &[u8]) -> String {
        let name = KeyName::new(name.to_owned());
        KeyPrint::of(provider, &name, &SecretBytes::new(secret.to_vec())).to_string()
    }

    #[test]
    fn it_changes_with_each_part_and_shows_none_of_the_key() {
        let secret = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
        let one = print("aescbc", "key1", secret);
        assert_eq!(one, print("aescbc", "key1", secret));
        assert_eq!(one.len(), 16);
        let mut other = *secret;
        other[31] ^= 1;
        let others = [
            print("aescbc", "key1", &other),
            print("aesgcm", "key1", secret),
            print("aescbc", "key2", secret),
            print("aescb", "ckey1", secret),
        ];
        assert!(others.iter().all(|other| *other != one), "{one} {others:?}");
        assert!(
            !others
                .iter()
                .any(|print| secret.windows(4).any(|bytes| hex::encode(bytes) == print[..8]))
        );
    }
}
