//! Base64 as Go's `base64.StdEncoding` reads it. Leaves no copy of what it read behind.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::types::SecretBytes;

/// The standard alphabet; padding required; bits of the last character that carry nothing may be anything.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// The bytes that `text` encodes; `None` where Go would refuse it.
///
/// Go passes over `\r` and `\n` wherever they stand, so a YAML block scalar with its trailing newline decodes.
pub(in crate::config) fn decode_base64(text: &str) -> Option<SecretBytes> {
    // Sized once: a buffer that grows leaves its earlier self in freed memory.
    let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
    packed.extend(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(packed.len())]);
    let length = ENGINE.decode_slice(&packed, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(SecretBytes::new(std::mem::take(&mut *bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("\r\n", Some(b"")),
            ("YWJj", Some(b"abc")),
            ("YWI=", Some(b"ab")),
            ("YQ==", Some(b"a")),
            ("Y\rQ\n=\r\n=\n", Some(b"a")),
            // The low bits of `R` are not zero.
            ("YR==", Some(b"a")),
            ("YQ", None),
            ("YQ=", None),
            ("YQ===", None),
            ("YQ==YQ==", None),
            ("YW Jj", None),
            ("YW\tJj", None),
            ("-_-_", None),
            ("Y", None),
            ("=", None),
            ("P@ssword", None),
            ("é", None),
        ] {
            assert_eq!(decode_base64(text).as_ref().map(SecretBytes::expose), bytes, "{text:?}");
        }
    }
}
