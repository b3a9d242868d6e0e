//! A key that a KMS plugin has wrapped, as a record keeps it. Opens nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::Binary;
use crate::value::{DekKind, WrappedDek};

/// What the plugin needs to unwrap the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wrapped {
    key_id: String,
    key: Binary,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, Binary>,
}

impl Wrapped {
    /// What the plugin returned.
    pub(super) fn of(dek: WrappedDek<'static>) -> Self {
        let annotations = dek.annotations.into_iter();
        Self {
            key_id: dek.key_id.into_owned(),
            key: Binary(dek.source.into_owned()),
            annotations: annotations
                .map(|(key, value)| (key.into_owned(), Binary(value.into_owned())))
                .collect(),
        }
    }

    /// The same for the plugin.
    pub(super) fn dek(&self) -> WrappedDek<'static> {
        let annotations = self.annotations.clone().into_iter();
        WrappedDek {
            // What is wrapped is the key itself.
            kind: DekKind::AesGcmKey,
            source: self.key.0.clone().into(),
            key_id: self.key_id.clone().into(),
            annotations: annotations.map(|(key, value)| (key.into(), value.0.into())).collect(),
        }
    }

    /// Whether it is within the bounds that hold for whatever a plugin returns.
    pub(super) fn check(&self) -> Result<(), String> {
        self.dek().validate().map_err(|problem| problem.to_string())
    }
}
