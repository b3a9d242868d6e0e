//! The name of one loaded configuration: SHA-256 over the bytes it was read from. Never over key material alone.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// SHA-256 of a configuration's bytes; two members with equal fingerprints have loaded the same configuration.
///
/// Displayed as kube-apiserver does in its `…_last_config_info` metric: `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = [0; 32];
        sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(sum)
    }

    /// Reads what is displayed, and nothing that differs from it in one character.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        let mut sum = [0; 32];
        if !rest.is_empty() || pairs.len() != sum.len() {
            return None;
        }
        for (byte, [high, low]) in sum.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(sum))
    }

    /// The sum itself.
    pub fn into_bytes(self) -> [u8; 32] {
        self.0
    }
}

/// The value of a lower-case hexadecimal digit.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_configuration_has_the_hash_that_kube_apiserver_computes() {
        assert_eq!(
            Fingerprint::of(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn what_is_displayed_is_read_and_nothing_like_it() {
        let one = Fingerprint::of(b"one");
        let text = one.to_string();
        assert_eq!(Fingerprint::parse(&text), Some(one));
        let broken = [
            text.to_uppercase(),
            text.replace("sha256:", ""),
            text[..text.len() - 1].to_owned(),
            format!("{text}0"),
            format!("{text}00"),
            format!("{}g", &text[..text.len() - 1]),
            format!(" {text}"),
            String::new(),
        ];
        for broken in broken {
            assert_eq!(Fingerprint::parse(&broken), None, "{broken}");
        }
    }
}
