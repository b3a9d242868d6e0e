//! What a root file holds, as text or as bytes. Knows no path and does no IO; an error names a line and what to do, never
//! what stands there.
//!
//! Which of the two a file is depends on what is in it, and only one can be meant: a file that is text throughout (UTF-8
//! without control characters but tab and line ends) is read by lines, whatever its length, and anything else is a root of
//! exactly 32 bytes or refused. So 32 characters that somebody typed are never taken for a key: they are refused as a line that
//! is neither base64 nor a passphrase. 32 random bytes are text by chance once in 10^10 files, and refused then, too.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::types::SecretBytes;

/// The longest root file that is read.
pub const MAX_ROOT_FILE_BYTES: usize = 16 * 1024;

/// Bytes of a root.
pub(super) const ROOT_BYTES: usize = 32;

/// Roots of one file: an old one, a new one, and some to spare. Each passphrase costs Argon2id once.
const MAX_ROOTS: usize = 8;

/// Characters of a passphrase at least.
const MIN_PASSPHRASE: usize = 20;

const PASSPHRASE: &str = "passphrase:";

/// One root, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootLine {
    /// Its line; 0 for a file of bytes.
    pub line: usize,
    /// What it is.
    pub secret: RootSecret,
}

/// What a root is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSecret {
    /// 32 uniform bytes.
    Key(SecretBytes),
    /// What is to be stretched.
    Passphrase(SecretBytes),
}

/// Why a root file is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}{problem}", place = Place(.line))]
pub struct RootFileError {
    /// Its line, if it is one line's.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: RootFileProblem,
}

struct Place<'a>(&'a Option<usize>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, "line {line}: "))
    }
}

/// What is wrong with a root file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RootFileProblem {
    /// No root is in it.
    #[error("it holds no root; write 32 random bytes to it: head -c 32 /dev/urandom > FILE")]
    Empty,
    /// It is no text, and has another length than a root.
    #[error("it is no text and has {0} bytes, but a root has exactly 32: head -c 32 /dev/urandom > FILE")]
    Length(usize),
    /// A line is neither of the two.
    #[error(
        "neither base64 of 32 bytes (head -c 32 /dev/urandom | base64) nor `passphrase:` with a passphrase behind it; \
         comments begin with `#`"
    )]
    Neither,
    /// Base64 of something else.
    #[error("base64 of {0} bytes, but a root has exactly 32: head -c 32 /dev/urandom | base64")]
    KeyLength(usize),
    /// A passphrase that could be guessed.
    #[error("a passphrase of {0} characters; at least {MIN_PASSPHRASE} are needed")]
    ShortPassphrase(usize),
    /// Every byte, or every character, is the same one.
    #[error("the root is one byte again and again; make a random one: head -c 32 /dev/urandom")]
    Constant,
    /// The same root once more.
    #[error("the same root as in an earlier line; remove one of them")]
    Repeated,
    /// More lines than anybody needs.
    #[error("more than {MAX_ROOTS} roots; remove those that no record is sealed under any more")]
    TooMany,
}

/// The roots in `bytes`, in their order.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_root_file(bytes: &[u8]) -> Result<Vec<RootLine>, RootFileError> {
    match str::from_utf8(bytes).ok().filter(|text| !text.contains(is_control)) {
        Some(text) => by_lines(text),
        None => Ok(vec![
            raw(bytes).map_err(|problem| RootFileError { line: None, problem })?,
        ]),
    }
}

fn is_control(character: char) -> bool {
    character.is_control() && !matches!(character, '\t' | '\n' | '\r')
}

fn raw(bytes: &[u8]) -> Result<RootLine, RootFileProblem> {
    if bytes.len() != ROOT_BYTES {
        return Err(RootFileProblem::Length(bytes.len()));
    }
    Ok(RootLine {
        line: 0,
        secret: RootSecret::Key(uneven(bytes)?),
    })
}

fn by_lines(text: &str) -> Result<Vec<RootLine>, RootFileError> {
    let mut roots: Vec<RootLine> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let failed = |problem| RootFileError {
            line: Some(line),
            problem,
        };
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let secret = secret(content).map_err(failed)?;
        if roots.iter().any(|root| root.secret == secret) {
            return Err(failed(RootFileProblem::Repeated));
        }
        if roots.len() == MAX_ROOTS {
            return Err(failed(RootFileProblem::TooMany));
        }
        roots.push(RootLine { line, secret });
    }
    if roots.is_empty() {
        let problem = RootFileProblem::Empty;
        return Err(RootFileError { line: None, problem });
    }
    Ok(roots)
}

fn secret(line: &str) -> Result<RootSecret, RootFileProblem> {
    if let Some(passphrase) = line.strip_prefix(PASSPHRASE) {
        let passphrase = passphrase.trim();
        let length = passphrase.chars().count();
        if length < MIN_PASSPHRASE {
            return Err(RootFileProblem::ShortPassphrase(length));
        }
        return Ok(RootSecret::Passphrase(uneven(passphrase.as_bytes())?));
    }
    // Room for what base64 of this length could be: it decodes in place of nothing, and is wiped.
    let mut key = Zeroizing::new(vec![0; line.len()]);
    let decoded = STANDARD.decode_slice(line, &mut key);
    let length = decoded.map_err(|_| RootFileProblem::Neither)?;
    if length != ROOT_BYTES {
        return Err(RootFileProblem::KeyLength(length));
    }
    Ok(RootSecret::Key(uneven(key.get(..length).unwrap_or_default())?))
}

/// Takes what is not one byte over and over, which an empty device or a slip of the finger gives.
fn uneven(bytes: &[u8]) -> Result<SecretBytes, RootFileProblem> {
    let distinct: HashSet<&u8> = bytes.iter().collect();
    if distinct.len() < 2 {
        return Err(RootFileProblem::Constant);
    }
    Ok(SecretBytes::new(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE64: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";
    const PHRASE: &str = "correct horse battery staple";

    fn problem(bytes: impl AsRef<[u8]>) -> (Option<usize>, RootFileProblem) {
        let error = parse_root_file(bytes.as_ref()).unwrap_err();
        (error.line, error.problem)
    }

    fn key(bytes: &[u8]) -> RootSecret {
        RootSecret::Key(SecretBytes::new(bytes.to_vec()))
    }

    fn phrase(text: &str) -> RootSecret {
        RootSecret::Passphrase(SecretBytes::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_file_of_bytes_is_one_root() {
        let bytes: Vec<u8> = (0..32).collect();
        let [RootLine { line: 0, secret }] = &parse_root_file(&bytes).unwrap()[..] else {
            panic!("one root")
        };
        assert_eq!(*secret, key(&bytes));
        assert_eq!(problem(&bytes[..31]), (None, RootFileProblem::Length(31)));
        assert_eq!(
            problem([&bytes[..], b"\n"].concat()),
            (None, RootFileProblem::Length(33))
        );
        assert_eq!(problem([0; 32]), (None, RootFileProblem::Constant));
    }

    #[test]
    fn a_file_of_text_has_a_root_a_line() {
        let text = format!("# old\r\n{BASE64}\r\n\n  \t# new\n passphrase:  {PHRASE} \n");
        let roots = parse_root_file(text.as_bytes()).unwrap();
        assert_eq!(
            roots,
            [
                RootLine {
                    line: 2,
                    secret: key(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345")
                },
                RootLine {
                    line: 5,
                    secret: phrase(PHRASE)
                },
            ]
        );
    }

    /// The shortest passphrase makes a file of 32 bytes, and 32 characters are no key.
    #[test]
    fn a_file_of_32_characters_is_text() {
        let text = b"passphrase:abcdefghijklmnopqrst\n";
        assert_eq!(text.len(), ROOT_BYTES);
        assert_eq!(parse_root_file(text).unwrap()[0].secret, phrase("abcdefghijklmnopqrst"));
        let [typed, hex] = ["p@ssw0rd!p@ssw0rd!p@ssw0rd!p@ssw", "0123456789abcdef0123456789abcdef"];
        assert_eq!(problem(typed), (Some(1), RootFileProblem::Neither));
        assert_eq!(problem(hex), (Some(1), RootFileProblem::KeyLength(24)));
        assert_eq!(problem(" ".repeat(32)), (None, RootFileProblem::Empty));
    }

    #[test]
    fn what_is_no_root_is_named_by_line_and_never_shown() {
        let long = "a".repeat(40);
        let many: Vec<_> = (0..9).map(|index| format!("passphrase:{PHRASE} {index}\n")).collect();
        for (text, line, wanted) in [
            (String::new(), None, RootFileProblem::Empty),
            ("# nothing\n\n".to_owned(), None, RootFileProblem::Empty),
            (format!("{BASE64}\nhunter2"), Some(2), RootFileProblem::Neither),
            (BASE64.replace('=', ""), Some(1), RootFileProblem::Neither),
            (format!("{BASE64} # mine"), Some(1), RootFileProblem::Neither),
            ("YWJj".to_owned(), Some(1), RootFileProblem::KeyLength(3)),
            (
                "passphrase:tooshort".to_owned(),
                Some(1),
                RootFileProblem::ShortPassphrase(8),
            ),
            (format!("passphrase:{long}"), Some(1), RootFileProblem::Constant),
            (format!("{BASE64}\n{BASE64}"), Some(2), RootFileProblem::Repeated),
            (many.concat(), Some(9), RootFileProblem::TooMany),
            (format!("{BASE64}\n\0"), None, RootFileProblem::Length(46)),
        ] {
            assert_eq!(problem(&text), (line, wanted), "{text:?}");
        }
        let error = parse_root_file(b"\nhunter2hunter2").unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(told.starts_with("line 2: ") && !told.contains("hunter2"), "{told}");
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_it_gives_roots_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            match parse_root_file(&bytes) {
                Ok(roots) => prop_assert!(!roots.is_empty() && roots.len() <= MAX_ROOTS),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn passphrases_of_other_letters_are_taken_as_they_are(text in "\\PC{20,40}") {
            let trimmed = text.trim();
            let file = format!("passphrase:{text}");
            if let Ok(roots) = parse_root_file(file.as_bytes()) {
                prop_assert_eq!(&roots[0].secret, &phrase(trimmed));
            }
        }
    }
}
