//! The flags of `serve`, named as in kube-apiserver and etcd where these have them, and what they resolve to.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::common::CommonFlags;
use super::log::LogFlags;
use super::members::MembersFlags;
use super::switch::SWITCH;
use crate::app::{AllowedOnNetwork, MemoryLock, OnUnreachable, Settings};
use crate::rewrite::OnUndecryptable;
use crate::systemd::Manager;
use crate::tls::{Allowed, ClientAuth, ServerFiles};
use crate::traces;
use crate::transport::{Endpoint, ListenUrl};

/// etcd's default for its flag of the same name: 1.5 MiB.
const MAX_REQUEST_BYTES: usize = 1_572_864;

/// Streams of one client connection. kube-apiserver has one connection for each resource or few, and no more than some hundred
/// streams on it; a Go client that would open more waits.
const MAX_CONCURRENT_STREAMS: u32 = 4096;

/// What all clients may make the process hold, and the least that is taken: several of the largest requests and their answers.
const MAX_CLIENT_MEMORY_BYTES: u64 = 448 * 1024 * 1024;
const MIN_CLIENT_MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// Flags of `serve`.
#[derive(Debug, Args)]
#[command(mut_arg("log_level", |level| level.default_value("info")))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags are what they are: kube-apiserver's, etcd's and ours"
)]
pub(super) struct Flags {
    #[command(flatten)]
    common: CommonFlags,

    /// Take the EncryptionConfiguration into use anew when its file changes; what is wrong with a new one is logged, and the
    /// one in use stays
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ENCRYPTION_PROVIDER_CONFIG_AUTOMATIC_RELOAD",
        default_value_t = true,
        value_name = SWITCH,
        help_heading = "Encryption"
    )]
    encryption_provider_config_automatic_reload: bool,
    /// What a client gets for a value under a rule that is sealed and that no key opens: the stored bytes, which
    /// kube-apiserver reports as an error of that one object, or an error for the whole request
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ON_UNDECRYPTABLE",
        value_enum,
        default_value = "return-ciphertext",
        help_heading = "Encryption"
    )]
    on_undecryptable: OnUndecryptableFlag,
    /// While no etcd member can be reached: hold calls until one can, or withdraw, so that clients go elsewhere (listeners are closed,
    /// connections end). auto withdraws where the cluster has more members than --etcd-servers, which takes --member-record
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ON_UNREACHABLE",
        value_enum,
        default_value = "auto",
        help_heading = "etcd"
    )]
    on_unreachable: OnUnreachableFlag,

    /// Where clients connect: http, https, unix and unixs URLs, separated by commas
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_LISTEN_CLIENT_URLS",
        value_name = "URL,…",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:3379",
        help_heading = "Clients"
    )]
    listen_client_urls: Vec<ListenUrl>,
    /// URLs of this proxy and of those beside it, which a list of the members names in the place of the members': a client that
    /// follows that list (`AutoSyncInterval`, `etcdctl --cluster`) stays with the proxies. Without, it is told etcd's own, and from there
    /// writes what nothing encrypts
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ADVERTISE_CLIENT_URLS",
        value_name = "URL,…",
        value_delimiter = ',',
        value_parser = advertised,
        help_heading = "Clients"
    )]
    advertise_client_urls: Vec<String>,
    /// Certificate of https and unixs listeners, its issuers after it
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_CERT_FILE",
        value_name = "FILE",
        requires = "key_file",
        help_heading = "Clients"
    )]
    cert_file: Option<PathBuf>,
    /// Private key of --cert-file
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_KEY_FILE",
        value_name = "FILE",
        requires = "cert_file",
        help_heading = "Clients"
    )]
    key_file: Option<PathBuf>,
    /// Demand a client certificate signed by --trusted-ca-file
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_CLIENT_CERT_AUTH",
        value_name = SWITCH,
        help_heading = "Clients"
    )]
    client_cert_auth: bool,
    /// CA that signs clients' certificates
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_TRUSTED_CA_FILE",
        value_name = "FILE",
        requires = "cert_file",
        help_heading = "Clients"
    )]
    trusted_ca_file: Option<PathBuf>,
    /// Serve only clients whose certificate is valid for one of these DNS names or IP addresses
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_CLIENT_CERT_ALLOWED_HOSTNAME",
        value_name = "NAME,…",
        value_delimiter = ',',
        requires = "trusted_ca_file",
        help_heading = "Clients"
    )]
    client_cert_allowed_hostname: Vec<String>,
    /// Serve only clients whose certificate has exactly this subject common name
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_CLIENT_CERT_ALLOWED_CN",
        value_name = "CN",
        requires = "trusted_ca_file",
        conflicts_with = "client_cert_allowed_hostname",
        help_heading = "Clients"
    )]
    client_cert_allowed_cn: Option<String>,
    /// Accept a listener without TLS that the network can reach: everybody on the way, and whoever reaches it, reads every Secret
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ALLOW_PLAINTEXT_ON_NETWORK",
        value_name = SWITCH,
        help_heading = "Clients"
    )]
    allow_plaintext_on_network: bool,
    /// Accept a TLS listener that the network can reach and that asks clients for no certificate: whoever reaches it reads every
    /// Secret
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ALLOW_ANONYMOUS_CLIENTS_ON_NETWORK",
        value_name = SWITCH,
        help_heading = "Clients"
    )]
    allow_anonymous_clients_on_network: bool,
    /// Largest request that etcd accepts, bytes; set it as etcd's own flag is set
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_MAX_REQUEST_BYTES", value_name = "BYTES", default_value_t = MAX_REQUEST_BYTES,
          help_heading = "Clients")]
    max_request_bytes: usize,
    /// Let clients take snapshots (`etcdctl snapshot save`). One holds everything as etcd stores it: values sealed, and the proxy's own
    /// records with the sealed keyring. kube-apiserver takes none
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ALLOW_SNAPSHOT",
        default_value_t = true,
        value_name = SWITCH,
        help_heading = "Clients"
    )]
    allow_snapshot: bool,
    /// Streams that one client connection may have open at once
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_MAX_CONCURRENT_STREAMS", value_name = "N", default_value_t = MAX_CONCURRENT_STREAMS,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = "Clients")]
    max_concurrent_streams: u32,
    /// What all clients together may make the process hold: calls, requests, answers and events that are not read, bytes. A client
    /// that reaches its part waits; where there is no room for others, the one that holds most of it is let go
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_MAX_CLIENT_MEMORY_BYTES", value_name = "BYTES",
          default_value_t = MAX_CLIENT_MEMORY_BYTES, value_parser = clap::value_parser!(u64).range(MIN_CLIENT_MEMORY_BYTES..),
          help_heading = "Clients")]
    max_client_memory_bytes: u64,

    /// Where /metrics, /livez, /readyz and /healthz are served, each `http://IP:PORT` or `https://IP:PORT`, separated by commas. As
    /// with etcd's flag of this name, nowhere unless given
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_LISTEN_METRICS_URLS",
        value_name = "URL,…",
        value_delimiter = ',',
        help_heading = "Operation"
    )]
    listen_metrics_urls: Vec<ListenUrl>,
    /// How long calls under way may take to end after SIGTERM; a second signal stops at once
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "30s",
          value_parser = humantime::parse_duration, help_heading = "Operation")]
    shutdown_timeout: Duration,
    /// Write an audit log to this file, one JSON object a line: configurations, uses of keys, values that do not open,
    /// refusals. `-` is standard output. A file that is renamed is opened anew
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_AUDIT_LOG_PATH",
        value_name = "FILE",
        help_heading = "Operation"
    )]
    audit_log_path: Option<PathBuf>,
    /// Trace calls over OTLP: those that the client traces, and as many more as the sampling rate says
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ENABLE_DISTRIBUTED_TRACING",
        value_name = SWITCH,
        help_heading = "Operation"
    )]
    enable_distributed_tracing: bool,
    /// The collector, which takes OTLP over gRPC without TLS
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_DISTRIBUTED_TRACING_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "localhost:4317",
        help_heading = "Operation"
    )]
    distributed_tracing_address: String,
    /// Name of this service in traces
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_DISTRIBUTED_TRACING_SERVICE_NAME",
        value_name = "NAME",
        default_value = "etcd-encryption-proxy",
        help_heading = "Operation"
    )]
    distributed_tracing_service_name: String,
    /// Name of this process in traces
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_DISTRIBUTED_TRACING_INSTANCE_ID",
        value_name = "ID",
        help_heading = "Operation"
    )]
    distributed_tracing_instance_id: Option<String>,
    /// Of a million calls of which the client does not say whether it traces them, how many are traced
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_DISTRIBUTED_TRACING_SAMPLING_RATE", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000), help_heading = "Operation")]
    distributed_tracing_sampling_rate: u32,
    /// Keep all memory out of swap, keys included: where the system lets it, or else do not start, or not at all
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_MEMORY_LOCK",
        value_enum,
        default_value = "auto",
        help_heading = "Operation"
    )]
    memory_lock: MemoryLockFlag,
    #[command(flatten)]
    members: MembersFlags,

    /// Threads that serve; one for each processor by default
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_THREADS",
        value_name = "N",
        help_heading = "Operation"
    )]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(super) log: LogFlags,
}

/// `--on-unreachable`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnUnreachableFlag {
    Auto,
    Hold,
    Withdraw,
}

/// One of `--advertise-client-urls`: as clients take it, with a scheme.
fn advertised(given: &str) -> Result<String, String> {
    let given = given.trim();
    let expected = "http://HOST:PORT, https://HOST:PORT, unix:///PATH or unixs:///PATH is expected";
    if !given.contains("://") {
        return Err(format!("{given:?} has no scheme: {expected}"));
    }
    let parsed = given.parse::<Endpoint>().map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}

/// `--on-undecryptable`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnUndecryptableFlag {
    ReturnCiphertext,
    Fail,
}

/// `--memory-lock`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MemoryLockFlag {
    Auto,
    Required,
    Off,
}

impl From<MemoryLockFlag> for MemoryLock {
    fn from(flag: MemoryLockFlag) -> Self {
        match flag {
            MemoryLockFlag::Auto => Self::Auto,
            MemoryLockFlag::Required => Self::Required,
            MemoryLockFlag::Off => Self::Off,
        }
    }
}

impl Flags {
    /// Resolves what the flags mean together.
    pub(super) fn settings(self, manager: Manager) -> anyhow::Result<Settings> {
        let server_files = match (self.cert_file, self.key_file) {
            (Some(cert_file), Some(key_file)) => {
                let allowed = Allowed::new(
                    self.client_cert_allowed_cn.as_deref(),
                    &self.client_cert_allowed_hostname,
                )?;
                let client_auth = ClientAuth {
                    required: self.client_cert_auth,
                    trusted_ca_file: self.trusted_ca_file,
                    allowed,
                };
                Some(ServerFiles {
                    cert_file,
                    key_file,
                    client_auth,
                })
            }
            _ if self.client_cert_auth => anyhow::bail!(
                "--client-cert-auth needs --cert-file, --key-file and --trusted-ca-file: without TLS no client shows a certificate"
            ),
            _ => None,
        };
        Ok(Settings {
            listen: self.listen_client_urls,
            listen_metrics: self.listen_metrics_urls,
            server_files,
            allowed_on_network: AllowedOnNetwork {
                plaintext: self.allow_plaintext_on_network,
                anonymous: self.allow_anonymous_clients_on_network,
            },
            common: self.common.settings(),
            reload_encryption_config: self.encryption_provider_config_automatic_reload,
            on_unreachable: match self.on_unreachable {
                OnUnreachableFlag::Auto => OnUnreachable::Auto,
                OnUnreachableFlag::Hold => OnUnreachable::Hold,
                OnUnreachableFlag::Withdraw => OnUnreachable::Withdraw,
            },
            on_undecryptable: match self.on_undecryptable {
                OnUndecryptableFlag::ReturnCiphertext => OnUndecryptable::ReturnCiphertext,
                OnUndecryptableFlag::Fail => OnUndecryptable::Fail,
            },
            max_request_bytes: self.max_request_bytes,
            advertised: self.advertise_client_urls,
            allow_snapshot: self.allow_snapshot,
            max_concurrent_streams: self.max_concurrent_streams,
            max_client_memory_bytes: usize::try_from(self.max_client_memory_bytes).unwrap_or(usize::MAX),
            audit_log: self.audit_log_path,
            traces: self.enable_distributed_tracing.then_some(traces::Config {
                address: self.distributed_tracing_address,
                service_name: self.distributed_tracing_service_name,
                instance_id: self.distributed_tracing_instance_id,
                sampling_rate: self.distributed_tracing_sampling_rate,
            }),
            memory_lock: self.memory_lock.into(),
            background: self.members.settings()?,
            manager,
            threads: self
                .threads
                .or_else(|| std::thread::available_parallelism().ok())
                .map_or(1, NonZeroUsize::get),
            shutdown_timeout: self.shutdown_timeout,
        })
    }
}
