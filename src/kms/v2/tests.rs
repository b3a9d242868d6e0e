//! The states of a v2 plugin, under a clock that the tests set, over a plugin without a socket.

use std::sync::atomic::AtomicUsize;

use tokio::time::{advance, sleep};
use tonic::Code;

use super::*;
use crate::kms::pulse::{Patient as _, probe, watch};
use crate::pb::v2::{EncryptResponse, StatusResponse};
use crate::types::SecretBytes;
use crate::value::DekKind;

/// What the plugin does, changed by the tests.
struct Plugin {
    status: Mutex<Result<StatusResponse, CallError>>,
    /// The key ID that Encrypt names, and the annotation that it adds.
    encrypt: Mutex<(String, String)>,
    /// What Decrypt gives, if it is not what was wrapped.
    decrypt: Mutex<Option<Result<Vec<u8>, CallError>>>,
    statuses: AtomicUsize,
    encrypts: AtomicUsize,
    decrypts: AtomicUsize,
}

/// Wraps by turning every bit.
impl ApiV2 for Arc<Plugin> {
    async fn status(&self) -> Result<StatusResponse, CallError> {
        self.statuses.fetch_add(1, Ordering::Relaxed);
        self.status.lock().unwrap().clone()
    }

    async fn encrypt(&self, seed: &SecretBytes) -> Result<EncryptResponse, CallError> {
        self.encrypts.fetch_add(1, Ordering::Relaxed);
        let (key_id, annotation) = self.encrypt.lock().unwrap().clone();
        Ok(EncryptResponse {
            ciphertext: seed.expose().iter().map(|byte| !byte).collect(),
            key_id,
            annotations: [("version.example.com".to_owned(), annotation.into_bytes())].into(),
        })
    }

    async fn decrypt(&self, wrapped: &WrappedDek<'static>) -> Result<SecretBytes, CallError> {
        self.decrypts.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(10)).await;
        if let Some(instead) = self.decrypt.lock().unwrap().clone() {
            return instead.map(SecretBytes::new);
        }
        Ok(SecretBytes::new(wrapped.source.iter().map(|byte| !byte).collect()))
    }
}

impl Plugin {
    fn set(&self, change: impl FnOnce(&mut StatusResponse)) {
        let mut status = good("a");
        change(&mut status);
        *self.status.lock().unwrap() = Ok(status);
    }

    fn rotate(&self, key_id: &str) {
        *self.status.lock().unwrap() = Ok(good(key_id));
        self.encrypt.lock().unwrap().0 = key_id.to_owned();
    }

    fn break_down(&self) {
        *self.status.lock().unwrap() = Err(CallError::Status {
            code: Code::Unavailable,
            text: "broken".into(),
        });
    }
}

fn good(key_id: &str) -> StatusResponse {
    StatusResponse {
        version: "v2".into(),
        healthz: "ok".into(),
        key_id: key_id.into(),
    }
}

fn world() -> (Arc<Plugin>, Arc<V2<Arc<Plugin>>>) {
    let plugin = Arc::new(Plugin {
        status: Mutex::new(Ok(good("a"))),
        encrypt: Mutex::new(("a".into(), "1".into())),
        decrypt: Mutex::default(),
        statuses: AtomicUsize::new(0),
        encrypts: AtomicUsize::new(0),
        decrypts: AtomicUsize::new(0),
    });
    let v2 = V2::new(
        KeyName::new("p"),
        Arc::clone(&plugin),
        Handle::current(),
        Config::default(),
    );
    (plugin, Arc::new(v2))
}

fn key_id(v2: &V2<Arc<Plugin>>) -> Result<String, String> {
    let writer = v2.writer().map_err(|failure| failure.text.to_string())?;
    Ok(writer.wrapped().key_id.to_string())
}

fn foreign(source: u8, key_id: &'static str) -> WrappedDek<'static> {
    WrappedDek {
        kind: DekKind::HkdfSeed,
        source: vec![source; 32].into(),
        key_id: key_id.into(),
        annotations: vec![],
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_seed_writes_for_three_minutes_from_the_last_good_status_and_reads_on_after() {
    let (plugin, v2) = world();
    assert_eq!(
        key_id(&v2),
        Err("there is no key to write with: the plugin has not been asked yet".into())
    );
    v2.check().await.unwrap();
    let wrapped = v2.writer().unwrap().wrapped().clone();
    advance(2 * MINUTE).await;
    v2.check().await.unwrap();
    assert_eq!(plugin.encrypts.load(Ordering::Relaxed), 1, "the seed stays");
    plugin.break_down();
    advance(MINUTE).await;
    assert!(probe(&*v2).await.is_err());
    // The good look took the ten milliseconds of its Decrypt.
    advance(Duration::from_millis(119_990)).await;
    assert_eq!(key_id(&v2), Ok("a".into()));
    advance(Duration::from_millis(1)).await;
    let text = key_id(&v2).unwrap_err();
    let hash = hash_of("a");
    assert!(
        text.starts_with(&format!("encryptedDEKSource with keyID hash \"{hash}\" expired at ")),
        "{text}"
    );
    assert!(
        text.ends_with("error: the plugin answered Unavailable: broken"),
        "{text}"
    );
    assert!(v2.cached(&wrapped).is_some() && v2.opened("a"));
    assert!(v2.writing().is_some());

    // The same key again: the same seed again.
    plugin.set(|_| {});
    v2.check().await.unwrap();
    assert_eq!(key_id(&v2), Ok("a".into()));
    assert_eq!(v2.writer().unwrap().wrapped(), &wrapped);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_adopted_only_when_both_calls_name_it_and_what_was_before_turns_stale() {
    let (plugin, v2) = world();
    assert!(
        v2.opened("anything"),
        "nothing is stale before the plugin has named its key"
    );
    v2.check().await.unwrap();
    assert!(v2.opened("a") && !v2.opened("b"));

    plugin.set(|status| status.key_id = "b".into());
    let error = v2.check().await.unwrap_err();
    assert!(
        error.contains("failed to rotate DEK") && error.contains(&hash_of("b")),
        "{error}"
    );
    assert_eq!(key_id(&v2), Ok("a".into()), "the old one coasts");
    advance(3 * MINUTE + Duration::from_millis(1)).await;
    assert!(v2.check().await.is_err());
    assert!(key_id(&v2).is_err(), "but not for ever");

    let before = v2.current.load_full().unwrap().writer.wrapped().clone();
    plugin.rotate("b");
    v2.check().await.unwrap();
    assert_eq!(key_id(&v2), Ok("b".into()));
    assert!(v2.opened("b") && !v2.opened("a"));
    assert!(v2.cached(&before).is_some(), "seeds made here are kept");

    plugin.rotate("a");
    v2.check().await.unwrap();
    assert_eq!(key_id(&v2), Ok("a".into()), "going back is strange, and allowed");
    assert_ne!(v2.writer().unwrap().wrapped(), &before);
}

#[tokio::test(start_paused = true)]
async fn all_that_is_wrong_with_a_status_is_told_and_nothing_of_it_is_followed() {
    let (plugin, v2) = world();
    v2.check().await.unwrap();
    let mut told = Vec::new();
    let changes: [fn(&mut StatusResponse); 6] = [
        |status| status.healthz = "no\nthing works".into(),
        |status| status.version = "v2beta1".into(),
        |status| status.version = "v3".into(),
        |status| status.key_id = String::new(),
        |status| status.key_id = "x".repeat(1025),
        |status| *status = StatusResponse::default(),
    ];
    for change in changes {
        plugin.set(change);
        advance(MINUTE).await;
        told.push(v2.check().await.unwrap_err().to_string());
    }
    let told: Vec<_> = told
        .iter()
        .map(|text| text.strip_prefix("kmsv2 Provider p is not healthy, error: ").unwrap())
        .collect();
    assert_eq!(
        told,
        [
            "got unexpected healthz status: no\\nthing works",
            "KMSv2 API version changed from v2 to v2beta1",
            "expected KMSv2 API version v2, got v3",
            "got invalid KMSv2 KeyID: it is empty",
            "got invalid KMSv2 KeyID: it is 1025 bytes, at most 1024 are allowed",
            "[got unexpected healthz status: , expected KMSv2 API version v2, got , got invalid KMSv2 KeyID: it is empty]",
        ]
    );
    assert!(key_id(&v2).is_err(), "none of them let the seed write on");
    assert_eq!(plugin.encrypts.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn what_encrypt_answers_is_checked_before_anything_is_written_with_it() {
    let (plugin, v2) = world();
    plugin.rotate("a");
    plugin.encrypt.lock().unwrap().0 = String::new();
    assert!(v2.check().await.unwrap_err().contains("failed to validate key id"));
    plugin.encrypt.lock().unwrap().0 = "a".into();
    plugin.encrypt.lock().unwrap().1 = "x".repeat(40_000);
    assert!(v2.check().await.unwrap_err().contains("failed to validate annotations"));
    assert!(key_id(&v2).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_plugin_is_looked_at_every_minute_and_every_ten_seconds_while_it_is_not_well() {
    let (plugin, v2) = world();
    let statuses = || plugin.statuses.load(Ordering::Relaxed);
    plugin.break_down();
    let watcher = watch(&Handle::current(), &v2);
    sleep(Duration::from_secs(25)).await;
    assert_eq!(statuses(), 3, "at 0, 10 and 20 s");
    plugin.set(|_| {});
    sleep(Duration::from_secs(10)).await;
    assert!(key_id(&v2).is_ok());
    sleep(2 * MINUTE).await;
    assert_eq!(statuses(), 6, "at 30, 90 and 150 s");
    drop(v2);
    sleep(2 * MINUTE).await;
    assert_eq!(statuses(), 6);
    assert!(watcher.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_finding_holds_for_20_seconds_if_it_is_good_and_for_3_if_it_is_not() {
    let (plugin, v2) = world();
    let statuses = || plugin.statuses.load(Ordering::Relaxed);
    let (one, other) = tokio::join!(probe(&*v2), probe(&*v2));
    assert!(one.is_ok() && other.is_ok() && statuses() == 1);
    plugin.break_down();
    advance(Duration::from_secs(19)).await;
    assert!(probe(&*v2).await.is_ok());
    advance(Duration::from_secs(1)).await;
    let error = probe(&*v2).await.unwrap_err();
    plugin.set(|_| {});
    advance(Duration::from_millis(2999)).await;
    assert_eq!(probe(&*v2).await, Err(error));
    advance(Duration::from_millis(1)).await;
    assert_eq!(probe(&*v2).await, Ok(()));
    assert_eq!(statuses(), 3);
}

/// A plugin whose Status is good and that may not decrypt any more: what is written would be readable for no new process.
#[tokio::test(start_paused = true)]
async fn a_plugin_that_refuses_to_unwrap_the_seed_in_use_is_named_with_its_words_and_the_seed_writes_on_for_its_grace_alone()
 {
    let (plugin, v2) = world();
    let decrypt = |outcome| *plugin.decrypt.lock().unwrap() = outcome;
    v2.check().await.unwrap();
    for _ in 0..10 {
        advance(Duration::from_secs(1)).await;
        v2.check().await.unwrap();
    }
    assert_eq!(plugin.decrypts.load(Ordering::Relaxed), 1, "it was asked just now");
    for (code, text) in [(Code::PermissionDenied, "expired"), (Code::NotFound, "no such key")] {
        let (error, text) = (
            Err(CallError::Status {
                code,
                text: text.into(),
            }),
            text,
        );
        decrypt(Some(error));
        advance(MINUTE).await;
        let ailment = v2.check().await.unwrap_err();
        assert!(
            ailment.contains("Decrypt of the seed in use failed") && ailment.contains(text),
            "{ailment}"
        );
    }
    decrypt(Some(Ok(vec![7; 32])));
    let ailment = v2.check().await.unwrap_err();
    assert!(ailment.contains("gives something else"), "{ailment}");
    assert_eq!(key_id(&v2), Ok("a".into()));
    advance(MINUTE + Duration::from_secs(1)).await;
    assert!(
        key_id(&v2).is_err(),
        "nothing is written that may be readable for nobody"
    );
    decrypt(None);
    v2.check().await.unwrap();
    assert_eq!(key_id(&v2), Ok("a".into()));
    assert_eq!(plugin.encrypts.load(Ordering::Relaxed), 1, "the same seed");
    // One that is asked too often is well.
    decrypt(Some(Err(CallError::Status {
        code: Code::ResourceExhausted,
        text: "slow down".into(),
    })));
    advance(MINUTE).await;
    v2.check().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_others_wrapped_is_unwrapped_once_however_many_want_it_and_before_the_first_status_too() {
    let (plugin, v2) = world();
    let wrapped = foreign(1, "z");
    assert!(v2.cached(&wrapped).is_none());
    let fetches: Vec<_> = (0..100).map(|_| Arc::clone(&v2).unwrap(wrapped.clone())).collect();
    for fetch in fetches {
        fetch.await.unwrap();
    }
    assert!(v2.cached(&wrapped).is_some());
    Arc::clone(&v2).unwrap(wrapped).await.unwrap();
    assert_eq!(plugin.decrypts.load(Ordering::Relaxed), 1);

    let mut short = foreign(2, "z");
    short.source = vec![2; 31].into();
    let error = Arc::clone(&v2).unwrap(short.clone()).await.unwrap_err();
    assert!(!error.is_transient && error.text.contains("31 bytes"), "{error}");
    assert!(v2.cached(&short).is_none());
}

#[tokio::test(start_paused = true)]
async fn annotations_that_change_under_one_key_id_are_noticed_by_asking_once_an_hour() {
    let (plugin, v2) = world();
    let encrypts = || plugin.encrypts.load(Ordering::Relaxed);
    let _watcher = watch(&Handle::current(), &v2);
    sleep(MINUTE * 50).await;
    assert_eq!(encrypts(), 1);
    plugin.encrypt.lock().unwrap().1 = "2".into();
    sleep(MINUTE * 15).await;
    assert_eq!(encrypts(), 2);
    let wrapped = v2.writer().unwrap().wrapped().clone();
    assert_eq!(
        wrapped.annotations[0].1,
        b"1".as_slice(),
        "what was made for a look does not write"
    );
    assert_eq!(v2.annotations.variants("a"), 2);
}

#[tokio::test(start_paused = true)]
async fn ever_new_keys_do_not_fill_the_memory() {
    let (plugin, v2) = world();
    for number in 0..2500 {
        plugin.rotate(&number.to_string());
        v2.check().await.unwrap();
        v2.sealed(&number.to_string());
    }
    assert!(v2.own.load().len() <= MAX_OWN);
    assert!(v2.checked.lock().unwrap().key_ids.len() <= MAX_OWN);
}

#[tokio::test(start_paused = true)]
async fn a_seed_that_the_plugin_does_not_give_back_never_writes() {
    let (plugin, v2) = world();
    let denied = CallError::Status {
        code: Code::PermissionDenied,
        text: "encrypt only".into(),
    };
    for (instead, told) in [(Err(denied), "encrypt only"), (Ok(vec![7; 32]), "gives something else")] {
        *plugin.decrypt.lock().unwrap() = Some(instead);
        let Err(ailment) = v2.check().await else {
            panic!("it is unwell")
        };
        assert!(ailment.to_string().contains(told), "{ailment}");
        assert!(key_id(&v2).unwrap_err().contains("there is no key to write with"));
    }
    *plugin.decrypt.lock().unwrap() = None;
    v2.check().await.unwrap();
    assert_eq!(key_id(&v2), Ok("a".into()));

    // The one in use writes on.
    *plugin.decrypt.lock().unwrap() = Some(Ok(vec![7; 32]));
    plugin.rotate("b");
    assert!(v2.check().await.is_err());
    assert_eq!(key_id(&v2), Ok("a".into()));
}
