//! Where a configuration's document is read: a file here; whoever keeps it elsewhere brings a [`Source`] of its own.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::{EncryptionConfiguration, MAX_DOCUMENT_BYTES};
use crate::files::{self, Exposure, Permissions};

/// Where documents come from.
pub trait Source: Send + Sync {
    /// What operators call it.
    fn name(&self) -> String;
    /// What is there now.
    fn read(&self) -> Reading;
}

/// A document on its way.
pub type Reading = Pin<Box<dyn Future<Output = Result<Document, ReadError>> + Send>>;

/// What is there.
pub struct Document {
    /// The EncryptionConfiguration.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Those that were in use before it, latest first, if they are kept for their keys.
    pub past: Arc<[EncryptionConfiguration]>,
}

/// Why there is no document.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Others can read the file, and that was refused.
    #[error("{0}")]
    Exposed(Exposure),
    /// It lies elsewhere, and is not to be had. The text is for the operator.
    #[error("{0}")]
    Elsewhere(Arc<str>),
    /// The process is ending.
    #[error("the proxy is stopping")]
    Stopping,
}

/// A file that is distributed by whoever distributes files.
#[derive(Debug)]
pub struct FileSource {
    /// Where it is.
    pub path: PathBuf,
    /// What is done about one that others can read.
    pub permissions: Arc<Permissions>,
}

impl Source for FileSource {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&self) -> Reading {
        let (path, permissions) = (self.path.clone(), Arc::clone(&self.permissions));
        // A file can lie on something slow; the runtime of this also accepts connections.
        let read = tokio::task::spawn_blocking(move || {
            files::check_kind(&path)?;
            files::read(&path, MAX_DOCUMENT_BYTES)
        });
        Box::pin(async move {
            let file = read.await.map_err(|_| ReadError::Stopping)??;
            permissions.admit(file.exposure).map_err(ReadError::Exposed)?;
            Ok(Document {
                bytes: file.bytes,
                past: Arc::default(),
            })
        })
    }
}
