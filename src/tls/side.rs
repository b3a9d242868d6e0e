//! The files of either side of TLS, and what they make. Loads when asked to; watches and keeps nothing.

use std::path::{Path, PathBuf};

use super::client::{ClientFiles, ClientTls, client_config};
use super::error::{Error, FileRole};
use super::files::MAX_FILE_BYTES;
use super::server::{ServerFiles, ServerTls, server_config};
use super::validity::Warning;
use crate::files::{self, Permissions};

/// What is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Last second in which our own certificate is valid, in Unix time; `None` if there is none.
    pub not_after: Option<i64>,
}

/// The files of one side of TLS, and what they make.
pub trait Side: Send + Sync + 'static {
    /// What they make.
    type Tls: Send + Sync;
    /// The side, in metrics and log lines.
    const WHICH: &'static str;

    /// Every file.
    fn paths(&self) -> Vec<PathBuf>;
    /// The file with our private key, and the flag that names it.
    fn private_key(&self) -> Option<(FileRole, &Path)>;
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// They cannot be used.
    fn load(&self) -> Result<Self::Tls, Error>;
    /// What there is to say about what was loaded.
    fn about(tls: &Self::Tls) -> (Loaded, &[Warning]);

    /// Checks who else can read our private key. Blocks.
    ///
    /// # Errors
    /// Others can, and such a key is refused.
    fn admit(&self, permissions: &Permissions) -> Result<(), Error> {
        let Some((role, file)) = self.private_key() else {
            return Ok(());
        };
        // What cannot be read at all is told by the one who loads it.
        let exposure = files::read(file, MAX_FILE_BYTES)
            .ok()
            .and_then(|contents| contents.exposure);
        permissions
            .admit(exposure)
            .map_err(|exposure| Error::Exposed { role, exposure })
    }
}

impl Side for ServerFiles {
    type Tls = ServerTls;
    const WHICH: &'static str = "server";

    fn paths(&self) -> Vec<PathBuf> {
        let own = [&self.cert_file, &self.key_file].into_iter();
        own.chain(&self.client_auth.trusted_ca_file).cloned().collect()
    }

    fn private_key(&self) -> Option<(FileRole, &Path)> {
        Some((FileRole::ServerKey, &self.key_file))
    }

    fn load(&self) -> Result<ServerTls, Error> {
        server_config(self)
    }

    fn about(tls: &ServerTls) -> (Loaded, &[Warning]) {
        let not_after = Some(tls.not_after);
        (Loaded { not_after }, &tls.warnings)
    }
}

impl Side for ClientFiles {
    type Tls = ClientTls;
    const WHICH: &'static str = "client";

    fn paths(&self) -> Vec<PathBuf> {
        let all = [&self.ca_file, &self.cert_file, &self.key_file];
        all.into_iter().flatten().cloned().collect()
    }

    fn private_key(&self) -> Option<(FileRole, &Path)> {
        let file = self.key_file.as_deref()?;
        Some((FileRole::EtcdKey, file))
    }

    fn load(&self) -> Result<ClientTls, Error> {
        client_config(self)
    }

    fn about(tls: &ClientTls) -> (Loaded, &[Warning]) {
        (
            Loaded {
                not_after: tls.not_after,
            },
            &tls.warnings,
        )
    }
}
