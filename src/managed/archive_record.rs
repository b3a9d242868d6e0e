//! A record of the archive: a document that was in use once, under the name of its fingerprint. Old snapshots may need its
//! keys. Everything in it is authenticated, and so is where it lies.

use serde::{Deserialize, Serialize};

use super::error::{Error, OpenError, RootError};
use super::record::{Name, SCHEMA, check_host, encode, fingerprint};
use super::roots::{Means, Roots};
use super::seal::{Aad, Sealed};
use super::stretch::Stretch;
use super::time::Time;
use crate::types::{Fingerprint, SecretBytes};

/// The record as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ArchiveRecord {
    schema: u32,
    pub(super) about: PastDocument,
    pub(super) sealed: Sealed,
}

/// What is said of the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PastDocument {
    /// Of which generation of the keyring it was.
    pub(super) generation: u64,
    #[serde(with = "fingerprint")]
    pub(super) fingerprint: Fingerprint,
    /// When it was about to be replaced.
    pub(super) retired: Time,
    /// On which host.
    pub(super) by: String,
    pub(super) stretch: Stretch,
}

impl ArchiveRecord {
    /// Seals `document`, to lie under `key`.
    pub(super) async fn seal(
        about: PastDocument,
        key: &[u8],
        means: &Means<'_>,
        document: &[u8],
    ) -> Result<Self, RootError> {
        let sealed = Sealed::new(means, about.aad(key), document).await?;
        Ok(Self {
            schema: SCHEMA,
            about,
            sealed,
        })
    }

    /// Opens it, as it lies under `key`.
    pub(super) async fn open(&self, key: &[u8], roots: &Roots) -> Result<SecretBytes, OpenError> {
        let document = self
            .sealed
            .open(roots, &self.about.stretch, self.about.aad(key))
            .await?;
        if Fingerprint::of(document.expose()) != self.about.fingerprint {
            return Err(OpenError::Altered(self.sealed.root()));
        }
        Ok(document)
    }

    /// Reads one that lies under `name`.
    pub(super) fn parse(name: &Name, bytes: &[u8]) -> Result<Self, Error> {
        let record: Self = name.parse(bytes)?;
        let refused = |(field, why): (&str, String)| name.refused(field, &why);
        record.about.stretch.check().map_err(refused)?;
        check_host(&record.about.by).map_err(refused)?;
        record.sealed.check().map_err(refused)?;
        if Name::archived(record.about.fingerprint) != *name {
            return Err(name.refused("about.fingerprint", "it is not the one that the record lies under"));
        }
        Ok(record)
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        encode(self)
    }
}

impl PastDocument {
    fn aad(&self, key: &[u8]) -> Aad {
        let Self {
            generation,
            fingerprint,
            retired,
            by,
            stretch,
        } = self;
        Aad::new("archive", key)
            .number(SCHEMA.into())
            .number(*generation)
            .bytes(&fingerprint.into_bytes())
            .number(retired.seconds())
            .bytes(by.as_bytes())
            .stretch(stretch)
    }
}
