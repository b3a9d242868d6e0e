//! Flags that every verb has which works on what a cluster stores: the cluster, and what is encrypted in it.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

use super::switch::SWITCH;
use crate::app::{About, Common, Origin, RootSettings};
use crate::config::KeyType;
use crate::keyspace::{EtcdPrefix, ResourcePath};
use crate::tls::ClientFiles;
use crate::transport::Endpoint;
use crate::types::StatePrefix;

/// The flags.
#[derive(Debug, Args)]
pub(super) struct CommonFlags {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    origin: OriginFlags,
    #[command(flatten)]
    places: PlaceFlags,
}

impl CommonFlags {
    /// What they say.
    pub(super) fn settings(self) -> Common {
        common(self.cluster, self.origin.settings(), self.places)
    }
}

/// The same for verbs that are about the keyring in etcd alone.
#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("root").args(["keyring_root_file", "keyring_root_kms"]).required(true).multiple(true)
))]
pub(super) struct ManagedFlags {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    root: RootFlags,
    #[command(flatten)]
    places: PlaceFlags,
}

impl ManagedFlags {
    /// What they say.
    pub(super) fn settings(self) -> Common {
        common(self.cluster, Origin::Managed(self.root.settings()), self.places)
    }
}

/// The etcd cluster.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "kube-apiserver's flags")]
pub(super) struct ClusterFlags {
    /// Members of the etcd cluster, as kube-apiserver takes them; separated by commas
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ETCD_SERVERS",
        value_name = "URL,…",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379",
        help_heading = "etcd"
    )]
    etcd_servers: Vec<Endpoint>,
    /// CA that signs etcd's certificates
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ETCD_CAFILE",
        value_name = "FILE",
        help_heading = "etcd"
    )]
    etcd_cafile: Option<PathBuf>,
    /// Client certificate to show to etcd
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ETCD_CERTFILE",
        value_name = "FILE",
        requires = "etcd_keyfile",
        help_heading = "etcd"
    )]
    etcd_certfile: Option<PathBuf>,
    /// Private key of --etcd-certfile
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ETCD_KEYFILE",
        value_name = "FILE",
        requires = "etcd_certfile",
        help_heading = "etcd"
    )]
    etcd_keyfile: Option<PathBuf>,
}

impl ClusterFlags {
    /// Whether any member is named.
    pub(super) fn is_given(&self) -> bool {
        !self.etcd_servers.is_empty()
    }
}

/// A cluster, what is encrypted in it, and by what.
pub(super) fn common(cluster: ClusterFlags, origin: Origin, places: PlaceFlags) -> Common {
    Common {
        members: cluster.etcd_servers,
        client_files: ClientFiles {
            ca_file: cluster.etcd_cafile,
            cert_file: cluster.etcd_certfile,
            key_file: cluster.etcd_keyfile,
        },
        prefixes: places.layout.etcd_prefix,
        paths: places.layout.resource_path,
        origin,
        strict_permissions: places.strict_permissions,
        state_prefix: places.state_prefix,
    }
}

/// Where the EncryptionConfiguration is: in a file, or sealed in etcd.
#[derive(Debug, Args)]
pub(super) struct OriginFlags {
    /// The EncryptionConfiguration, the same file that kube-apiserver would be given
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ENCRYPTION_PROVIDER_CONFIG",
        value_name = "FILE",
        required_unless_present_any = ["keyring_root_file", "keyring_root_kms"],
        conflicts_with_all = ["keyring_root_file", "keyring_root_kms"],
        help_heading = "Encryption"
    )]
    encryption_provider_config: Option<PathBuf>,
    #[command(flatten)]
    root: RootFlags,
}

impl OriginFlags {
    fn settings(self) -> Origin {
        match self.encryption_provider_config {
            Some(path) => Origin::File(path),
            None => Origin::Managed(self.root.settings()),
        }
    }
}

/// What the keyring in etcd is sealed under.
#[derive(Debug, Args)]
pub(super) struct RootFlags {
    /// Keep the EncryptionConfiguration in etcd instead of in a file, sealed under the root in this file: 32 random bytes, or
    /// lines of base64 or of `passphrase:…`. Every process needs the same. WHO LOSES IT LOSES EVERY ENCRYPTED VALUE
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_KEYRING_ROOT_FILE",
        value_name = "FILE",
        help_heading = "Encryption"
    )]
    keyring_root_file: Option<PathBuf>,
    /// The same, sealed by the KMS v2 plugin that listens at this socket, `unix:///PATH`
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_KEYRING_ROOT_KMS",
        value_name = "ENDPOINT",
        help_heading = "Encryption"
    )]
    keyring_root_kms: Option<String>,
}

impl RootFlags {
    /// Whether a root is named.
    pub(super) fn is_given(&self) -> bool {
        self.keyring_root_file.is_some() || self.keyring_root_kms.is_some()
    }

    /// What they say.
    pub(super) fn settings(self) -> RootSettings {
        RootSettings {
            file: self.keyring_root_file,
            kms: self.keyring_root_kms,
        }
    }
}

/// For verbs that are about what is stored.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct EmptyFlags {
    /// Go on though no key lies below --etcd-prefix and no proxy has a record that says that this is the right one: nothing is stored yet
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ALLOW_EMPTY_STORE",
        value_name = SWITCH,
        help_heading = "etcd"
    )]
    allow_empty_store: bool,
}

impl EmptyFlags {
    /// What they say.
    pub(super) fn about(self) -> About {
        if self.allow_empty_store {
            About::ValuesIfAny
        } else {
            About::Values
        }
    }
}

/// Where in etcd what lies, and how files with keys are looked at.
#[derive(Debug, Args)]
pub(super) struct PlaceFlags {
    #[command(flatten)]
    layout: LayoutFlags,
    /// Refuse an EncryptionConfiguration or a private key that others than its user can read, instead of warning of it
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_STRICT_PERMISSIONS",
        value_name = SWITCH,
        help_heading = "Encryption"
    )]
    pub(super) strict_permissions: bool,
    /// Keys of the proxy's own in etcd; clients can neither read nor change them, but for what a snapshot holds of them
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_STATE_PREFIX", value_name = "PREFIX",
          default_value = StatePrefix::DEFAULT, value_parser = state_prefix, help_heading = "Encryption")]
    pub(super) state_prefix: StatePrefix,
}

/// Where in etcd which resource lies.
#[derive(Debug, Args)]
pub(super) struct LayoutFlags {
    /// Where Kubernetes' keys begin in etcd, as given to kube-apiserver; several separated by commas. Below one that ends with
    /// `openshift.io`, OpenShift's own resources lie where its API servers keep them
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ETCD_PREFIX",
        value_name = "PREFIX,…",
        value_delimiter = ',',
        default_value = "/registry",
        help_heading = "etcd"
    )]
    pub(super) etcd_prefix: Vec<EtcdPrefix>,
    /// A resource lies at this path below --etcd-prefix too, such as widgets.example.k8s.io=/widgets/: for what this version does
    /// not know a path of. Every process of a cluster needs the same; several separated by commas, or repeated
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_RESOURCE_PATH",
        value_name = "RESOURCE.GROUP=/PATH/",
        value_delimiter = ',',
        help_heading = "etcd"
    )]
    pub(super) resource_path: Vec<ResourcePath>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyTypeName {
    Aescbc,
    Aesgcm,
    Secretbox,
}

impl From<KeyTypeName> for KeyType {
    fn from(name: KeyTypeName) -> Self {
        match name {
            KeyTypeName::Aescbc => Self::AesCbc,
            KeyTypeName::Aesgcm => Self::AesGcm,
            KeyTypeName::Secretbox => Self::Secretbox,
        }
    }
}

/// A state prefix is a folder of its own: without the slash at its end it would take in neighbours.
fn state_prefix(given: &str) -> Result<StatePrefix, String> {
    let is_folder = given.starts_with('/') && given.ends_with('/') && given.len() > 1;
    is_folder
        .then(|| StatePrefix::new(given))
        .flatten()
        .ok_or_else(|| "expected /NAME/, with both slashes".to_owned())
}

pub(super) fn positive(given: &str) -> Result<f64, String> {
    let rate = given.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number above 0".to_owned())
}
