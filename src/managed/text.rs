//! Bytes and words in records: base64 of bytes, and what of somebody else's words is shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Characters that are shown of what others wrote.
const MAX_SHOWN: usize = 200;

/// Public bytes, base64 in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binary(pub(super) Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text);
        bytes.map(Self).map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// `text` as it may be shown: whoever writes to etcd writes what is in a record.
pub(super) fn shown(text: &str) -> String {
    let printable = |char: char| {
        if char.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            char
        }
    };
    text.chars().take(MAX_SHOWN).map(printable).collect()
}
