//! Root files, documents and strongboxes that the room's tests are made of.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::store::Model;
use crate::files::Permissions;
use crate::managed::{Roots, Strongbox};
use crate::types::StatePrefix;

/// Where the keyring lies.
pub(super) const KEYRING: &str = "/etcd-encryption-proxy/keyring";

/// A root file.
pub(super) struct File {
    folder: TempDir,
}

impl File {
    pub(super) fn new(text: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        file.write(text);
        file
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(super) fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn roots(&self) -> Arc<Roots> {
        let permissions = Arc::new(Permissions::new(true));
        Arc::new(Roots::load(Some(self.path()), permissions, None).unwrap())
    }
}

/// A line with a root of its own for each `seed`.
pub(super) fn line(seed: u8) -> String {
    let bytes: Vec<u8> = (0..32).map(|index| index ^ seed).collect();
    STANDARD.encode(bytes) + "\n"
}

/// Roots of one line.
pub(super) fn roots(seed: u8) -> Arc<Roots> {
    File::new(&line(seed)).roots()
}

pub(super) fn state() -> StatePrefix {
    StatePrefix::new(StatePrefix::DEFAULT).unwrap()
}

pub(super) fn strongbox<'a>(model: &'a Model, roots: &Arc<Roots>) -> Strongbox<&'a Model> {
    Strongbox::new(model, state(), Arc::clone(roots), "host-1")
}

/// A document with these keys, of which the first writes.
pub(super) fn document(keys: &[&str]) -> Vec<u8> {
    let keys: Vec<_> = keys
        .iter()
        .map(|name| format!("{{name: '{name}', secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}}"))
        .collect();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{{aescbc: {{keys: [{}]}}}}, {{identity: {{}}}}]\n",
        keys.join(", ")
    )
    .into_bytes()
}
