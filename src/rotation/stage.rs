//! How far a rotation has come, in k3s's words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// No key was ever rotated, or a rotation was taken back.
    #[default]
    Start,
    /// The new key is there, and reads only.
    Prepare,
    /// The new key writes.
    Rotate,
    /// What is stored is to be written again under the new key.
    ReencryptRequest,
    /// It is being written again.
    ReencryptActive,
    /// All of it is, and the old key is gone unless it was to stay.
    ReencryptFinished,
}

impl Stage {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Prepare => "prepare",
            Self::Rotate => "rotate",
            Self::ReencryptRequest => "reencrypt_request",
            Self::ReencryptActive => "reencrypt_active",
            Self::ReencryptFinished => "reencrypt_finished",
        }
    }

    /// Whether a new rotation may begin.
    pub fn is_rest(self) -> bool {
        matches!(self, Self::Start | Self::ReencryptFinished)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
