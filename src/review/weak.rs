//! Whether key bytes look chosen rather than drawn: the few patterns that people make by hand. Says nothing about bytes
//! that only look random.

use std::collections::HashSet;

/// Why `secret` is no random key; `None` if nothing is seen. A random key of 16 bytes, the shortest there is, is called
/// weak less often than once in a million.
pub(super) fn weakness(secret: &[u8]) -> Option<&'static str> {
    let pairs = secret.iter().zip(secret.iter().skip(1));
    let steps: HashSet<u8> = pairs.map(|(a, b)| b.wrapping_sub(*a)).collect();
    let distinct: HashSet<&u8> = secret.iter().collect();
    if distinct.len() == 1 {
        Some("all its bytes are the same")
    } else if steps.len() == 1 {
        Some("its bytes are a plain sequence")
    } else if distinct.len() * 2 <= secret.len() && distinct.len() <= 8 {
        Some("it has only a few different bytes")
    } else if secret
        .iter()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'))
    {
        Some("it is text, of which there is far less than there are keys")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_made_by_hand_are_recognised() {
        let sequence: Vec<u8> = (0..32).collect();
        for (secret, expected) in [
            (&[0; 32][..], "same"),
            (&sequence, "sequence"),
            (b"abababababababab", "few"),
            (b"passwordpassword", "few"),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345", "text"),
            (b"0123456789abcdef0123456789abcdef", "text"),
            (b"correct horse\n battery staple!!!", "text"),
        ] {
            let found = weakness(secret);
            assert!(found.is_some_and(|why| why.contains(expected)), "{secret:?}: {found:?}");
        }
    }

    #[test]
    fn drawn_keys_are_not() {
        let drawn = [
            "03f8f90a7ad6181f37ca570f92e5219b",
            "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60719",
            "03f8f90a7ad6181f37ca570f92e5219bfe934b2ad0b6c349b433f03c734e8f84",
        ];
        for secret in drawn {
            assert_eq!(weakness(&hex::decode(secret).expect("hex")), None, "{secret}");
        }
    }
}
