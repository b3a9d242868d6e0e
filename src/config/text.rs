//! From bytes to characters: size, encoding, and the characters that no YAML or JSON holds. Nothing is parsed here.

use super::{
    MAX_DOCUMENT_BYTES,
    decode::Syntax,
    error::{Error, Location},
};

/// The document's characters and how they are to be read.
///
/// As in kube-apiserver a document whose first character past white space is `{` is JSON, and then nothing but JSON.
pub(super) fn read(bytes: &[u8]) -> Result<(&str, Syntax), Error> {
    if bytes.is_empty() {
        return Err(Error::single(None, "the encryption provider configuration is empty"));
    }
    if bytes.len() > MAX_DOCUMENT_BYTES {
        let message = format!(
            "the encryption provider configuration has {} bytes, more than the {MAX_DOCUMENT_BYTES} allowed",
            bytes.len()
        );
        return Err(Error::single(None, message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let valid = std::str::from_utf8(valid).unwrap_or_default();
        Error::single(Location::of(valid, valid.len()), "not valid UTF-8")
    })?;
    if text.trim_start().starts_with('{') {
        check_json(text)?;
        return Ok((text, Syntax::Json));
    }
    match text.char_indices().find(|&(_, character)| !is_yaml(character)) {
        Some((offset, _)) => Err(Error::single(
            Location::of(text, offset),
            "not valid YAML: control characters are not allowed",
        )),
        None => Ok((text, Syntax::Yaml)),
    }
}

fn check_json(text: &str) -> Result<(), Error> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let location = Location {
                line: error.line(),
                column: error.column().max(1),
            };
            // The message names what was expected, and then repeats the place.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            Err(Error::single(location, format!("not valid JSON: {message}")))
        }
    }
}

/// YAML's printable characters.
fn is_yaml(character: char) -> bool {
    matches!(character,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
