//! Key material. It is wiped when dropped and cannot be printed; the only way to its bytes says so by name.

use std::fmt;
use std::io::{self, Read};

use zeroize::Zeroizing;

/// Bytes of a key: zeroised on drop, redacted in every format.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`; the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Everything that `source` gives, but not more than `limit` bytes.
    ///
    /// Room for `limit` is set aside at once, untouched until it is needed: a buffer that grows leaves its earlier selves
    /// in freed memory.
    ///
    /// # Errors
    /// What the source says.
    pub fn read(source: impl Read, limit: usize) -> io::Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit.saturating_add(1)));
        source.take(limit as u64).read_to_end(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes themselves, for a cipher's constructor, or for a parser of what holds keys, and nothing else.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes, which the configuration already tells.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(REDACTED)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_lies_where_it_was_read_to_and_ends_at_the_limit() {
        let text = vec![b'x'; 100_000];
        let read = SecretBytes::read(text.as_slice(), text.len()).expect("a slice reads");
        assert_eq!(read.expose(), text);
        assert_eq!(read.0.capacity(), text.len() + 1);
        assert_eq!(SecretBytes::read(text.as_slice(), 10).expect("a slice reads").len(), 10);
    }

    #[test]
    fn debug_output_holds_no_byte_of_the_key() {
        assert_eq!(
            format!("{:?}", SecretBytes::new(b"hunter2".to_vec())),
            "SecretBytes(REDACTED)"
        );
    }
}
