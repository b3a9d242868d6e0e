//! What of a plugin's words goes into logs and to clients: short, printable, and without the key that it was given.

use std::fmt::Write as _;

use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};

/// Longest text, characters: a plugin may put a page of its KMS's answer there.
const MAX_TEXT: usize = 300;

/// Shortest secret that is looked for, bytes, that of AES: a health check's `ping` is none, and stands in many a word.
const MIN_SECRET: usize = 16;

/// `text` as it may be shown.
///
/// A plugin that quotes what it was asked to encrypt would have its key end up in a log: `secret`, if it is given, is looked
/// for as base64, as digits and behind escapes, and a text with it is not shown at all.
pub(super) fn shown(text: &str, secret: Option<&[u8]>) -> String {
    if secret.is_some_and(|secret| secret.len() >= MIN_SECRET && holds(text, secret)) {
        return "(its text is not shown: it holds what was to be encrypted)".to_owned();
    }
    let mut out = String::new();
    for (index, char) in text.chars().enumerate() {
        if index == MAX_TEXT {
            out.push('…');
            break;
        }
        if char.is_control() || is_invisible(char) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// Whether it is not seen itself and changes what is seen: separators of lines, and marks of the direction of writing.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn holds(text: &str, secret: &[u8]) -> bool {
    let mut hex = String::with_capacity(2 * secret.len());
    for byte in secret {
        let _ = write!(hex, "{byte:02x}");
    }
    text.contains(&BASE64_STANDARD_NO_PAD.encode(secret))
        || text.contains(&BASE64_URL_SAFE_NO_PAD.encode(secret))
        || text.to_ascii_lowercase().contains(&hex)
        || text.as_bytes().windows(secret.len()).any(|window| window == secret)
        || unescaped(text).windows(secret.len()).any(|window| window == secret)
        || numbers(text).windows(secret.len()).any(|window| window == secret)
}

/// What `text` quotes as C, Go and protobuf's text format do: `\x1b`, `\033`, `\n`. Anything else stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = |digits: &[u8], radix| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, radix).ok()
        };
        let escape = match after {
            [b'x', a, b, tail @ ..] => digits(&[*a, *b], 16).map(|byte| (byte, tail)),
            [a @ b'0'..=b'3', b, c, tail @ ..] => digits(&[*a, *b, *c], 8).map(|byte| (byte, tail)),
            [letter, tail @ ..] => {
                let control = match letter {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    other => *other,
                };
                Some((control, tail))
            }
            [] => None,
        };
        let (byte, after) = escape.filter(|_| byte == b'\\').unwrap_or((byte, after));
        out.push(byte);
        rest = after;
    }
    out
}

/// The numbers of one byte in `text`, in order: how Go and others print bytes (`[7 255]`).
fn numbers(text: &str) -> Vec<u8> {
    let parts = text.split(|char: char| !char.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
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
        assert_eq!(
            shown("a\u{202e}b\u{2028}\u{1b}[31m", None),
            "a\\u{202e}b\\u{2028}\\u{1b}[31m"
        );
        let long = shown(&"ö".repeat(5000), None);
        assert_eq!(long.chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn what_is_no_key_is_not_looked_for() {
        assert_eq!(shown("stopping", Some(b"ping")), "stopping");
    }

    #[test]
    fn a_text_that_quotes_the_key_as_programs_print_bytes_is_not_shown() {
        let secret: Vec<u8> = (0..32).map(|index| index * 8 + 2).collect();
        let as_go_does = format!("{secret:?}").replace(',', "");
        let octal: Vec<_> = secret.iter().map(|byte| format!("\\{byte:03o}")).collect();
        let octal = octal.concat();
        let escaped = secret.escape_ascii().to_string();
        for quoted in [as_go_does, format!("{secret:?}"), octal, escaped] {
            let text = format!("code 7: cannot encrypt plaintext:\"{quoted}\" \\");
            assert!(!shown(&text, Some(&secret)).contains(&quoted), "{quoted}");
            assert!(!shown(&text, Some(&[0xab; 32])).contains("not shown"));
        }
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
            assert!(shown(&text, Some(b"another key that is long enough")).contains(&quoted));
        }
    }
}
