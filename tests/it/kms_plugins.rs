//! KMS plugins that misbehave, seen through a chain without a proxy around it, so that the clock of the plugin's client can
//! be wound up. Nothing may hang, nothing may be sealed with what a plugin should not have answered, and no key may show
//! up in an error.

use std::time::{Duration, SystemTime};

use etcd_encryption_proxy::config::{Kms, KmsApiVersion};
use etcd_encryption_proxy::kms::{self, Config, Plugins};
use etcd_encryption_proxy::types::{KeyName, StorageKey};
use etcd_encryption_proxy::value::{Chain, Deks, OpenError, SealError};
use futures_util::future::join_all;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tonic::Code;

use crate::common::kms::{Behaviour, Plugin, Socket};
use crate::common::process::PATIENCE;

const BOTH: [KmsApiVersion; 2] = [KmsApiVersion::V1, KmsApiVersion::V2];

const KEY: StorageKey<'static> = StorageKey(b"/registry/secrets/default/a");

const PLAINTEXT: &[u8] = b"not for the disk";

/// Longest wait for one call.
const TIMEOUT: Duration = Duration::from_millis(500);

/// How a plugin is made to misbehave.
type Change = Box<dyn Fn(&mut Behaviour)>;

/// A plugin and a proxy's view of it.
struct World {
    plugins: Plugins,
    settings: Kms,
    live: kms::Plugin,
    chain: Chain,
}

impl World {
    fn new(version: KmsApiVersion, endpoint: String) -> Self {
        Self::with(version, endpoint, 1000)
    }

    fn with(version: KmsApiVersion, endpoint: String, cache_size: i32) -> Self {
        let config = Config {
            poll: Duration::from_millis(50),
            retry: Duration::from_millis(20),
            fresh_good: Duration::ZERO,
            fresh_bad: Duration::ZERO,
            write_grace: Duration::from_secs(1),
            ..Config::default()
        };
        let plugins = Plugins::new(Handle::current(), config);
        let settings = Kms {
            api_version: version,
            name: KeyName::new("plugin"),
            cache_size: (version == KmsApiVersion::V1).then_some(cache_size),
            endpoint,
            timeout: TIMEOUT,
        };
        let live = plugins.plugin(&settings).unwrap();
        let chain = Chain::new(vec![live.provider()]).unwrap();
        Self {
            plugins,
            settings,
            live,
            chain,
        }
    }

    /// A proxy that has seen nothing yet.
    fn another(&self) -> Self {
        Self::new(self.settings.api_version, self.settings.endpoint.clone())
    }

    async fn seal(&self) -> Result<Vec<u8>, SealError> {
        let mut deks = Deks::default();
        loop {
            let mut out = Vec::new();
            match self.chain.to_storage(KEY, PLAINTEXT, &deks, &mut out) {
                Ok(()) => return Ok(out),
                Err(SealError::Pending) => bounded(deks.fetch()).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens a value and says whether it is stale.
    async fn open(&self, stored: &[u8]) -> Result<bool, OpenError> {
        let mut deks = Deks::default();
        loop {
            let mut out = Vec::new();
            match self.chain.from_storage(KEY, stored, &deks, &mut out) {
                Ok(opened) => {
                    assert_eq!(out, PLAINTEXT);
                    return Ok(opened.stale);
                }
                Err(OpenError::Pending) => bounded(deks.fetch()).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until it can seal.
    async fn sealed(&self) -> Vec<u8> {
        bounded(async {
            loop {
                match self.seal().await {
                    Ok(stored) => return stored,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await
    }

    /// Waits until it can't.
    async fn refusal(&self) -> String {
        bounded(async {
            loop {
                match self.seal().await {
                    Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => return error.to_string(),
                }
            }
        })
        .await
    }
}

/// What must come to an end does so.
async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it ends")
}

#[tokio::test]
async fn what_one_proxy_seals_another_opens() {
    for version in BOTH {
        for plugin in [Plugin::start(), Plugin::start_abstract()] {
            let world = World::new(version, plugin.endpoint());
            let stored = world.sealed().await;
            assert_eq!(world.open(&stored).await, Ok(false));
            let other = world.another();
            other.sealed().await;
            assert_eq!(other.open(&stored).await, Ok(false));
            bounded(other.live.health()).await.unwrap();
            let report = other.live.report();
            assert_eq!(
                (report.ailment, report.writing.is_some()),
                (None, version == KmsApiVersion::V2)
            );
        }
    }
}

/// A plugin that checks it would refuse anything else; others have been seen to choke on a socket's path.
#[tokio::test]
async fn the_plugin_is_called_localhost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kms.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _world = World::new(KmsApiVersion::V2, format!("unix://{}", path.display()));
    let request = bounded(async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        let (request, _respond) = connection.accept().await.unwrap().unwrap();
        request
    })
    .await;
    assert_eq!(request.uri(), "http://localhost/v2.KeyManagementService/Status");
}

#[tokio::test]
async fn whoever_listens_there_and_whatever_he_says_a_write_is_refused_in_time_and_comes_back() {
    for version in BOTH {
        let mut plugin = Plugin::start();
        let world = World::new(version, plugin.endpoint());
        let stored = world.sealed().await;
        for socket in [Socket::Silent, Socket::Garbage, Socket::Http1, Socket::Closing] {
            plugin.serve(socket);
            let is_named =
                |text: &str| text.contains("is not reachable: ") || text.contains("did not answer within 500ms");
            bounded(async {
                // A seed may be out of time before the look that says why has come to its end.
                while !is_named(&world.refusal().await) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
            assert_eq!(world.open(&stored).await, Ok(false), "what is at hand opens on");
            let unseen = bounded(world.another().open(&stored)).await.unwrap_err();
            assert!(unseen.is_transient(), "{version:?} {socket:?}: {unseen}");
            plugin.serve(Socket::Grpc);
            world.sealed().await;
        }
        plugin.stop();
        world.refusal().await;
        bounded(async {
            while world.live.report().ailment.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert!(world.live.report().since <= SystemTime::now());
        plugin.serve(Socket::Grpc);
        world.sealed().await;
        bounded(world.live.health()).await.unwrap();
    }
}

#[tokio::test]
async fn answers_that_are_none_are_refused_and_told_without_the_key() {
    let long = || vec![b'x'; 40_000];
    let cases: Vec<(&str, Vec<KmsApiVersion>, Change)> = vec![
        (
            "answered Unavailable",
            BOTH.into(),
            Box::new(|plugin| plugin.error = Some(Code::Unavailable)),
        ),
        (
            "answered Internal",
            BOTH.into(),
            Box::new(|plugin| plugin.error = Some(Code::Internal)),
        ),
        (
            "did not answer within",
            BOTH.into(),
            Box::new(|plugin| plugin.delay = PATIENCE),
        ),
        (
            "longer than 65535",
            vec![KmsApiVersion::V1],
            Box::new(|plugin| plugin.ciphertext = Some(vec![1; 70_000])),
        ),
        (
            "answered OutOfRange",
            BOTH.into(),
            Box::new(|plugin| plugin.ciphertext = Some(vec![1; 3 << 20])),
        ),
        (
            "it is empty",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.ciphertext = Some(Vec::new())),
        ),
        (
            "returned nothing",
            vec![KmsApiVersion::V1],
            Box::new(|plugin| plugin.ciphertext = Some(Vec::new())),
        ),
        ("not encrypted", BOTH.into(), Box::new(|plugin| plugin.in_clear = true)),
        (
            "it is 1025 bytes",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.ciphertext = Some(vec![1; 1025])),
        ),
        (
            "it is empty",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.encrypt_key_id = Some(String::new())),
        ),
        (
            "Encrypt used another key",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.encrypt_key_id = Some("b".into())),
        ),
        (
            "got invalid KMSv2 KeyID",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.status_key_id = Some(String::new())),
        ),
        (
            "1025 bytes",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.status_key_id = Some("x".repeat(1025))),
        ),
        (
            "unexpected healthz status: ill",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.healthz = Some("ill".into())),
        ),
        (
            "expected KMSv2 API version",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.version = Some("v3".into())),
        ),
        (
            "only v1beta1 is supported",
            vec![KmsApiVersion::V1],
            Box::new(|plugin| plugin.version = Some("v1".into())),
        ),
        (
            "fully qualified",
            vec![KmsApiVersion::V2],
            Box::new(|plugin| plugin.annotations = vec![("short".into(), vec![])]),
        ),
        (
            "more than 32768",
            vec![KmsApiVersion::V2],
            Box::new(move |plugin| plugin.annotations = vec![("a.b".into(), long())]),
        ),
    ];
    for (expected, versions, change) in cases {
        for version in versions {
            let plugin = Plugin::start();
            // It has no seed yet: a v2 plugin's last one would write on.
            change(&mut plugin.behaviour());
            let world = World::new(version, plugin.endpoint());
            let text = bounded(async {
                loop {
                    let text = world.refusal().await;
                    if !text.contains("has not been asked yet") {
                        return text;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
            assert!(text.contains(expected), "{version:?}: {text}");
            assert!(text.len() < 1000 && !text.contains('\n'), "{text}");
            // A key in hexadecimal digits, as the plugin quotes it.
            let longest = text.split(|char: char| !char.is_ascii_hexdigit()).map(str::len).max();
            assert!(longest < Some(64) || text.contains("sha256:"), "{text}");
            plugin.behave();
            let stored = world.sealed().await;
            assert_eq!(world.open(&stored).await, Ok(false));
        }
    }
}

#[tokio::test]
async fn a_wrong_key_opens_nothing_and_is_not_taken_for_an_outage() {
    for version in BOTH {
        let plugin = Plugin::start();
        let world = World::new(version, plugin.endpoint());
        let stored = world.sealed().await;
        for (plaintext, expected) in [
            (vec![7; 32], "the stored data could not be decrypted"),
            (vec![7; 31], "bytes"),
            (vec![], "bytes"),
        ] {
            plugin.behaviour().plaintext = Some(plaintext);
            let error = world.another().open(&stored).await.unwrap_err();
            assert!(
                error.to_string().contains(expected) && !error.is_transient(),
                "{version:?}: {error}"
            );
        }
        plugin.behave();
        for (code, is_transient) in [
            (Code::Unavailable, true),
            (Code::DeadlineExceeded, true),
            (Code::ResourceExhausted, true),
            (Code::Aborted, true),
            (Code::Cancelled, true),
            (Code::Internal, true),
            (Code::Unknown, true),
            (Code::InvalidArgument, false),
            (Code::NotFound, true),
            (Code::FailedPrecondition, true),
            (Code::PermissionDenied, true),
            (Code::Unauthenticated, true),
            (Code::DataLoss, false),
            (Code::Unimplemented, true),
            (Code::OutOfRange, true),
            (Code::AlreadyExists, true),
        ] {
            let other = world.another();
            other.sealed().await;
            plugin.behaviour().error = Some(code);
            let error = other.open(&stored).await.unwrap_err();
            assert_eq!(error.is_transient(), is_transient, "{version:?} {code:?}: {error}");
            plugin.behave();
        }
    }
}

#[tokio::test]
async fn a_call_waits_for_a_plugin_that_is_being_restarted_even_with_its_socket_gone() {
    let mut plugin = Plugin::start();
    let world = World::new(KmsApiVersion::V1, plugin.endpoint());
    world.sealed().await;
    for round in 0..3 {
        plugin.stop();
        if round == 1 {
            plugin.delete_socket();
        }
        let (sealed, ()) = tokio::join!(world.seal(), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            plugin.serve(Socket::Grpc);
        });
        assert!(sealed.is_ok(), "round {round}: {sealed:?}");
    }
}

#[tokio::test]
async fn a_v2_seed_writes_on_for_its_grace_reads_for_ever_and_rotates_with_the_key() {
    let mut plugin = Plugin::start();
    let world = World::new(KmsApiVersion::V2, plugin.endpoint());
    let first = world.sealed().await;
    plugin.stop();
    world.seal().await.unwrap();
    let text = world.refusal().await;
    assert!(
        text.contains("encryptedDEKSource with keyID hash \"sha256:") && text.contains("expired at"),
        "{text}"
    );
    assert!(text.contains("is not reachable"), "{text}");
    assert_eq!(world.open(&first).await, Ok(false));

    plugin.behaviour().key = 1;
    plugin.serve(Socket::Grpc);
    let second = world.sealed().await;
    // The second may have been sealed before the change was noticed, when its old key wrote on; the third is not.
    bounded(async {
        while world.open(&first).await != Ok(true) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(world.open(&second).await.is_ok());
    let third = world.sealed().await;
    assert_eq!(world.open(&third).await, Ok(false));
    let cold = world.another();
    cold.sealed().await;
    assert_eq!(
        (cold.open(&first).await, cold.open(&third).await),
        (Ok(true), Ok(false))
    );

    drop(cold);

    // The plugin goes back: so do we.
    plugin.behaviour().key = 0;
    bounded(async {
        while world.open(&first).await != Ok(false) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(world.open(&third).await, Ok(true));
    assert_eq!(
        plugin.counts().encrypts(),
        4,
        "a seed for each change, not for each value"
    );
}

#[tokio::test]
async fn five_hundred_values_with_none_of_their_keys_at_hand_are_asked_for_at_once_and_once_each() {
    let plugin = Plugin::start();
    let world = World::with(KmsApiVersion::V1, plugin.endpoint(), -1);
    let values = join_all((0..500).map(|_| world.sealed())).await;
    bounded(world.live.health()).await.unwrap();
    let before = plugin.counts().decrypts();
    plugin.behaviour().delay = Duration::from_millis(5);
    let readers = [world.another(), world.another()];
    for reader in &readers {
        bounded(reader.live.examined(PATIENCE)).await;
    }
    // Each value twice, as two answers might hold it.
    let reader = &readers[0];
    let opened = join_all(values.iter().chain(&values).map(|stored| reader.open(stored))).await;
    assert!(opened.iter().all(|outcome| *outcome == Ok(false)));
    let most = plugin.counts().most.load(std::sync::atomic::Ordering::SeqCst);
    // Beside those of the values: the health checks' own.
    assert!((32..=64 + 6).contains(&most), "{most} calls at once");
    let asked = plugin.counts().decrypts() - before;
    assert!((500..700).contains(&asked), "{asked} calls for 500 keys");
    let warm = plugin.counts().decrypts();
    plugin.behaviour().delay = Duration::ZERO;
    let again = join_all(values.iter().map(|stored| reader.open(stored))).await;
    assert!(again.iter().all(Result::is_ok));
    assert!(plugin.counts().decrypts() - warm < 100, "the cache holds a thousand");
}

#[tokio::test]
async fn a_plugin_whose_description_stays_keeps_its_keys_through_a_reload_while_it_is_down() {
    let mut plugin = Plugin::start();
    let world = World::new(KmsApiVersion::V2, plugin.endpoint());
    let stored = world.sealed().await;
    plugin.stop();
    let again = world.plugins.plugin(&world.settings).unwrap();
    assert!(again.is(&world.live));
    let mut changed = world.settings.clone();
    changed.timeout = Duration::from_millis(501);
    let other = world.plugins.plugin(&changed).unwrap();
    assert!(!other.is(&world.live));
    bounded(other.examined(PATIENCE)).await;
    assert!(other.report().ailment.is_some());
    assert_eq!(world.open(&stored).await, Ok(false));
}
