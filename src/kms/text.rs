//! What of a plugin's words goes into logs and to clients: short, printable, and without the key that it was given.

use std::fmt::Write as _;

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};

/// Longest text, characters: a plugin may put a page of its KMS's answer there.
const MAX_TEXT: usize = 300;

/// `text` as it may be shown.
///
/// A plugin that quotes what it was asked to encrypt would have its key end up in a log: `secret`, if it is given, is looked
/// for as base64 and as hexadecimal digits, and a text with it is not shown at all.
pub(super) fn shown(text: &str, secret: Option<&[u8]>) -> String {
    if secret.is_some_and(|secret| holds(text, secret)) {
        return "(its text is not shown: it holds what was to be encrypted)".to_owned();
    }
    let mut out = String::new();
    for (index, char) in text.chars().enumerate() {
        if index == MAX_TEXT {
            out.push('…');
            break;
        }
        if char.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

fn holds(text: &str, secret: &[u8]) -> bool {
    let mut hex = String::with_capacity(2 * secret.len());
    for byte in secret {
        let _ = write!(hex, "{byte:02x}");
    }
    !secret.is_empty()
        && (text.contains(&BASE64_STANDARD_NO_PAD.encode(secret))
            || text.contains(&BASE64_URL_SAFE_NO_PAD.encode(secret))
            || text.to_ascii_lowercase().contains(&hex)
            || text.as_bytes().windows(secret.len()).any(|window| window == secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_text_is_cut_and_cannot_forge_a_log_line() {
        assert_eq!(
            shown("no such key\n2026 INFO all is well", None),
            "no such key\\n2026 INFO all is well"
        );
        let long = shown(&"ö".repeat(5000), None);
        assert_eq!(long.chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn a_text_that_quotes_the_key_is_not_shown() {
        let secret = [0xab; 32];
        for quoted in [
            BASE64_STANDARD_NO_PAD.encode(secret) + "=",
            BASE64_URL_SAFE_NO_PAD.encode(secret),
            "AB".repeat(32),
        ] {
            let text = format!("cannot encrypt {quoted}");
            assert!(!shown(&text, Some(&secret)).contains(&quoted));
            assert!(shown(&text, Some(b"another")).contains(&quoted));
        }
    }
}
