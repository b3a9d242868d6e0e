//! From settings to the parts that run, with everything checked that can be checked before anything is served.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::follower::{self, Kept};
use super::{Background, Common, Error, Origin, RootSettings, Settings, on_etcd, strongbox};
use crate::audit::Audit;
use crate::config::{self, EncryptionConfiguration, Options};
use crate::etcd::Reachability;
use crate::files::{self, Permissions};
use crate::keyring::{self, FileSource, Keyring, KeyringHandle, LoadError};
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::Plugins;
use crate::managed::{Current, Past};
use crate::proxy::{self, Ledger, Unfenced};
use crate::rotation::Policy;
use crate::systemd::Manager;
use crate::tls::{ClientSessions, ClientTls, ServerFiles, ServerTls, Side};
use crate::traces::Traces;
use crate::transport::{Dialer, Endpoint, ListenUrl};
use crate::types::{Fingerprint, StatePrefix, Tenure};
use crate::{etcd, tls};

/// What `serve` runs.
pub(super) struct Parts {
    pub(super) keyring: Arc<KeyringHandle>,
    /// Where its configuration is read from now on.
    pub(super) source: Arc<dyn keyring::Source>,
    /// What is to be followed for that, if the configuration lives in etcd.
    pub(super) kept: Option<Kept>,
    /// Which configuration the keyring is from, and whether a newer one was refused.
    pub(super) config_status: Arc<keyring::ReloadStatus>,
    pub(super) proxy: Arc<proxy::Config>,
    pub(super) upstream: etcd::Config,
    pub(super) server_tls: Option<Renewed<ServerTls>>,
    pub(super) client_tls: Option<Renewed<ClientTls>>,
    pub(super) permissions: Arc<Permissions>,
    /// The KMS plugins that live, for configurations to come.
    pub(super) plugins: Arc<Plugins>,
}

/// One side of TLS, replaced while the proxy runs.
pub(super) struct Renewed<T> {
    pub(super) handle: tls::Handle<T>,
    /// What its files held when it was loaded.
    pub(super) seen: Option<Fingerprint>,
    /// Which certificate is in use, and whether a newer one was refused.
    pub(super) status: Arc<tls::ReloadStatus>,
}

/// Builds all of it, or says what is doubtful. Binds nothing, and connects nothing but KMS plugins, which it does not wait
/// for.
pub(super) fn build(
    settings: &Settings,
    plugins: Arc<Plugins>,
    audit: &Audit,
    traces: &Traces,
) -> Result<Parts, Error> {
    check_listeners(settings)?;
    let common = &settings.common;
    check_prefixes(&common.prefixes, &common.state_prefix)?;
    let permissions = Arc::new(Permissions::new(common.strict_permissions));
    let client_tls = client_tls(common, &permissions)?;
    let (members, http_members) = dialers(common, client_tls.as_ref())?;
    let (keyring, source, kept) = configuration(settings, &permissions, &plugins, &members)?;
    let server_tls = settings.server_files.as_ref();
    let server_tls = server_tls.map(|files| load_side(files, &permissions)).transpose()?;
    let proxy = proxy::Config {
        state_prefix: common.state_prefix.clone(),
        tenure: Arc::new(match settings.background {
            Background::Off => Tenure::for_ever(),
            Background::On { .. } => Tenure::none(),
        }),
        unfenced: Arc::new(Unfenced::new(matches!(settings.background, Background::On { .. }))),
        on_undecryptable: settings.on_undecryptable,
        unopened: Arc::default(),
        max_request_bytes: settings.max_request_bytes,
        max_concurrent_streams: settings.max_concurrent_streams,
        ledger: Arc::new(Ledger::new(settings.max_client_memory_bytes)),
        advertised: settings.advertised.clone(),
        allow_snapshot: settings.allow_snapshot,
        audit: audit.clone(),
        traces: traces.clone(),
        http_members,
    };
    let upstream = etcd::Config {
        members,
        first: 0,
        reachability: Arc::new(Reachability::default()),
        kind: Arc::default(),
    };
    Ok(Parts {
        config_status: Arc::new(keyring::ReloadStatus::new(keyring.fingerprint())),
        keyring: Arc::new(KeyringHandle::new(keyring)),
        source,
        kept,
        proxy: Arc::new(proxy),
        upstream,
        server_tls,
        client_tls,
        permissions,
        plugins,
    })
}

fn check_listeners(settings: &Settings) -> Result<(), Error> {
    if settings.listen.is_empty() {
        return Err(Error::NoListener);
    }
    let exposed = |url: &&ListenUrl| !url.is_tls() && !url.is_loopback();
    if let Some(url) = settings.listen.iter().find(exposed)
        && !settings.allowed_on_network.plaintext
    {
        return Err(Error::PlaintextOnNetwork { url: url.to_string() });
    }
    let asks = |files: &ServerFiles| files.client_auth.trusted_ca_file.is_some();
    if let Some(files) = &settings.server_files
        && let Some(url) = settings.listen.iter().find(|url| url.is_tls() && !url.is_loopback())
        && !asks(files)
        // That is refused for what it lacks, when the files are read.
        && !files.client_auth.required
        && !settings.allowed_on_network.anonymous
    {
        return Err(Error::AnonymousOnNetwork { url: url.to_string() });
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
pub(super) fn check_prefixes(prefixes: &[EtcdPrefix], state: &StatePrefix) -> Result<(), Error> {
    let holds = |prefix: &&EtcdPrefix| prefix.as_bytes().starts_with(state.as_bytes());
    match prefixes.iter().find(holds) {
        None => Ok(()),
        Some(prefix) => Err(Error::StatePrefixHoldsPrefix {
            state: state.as_bytes().escape_ascii().to_string(),
            prefix: prefix.to_string(),
        }),
    }
}

/// The configuration as it is now, where it is read from now on, and what is to be followed for that.
#[expect(clippy::type_complexity, reason = "three things, each with a name where it goes")]
fn configuration(
    settings: &Settings,
    permissions: &Arc<Permissions>,
    plugins: &Plugins,
    members: &Dialers,
) -> Result<(Keyring, Arc<dyn keyring::Source>, Option<Kept>), Error> {
    let common = &settings.common;
    match &common.origin {
        Origin::File(path) => {
            if matches!(settings.background, Background::On { rotation, .. } if rotation != Policy::default()) {
                return Err(Error::RotationOfFile);
            }
            let keyspace = common.keyspace()?;
            let is_followed = settings.reload_encryption_config;
            let keyring = load_keyring_of(path, &keyspace, permissions, plugins, is_followed)?;
            let (path, permissions) = (path.clone(), Arc::clone(permissions));
            Ok((keyring, Arc::new(FileSource { path, permissions }), None))
        }
        Origin::Managed(root) => {
            if matches!(settings.background, Background::Off) {
                return Err(Error::ManagedWithoutRecord);
            }
            let (first, past) = first_keyring((common, root), Arc::clone(members), settings.manager.clone())?;
            let keyring = managed_keyring((&first, &past), common, plugins)?;
            let (kept, source) = follower::channel(common, root, &first, past);
            Ok((keyring, Arc::new(source), Some(kept)))
        }
    }
}

/// The keyring in etcd at the start of a process. Blocks until it is there.
fn first_keyring(
    (common, root): (&Common, &RootSettings),
    members: Dialers,
    manager: Manager,
) -> Result<(Current, Past), Error> {
    let (common, root) = (common.clone(), root.clone());
    let looking = on_etcd::spawn("keyring", members, async move |on_etcd| {
        let strongbox = strongbox::strongbox(&common, &root, on_etcd.client.clone())?;
        strongbox::first(&common, &strongbox, &on_etcd.client, &manager).await
    });
    let lost = |_| io::Error::other("the thread that reads the keyring panicked");
    let looked = looking.and_then(|thread| thread.join().map_err(lost)?);
    looked.map_err(Error::Start)?
}

/// From the keyring in etcd, and its archive, to one that seals and opens.
pub(super) fn managed_keyring(
    (current, past): (&Current, &Past),
    common: &Common,
    plugins: &Plugins,
) -> Result<Keyring, Error> {
    let keyspace = common.keyspace()?;
    let document = (current.document.expose(), &*past.configs());
    compile_with(document, &keyspace, plugins, true).map_err(Error::ManagedKeyring)
}

/// The keyring of the configuration at `path`.
pub(super) fn load_keyring_of(
    path: &Path,
    keyspace: &KeySpace,
    permissions: &Permissions,
    plugins: &Plugins,
    is_followed: bool,
) -> Result<Keyring, Error> {
    let file = files::read(path, config::MAX_DOCUMENT_BYTES)?;
    permissions.admit(file.exposure).map_err(Error::Exposed)?;
    compile(&file.bytes, keyspace, plugins, is_followed).map_err(|error| match error {
        LoadError::Config(problems) => Error::Config {
            path: path.to_owned(),
            problems,
        },
        source => Error::Keyring {
            path: path.to_owned(),
            source,
        },
    })
}

/// From a configuration's bytes to a keyring; `is_followed` if the file is taken into use anew when it changes.
pub(super) fn compile(
    document: &[u8],
    keyspace: &KeySpace,
    plugins: &Plugins,
    is_followed: bool,
) -> Result<Keyring, LoadError> {
    compile_with((document, &[]), keyspace, plugins, is_followed)
}

/// The same of a document and those that it replaced, with whose keys it reads too.
pub(super) fn compile_with(
    (document, past): (&[u8], &[EncryptionConfiguration]),
    keyspace: &KeySpace,
    plugins: &Plugins,
    is_followed: bool,
) -> Result<Keyring, LoadError> {
    let config = config::parse(document, Options { reload: is_followed })?.with_past(past);
    Ok(Keyring::compile(&config, keyspace, plugins)?)
}

/// Loads one side's files, and warns of what there is to warn of.
fn load_side<S: Side>(files: &S, permissions: &Permissions) -> Result<Renewed<S::Tls>, Error> {
    files.admit(permissions)?;
    let seen = tls::fingerprint(files);
    let tls = files.load()?;
    let (loaded, warnings) = S::about(&tls);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Renewed {
        status: Arc::new(tls::ReloadStatus::new(loaded)),
        handle: tls::Handle::new(tls),
        seen,
    })
}

/// TLS towards the members, where any of them is reached that way.
pub(super) fn client_tls(settings: &Common, permissions: &Permissions) -> Result<Option<Renewed<ClientTls>>, Error> {
    let files = &settings.client_files;
    let is_wanted = files.is_any_given() || settings.members.iter().any(|member| member.is_tls(false));
    is_wanted.then(|| load_side(files, permissions)).transpose()
}

pub(super) type Dialers = Arc<[Dialer]>;

/// Dialers for gRPC and for plain HTTP.
pub(super) fn dialers(settings: &Common, tls: Option<&Renewed<ClientTls>>) -> Result<(Dialers, Dialers), Error> {
    if settings.members.is_empty() {
        return Err(Error::NoMember);
    }
    let wants_tls = |member: &Endpoint| member.is_tls(settings.client_files.is_any_given());
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
    let all = |sessions: fn(tls::Handle<ClientTls>) -> ClientSessions| {
        let dialer = |member: &Endpoint| {
            let tls = tls.filter(|_| wants_tls(member));
            Dialer::new(member.clone(), tls.map(|tls| sessions(tls.handle.clone())))
        };
        settings.members.iter().map(dialer).collect::<Result<Dialers, _>>()
    };
    Ok((all(ClientSessions::grpc)?, all(ClientSessions::http1)?))
}
