//! From settings to the parts that run, with everything checked that can be checked before anything is served.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

use super::{Error, Settings};
use crate::config::{self, EncryptionConfiguration, Options};
use crate::etcd::Reachability;
use crate::keyring::{Keyring, KeyringHandle};
use crate::keyspace::KeySpace;
use crate::proxy;
use crate::transport::{Dialer, Endpoint, ListenUrl};
use crate::types::SecretBytes;
use crate::{etcd, tls};

/// What `serve` runs.
pub(super) struct Parts {
    pub(super) keyring: Arc<KeyringHandle>,
    pub(super) proxy: Arc<proxy::Config>,
    pub(super) upstream: etcd::Config,
    pub(super) server_tls: Option<Arc<ServerConfig>>,
}

/// Builds all of it, or says what is doubtful. Binds and connects nothing.
pub(super) fn build(settings: &Settings) -> Result<Parts, Error> {
    check_listeners(settings)?;
    check_prefixes(settings)?;
    let keyring = load_keyring(settings)?;
    let (members, http_members) = dialers(settings)?;
    let server_tls = match &settings.server_files {
        None => None,
        Some(files) => {
            let tls = tls::server_config(files)?;
            warn_all(&tls.warnings);
            Some(tls.config)
        }
    };
    let proxy = proxy::Config {
        state_prefix: settings.state_prefix.clone(),
        on_undecryptable: settings.on_undecryptable,
        max_request_bytes: settings.max_request_bytes,
        max_concurrent_streams: settings.max_concurrent_streams,
        http_members,
    };
    let upstream = etcd::Config {
        members,
        first: 0,
        reachability: Arc::new(Reachability::default()),
    };
    Ok(Parts {
        keyring: Arc::new(KeyringHandle::new(keyring)),
        proxy: Arc::new(proxy),
        upstream,
        server_tls,
    })
}

fn check_listeners(settings: &Settings) -> Result<(), Error> {
    if settings.listen.is_empty() {
        return Err(Error::NoListener);
    }
    let exposed = |url: &&ListenUrl| !url.is_tls() && !url.is_loopback();
    if let Some(url) = settings.listen.iter().find(exposed)
        && !settings.allow_plaintext_on_network
    {
        return Err(Error::PlaintextOnNetwork { url: url.to_string() });
    }
    let mut with_tls = settings
        .listen
        .iter()
        .chain(&settings.listen_metrics)
        .filter(|url| url.is_tls());
    match (with_tls.next(), &settings.server_files) {
        (Some(url), None) => Err(Error::NoServerCertificate { url: url.to_string() }),
        (None, Some(_)) => Err(Error::UnusedServerCertificate),
        _ => Ok(()),
    }
}

/// The state prefix may lie below a Kubernetes prefix (that is so for `/`), never the other way round.
fn check_prefixes(settings: &Settings) -> Result<(), Error> {
    let state = settings.state_prefix.as_bytes();
    match settings
        .prefixes
        .iter()
        .find(|prefix| prefix.as_bytes().starts_with(state))
    {
        None => Ok(()),
        Some(prefix) => Err(Error::StatePrefixHoldsPrefix {
            state: settings.state_prefix.as_bytes().escape_ascii().to_string(),
            prefix: prefix.to_string(),
        }),
    }
}

fn load_keyring(settings: &Settings) -> Result<Keyring, Error> {
    let path = &settings.encryption_config;
    let config = load_config(path)?;
    let keyspace = KeySpace::new(settings.prefixes.clone())?;
    Keyring::compile(&config, keyspace).map_err(|source| Error::Keyring {
        path: path.clone(),
        source,
    })
}

fn load_config(path: &Path) -> Result<EncryptionConfiguration, Error> {
    // One byte more than is accepted, so that a file that is too long is refused as such and not cut.
    let read = File::open(path).and_then(|file| SecretBytes::read(file, config::MAX_DOCUMENT_BYTES + 1));
    let document = read.map_err(|source| Error::ReadConfig {
        path: path.to_owned(),
        source,
    })?;
    config::parse(document.expose(), Options { reload: false }).map_err(|source| Error::Config {
        path: path.to_owned(),
        source,
    })
}

type Dialers = Arc<[Dialer]>;

/// Dialers for gRPC and for plain HTTP.
fn dialers(settings: &Settings) -> Result<(Dialers, Dialers), Error> {
    if settings.members.is_empty() {
        return Err(Error::NoMember);
    }
    let files = &settings.client_files;
    let wants_tls = |member: &Endpoint| member.is_tls(files.is_any_given());
    let tls = if settings.members.iter().any(wants_tls) || files.is_any_given() {
        let tls = tls::client_config(files)?;
        warn_all(&tls.warnings);
        Some(tls)
    } else {
        None
    };
    for member in settings
        .members
        .iter()
        .filter(|member| !wants_tls(member) && !member.is_loopback())
    {
        tracing::warn!(
            endpoint = %member,
            "no TLS to this member: keys, and values without a rule, cross the network in the clear"
        );
    }
    let all = |pick: fn(&tls::ClientTls) -> Arc<rustls::ClientConfig>| {
        let dialer = |member: &Endpoint| {
            let tls = tls.as_ref().filter(|_| wants_tls(member)).map(pick);
            Dialer::new(member.clone(), tls)
        };
        settings.members.iter().map(dialer).collect::<Result<Dialers, _>>()
    };
    Ok((all(|tls| tls.grpc.clone())?, all(|tls| tls.http1.clone())?))
}

fn warn_all(warnings: &[tls::Warning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
