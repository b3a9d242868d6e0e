//! Why `serve` did not start, or ended.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{Misplaced, Unlockable};
use crate::{audit, config, etcd, files, keyring, keyspace, managed, telemetry, tls, traces, transport};

/// Why `serve` did not start, or ended.
#[derive(Debug, Error)]
pub enum Error {
    /// The EncryptionConfiguration is not readable.
    #[error("encryption provider configuration")]
    ReadConfig(#[from] files::Error),
    /// Others can read the EncryptionConfiguration.
    #[error("--strict-permissions: {0}")]
    Exposed(files::Exposure),
    /// The EncryptionConfiguration is not valid.
    #[error("encryption provider configuration {path:?} is refused:\n{problems}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it, a line each: told here, and not again as a source.
        problems: config::Error,
    },
    /// The EncryptionConfiguration needs something that is not there, or that does not work.
    #[error("encryption provider configuration {path:?} is not used")]
    Keyring {
        /// The file.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: keyring::LoadError,
    },
    /// It is aimed at the wrong place.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    /// The keyring in etcd is not to be had.
    #[error(transparent)]
    Managed(#[from] managed::Error),
    /// There is no keyring where there must have been one.
    #[error(
        "there is no keyring in etcd under --state-prefix, but {0}. A new keyring could not read it: restore a backup \
         (`keyring restore`), import the configuration that it was encrypted with (`keyring import`), or correct --state-prefix"
    )]
    KeyringLost(String),
    /// The keyring in etcd needs something that is not there, or that does not work.
    #[error("the keyring in etcd is not used")]
    ManagedKeyring(#[source] keyring::LoadError),
    /// The store cannot do what is asked for.
    #[error(
        "{what} is refused here: the store is no etcd but kine or the like. It takes no transaction that keeps late writes out, and a list \
         that its database breaks off looks complete, so nothing could be proven of what is stored. Serving with \
         --encryption-provider-config encrypts and decrypts on it; docs/kine.md says what holds"
    )]
    NotEtcd {
        /// What was asked for.
        what: &'static str,
    },
    /// Whether the store is etcd could not be learnt.
    #[error("{what} waits for it to be known whether the store is etcd")]
    UnknownStore {
        /// What was asked for.
        what: &'static str,
        /// Why it did not say.
        source: etcd::CallError,
    },
    /// A file is not edited by those who serve.
    #[error(
        "--rotate-every and --rotate-after-writes need --keyring-root-file or --keyring-root-kms: a configuration file is edited by \
         `secrets-encrypt` alone, which a timer can run"
    )]
    RotationOfFile,
    /// A member that nobody knows of cannot rotate.
    #[error(
        "--keyring-root-file and --keyring-root-kms need --member-record: others must know which keyring this process has loaded"
    )]
    ManagedWithoutRecord,
    /// A listener would let the network read along.
    #[error(
        "refusing to listen on {url}: it is reachable from the network and has no TLS, so Secrets would cross it in the \
         clear. Use https with --cert-file and --key-file, listen on a loopback address or a unix socket, or pass \
         --allow-plaintext-on-network"
    )]
    PlaintextOnNetwork {
        /// The listener.
        url: String,
    },
    /// A listener would let in whoever reaches it.
    #[error(
        "refusing to listen on {url}: it is reachable from the network and asks no client for a certificate, so whoever reaches \
         it reads and writes every Secret. Give --client-cert-auth and --trusted-ca-file, listen on a loopback address or a unix \
         socket, or pass --allow-anonymous-clients-on-network"
    )]
    AnonymousOnNetwork {
        /// The listener.
        url: String,
    },
    /// A TLS listener without certificate.
    #[error("{url} needs TLS: give --cert-file and --key-file")]
    NoServerCertificate {
        /// The listener.
        url: String,
    },
    /// Certificates were given, and no listener uses them.
    #[error("--cert-file is given, but no URL of --listen-client-urls or --listen-metrics-urls is https or unixs")]
    UnusedServerCertificate,
    /// Nothing to listen on.
    #[error("--listen-client-urls names no URL")]
    NoListener,
    /// No member to go to.
    #[error("--etcd-servers names no member")]
    NoMember,
    /// The proxy's own keys would be Kubernetes' own.
    #[error(
        "--state-prefix={state} and --etcd-prefix={prefix} are the same or the first holds the second: choose another --state-prefix"
    )]
    StatePrefixHoldsPrefix {
        /// The state prefix.
        state: String,
        /// The etcd prefix.
        prefix: String,
    },
    /// The prefixes and paths make no key space.
    #[error("{flag}", flag = .0.flag())]
    KeySpace(#[from] keyspace::Error),
    /// Certificates are not usable.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A listener could not be bound.
    #[error(transparent)]
    Bind(#[from] transport::BindError),
    /// A member's URL and TLS do not go together.
    #[error(transparent)]
    Dial(#[from] transport::DialError),
    /// Metrics are set up twice.
    #[error(transparent)]
    Registry(#[from] telemetry::RegistryError),
    /// Spans can't be exported.
    #[error("--distributed-tracing-address")]
    Traces(#[from] traces::Error),
    /// The audit log can't be written.
    #[error("--audit-log-path")]
    Audit(#[from] audit::Error),
    /// Core dumps, which hold keys, could not be turned off.
    #[error("cannot turn off core dumps")]
    Dumps(#[source] io::Error),
    /// Memory has to be locked and can't be.
    #[error("--memory-lock=required: {reason}")]
    MemoryLock {
        /// Why not.
        reason: Unlockable,
    },
    /// A part of the process is gone, and only a new process has it again.
    #[error("{0} has ended, and this process cannot go on without: see the log before. It has to be started again")]
    Ended(&'static str),
    /// The system gave no thread, no signal handler or no event queue.
    #[error("cannot start")]
    Start(#[source] io::Error),
}
