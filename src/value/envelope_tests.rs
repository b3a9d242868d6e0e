//! The KMS providers and the keys they wait for, over a plugin that keeps no secrets.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::encrypted_object::EncryptedObject;
use super::paper_plugin::PaperPlugin;
use super::{Chain, DekKind, DekV1, Deks, ObjectError, OpenError, Opened, Provider, SealError, WrappedDek};
use crate::types::{KeyName, SecretBytes, StorageKey};

const KEY: StorageKey<'_> = StorageKey(b"/registry/secrets/default/a");

fn v1(plugin: &Arc<PaperPlugin>) -> Chain {
    let plugin = Arc::clone(plugin);
    Chain::new(vec![Provider::kms_v1(KeyName::new("paper"), plugin)]).unwrap()
}

fn v2(plugin: &Arc<PaperPlugin>) -> Chain {
    let plugin = Arc::clone(plugin);
    Chain::new(vec![Provider::kms_v2(KeyName::new("paper"), plugin)]).unwrap()
}

/// Seals as the data path does: as often as keys are missing. Gives how often they were.
fn seal(chain: &Chain, plaintext: &[u8]) -> (Result<Vec<u8>, SealError>, usize) {
    let (mut deks, mut fetches) = (Deks::default(), 0);
    loop {
        let mut out = Vec::new();
        match chain.to_storage(KEY, plaintext, &deks, &mut out) {
            Err(SealError::Pending) => {
                assert_eq!(out, b"", "nothing is left behind");
                fetches += 1;
                deks.fetch().now_or_never().expect("paper never waits");
            }
            done => return (done.map(|()| out), fetches),
        }
        assert!(fetches < 10, "it must come to an end");
    }
}

fn open(chain: &Chain, key: StorageKey<'_>, stored: &[u8]) -> (Result<(Vec<u8>, Opened), OpenError>, usize) {
    let (mut deks, mut fetches) = (Deks::default(), 0);
    loop {
        let mut out = Vec::new();
        let was_pending = chain.is_pending(stored, &Deks::default());
        match chain.from_storage(key, stored, &deks, &mut out) {
            Err(OpenError::Pending) => {
                assert!(was_pending, "a survey finds what opening lacks");
                assert_eq!(out, b"", "nothing is left behind");
                fetches += 1;
                deks.fetch().now_or_never().expect("paper never waits");
            }
            done => return (done.map(|opened| (out, opened)), fetches),
        }
        assert!(fetches < 10, "it must come to an end");
    }
}

#[test]
fn each_v1_write_has_a_key_of_its_own_and_is_read_through_the_plugin_once() {
    let plugin = PaperPlugin::new();
    let chain = v1(&plugin);
    let (first, fetches) = seal(&chain, b"value");
    let first = first.unwrap();
    assert_eq!(fetches, 1);
    let (second, _) = seal(&chain, b"value");
    assert_eq!(plugin.generated.load(Relaxed), 2);
    assert!(first.starts_with(b"k8s:enc:kms:v1:paper:\x00\x20"));
    assert_ne!(first[23..55], second.unwrap()[23..55], "another key");
    for expected in [1, 0] {
        let (opened, fetches) = open(&chain, KEY, &first);
        let (plaintext, Opened { stale, .. }) = opened.unwrap();
        assert_eq!(
            (plaintext.as_slice(), stale, fetches),
            (b"value".as_slice(), false, expected)
        );
    }
    assert_eq!(plugin.unwrapped.load(Relaxed), 1);
}

/// What Kubernetes up to 1.24 wrote.
#[test]
fn a_v1_value_in_cbc_is_read_and_is_stale() {
    let name = KeyName::new("k");
    let secret = SecretBytes::new(vec![9; 32]);
    let aescbc = Chain::new(vec![Provider::aescbc([(&name, &secret)]).unwrap()]).unwrap();
    let mut by_aescbc = Vec::new();
    aescbc
        .to_storage(KEY, b"value", &Deks::default(), &mut by_aescbc)
        .unwrap();
    let body = by_aescbc.strip_prefix(b"k8s:enc:aescbc:v1:k:").unwrap();
    let stored = [b"k8s:enc:kms:v1:paper:\x00\x20".as_slice(), &[9; 32], body].concat();
    let (opened, _) = open(&v1(&PaperPlugin::new()), KEY, &stored);
    let (plaintext, Opened { stale, .. }) = opened.unwrap();
    assert_eq!((plaintext.as_slice(), stale), (b"value".as_slice(), true));
}

#[test]
fn v2_writes_without_asking_and_what_it_wrote_is_stale_once_the_key_id_changes() {
    let plugin = PaperPlugin::new();
    let chain = v2(&plugin);
    let (stored, fetches) = seal(&chain, b"value");
    let stored = stored.unwrap();
    assert_eq!(fetches, 0);
    let stale = || {
        let (opened, _) = open(&chain, KEY, &stored);
        let (plaintext, opened) = opened.unwrap();
        assert_eq!(plaintext, b"value");
        opened.stale
    };
    assert!(!stale());
    plugin.rotate("kek-2");
    assert!(stale());
    assert_eq!(plugin.unwrapped.load(Relaxed), 1, "the key is at hand from then on");
    let (stored, _) = seal(&chain, b"value");
    assert!(!open(&chain, KEY, &stored.unwrap()).0.unwrap().1.stale);
}

#[test]
fn a_value_of_either_version_opens_under_its_own_key_alone() {
    let plugin = PaperPlugin::new();
    for chain in [v1(&plugin), v2(&plugin)] {
        let stored = seal(&chain, b"value").0.unwrap();
        let (elsewhere, _) = open(&chain, StorageKey(b"/registry/secrets/default/b"), &stored);
        assert_eq!(elsewhere.unwrap_err(), OpenError::Undecryptable);
    }
}

#[test]
fn a_plugin_that_is_down_writes_nothing_and_its_outage_is_no_corruption() {
    let plugin = PaperPlugin::new();
    plugin.forgets.store(true, Relaxed);
    for chain in [v1(&plugin), v2(&plugin)] {
        let stored = seal(&chain, b"value").0.unwrap();
        plugin.is_down.store(true, Relaxed);
        let (sealed, _) = seal(&chain, b"value");
        assert_eq!(sealed.unwrap_err().to_string(), "kms provider \"paper\": out of paper");
        let (opened, fetches) = open(&chain, KEY, &stored);
        let error = opened.unwrap_err();
        assert_eq!(fetches, 1, "it is asked once, not again and again");
        assert!(error.is_transient());
        assert_eq!(
            error.to_string(),
            "failed to decrypt DEK, error: kms provider \"paper\": out of paper"
        );
        plugin.is_final.store(true, Relaxed);
        assert!(!open(&chain, KEY, &stored).0.unwrap_err().is_transient());
        plugin.is_final.store(false, Relaxed);
        plugin.is_down.store(false, Relaxed);
    }
}

/// The name of a v1 provider may hold a colon, so that one's values begin as another's do.
#[test]
fn providers_that_share_a_beginning_ask_together_and_come_to_an_end() {
    let (first, second) = (PaperPlugin::new(), PaperPlugin::new());
    for plugin in [&first, &second] {
        plugin.forgets.store(true, Relaxed);
    }
    let provider = |name: &str, plugin: &Arc<PaperPlugin>| {
        let plugin = Arc::clone(plugin);
        Provider::kms_v1(KeyName::new(name), plugin)
    };
    // What follows "a:" is read as a length by the first provider: 0x0001, and a key of one byte that it refuses.
    first.is_down.store(true, Relaxed);
    let stored = {
        let alone = Chain::new(vec![provider("a:\0\u{1}xyz", &second)]).unwrap();
        seal(&alone, b"value").0.unwrap()
    };
    let both = Chain::new(vec![provider("a", &first), provider("a:\0\u{1}xyz", &second)]).unwrap();
    let (opened, fetches) = open(&both, KEY, &stored);
    assert_eq!(opened.unwrap().0, b"value");
    assert_eq!(fetches, 1);
    assert_eq!((first.unwrapped.load(Relaxed), second.unwrapped.load(Relaxed)), (1, 1));
}

#[test]
fn two_writes_of_one_message_never_share_a_key() {
    let plugin = PaperPlugin::new();
    let chain = v1(&plugin);
    let mut deks = Deks::default();
    let written = loop {
        let mut out = [Vec::new(), Vec::new(), Vec::new()];
        let mut pass = out.iter_mut().map(|out| chain.to_storage(KEY, b"value", &deks, out));
        match pass.try_for_each(|sealed| sealed) {
            Ok(()) => break out,
            Err(SealError::Pending) => deks.fetch().now_or_never().unwrap(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(plugin.generated.load(Relaxed), 3);
    let key = |stored: &Vec<u8>| stored[23..55].to_vec();
    assert_ne!(key(&written[0]), key(&written[1]));
    assert_ne!(key(&written[1]), key(&written[2]));
}

#[test]
fn keys_that_are_missing_are_fetched_once_however_many_values_need_them() {
    let plugin = PaperPlugin::new();
    plugin.forgets.store(true, Relaxed);
    let chain = v2(&plugin);
    let stored: Vec<_> = (0..5).map(|_| seal(&chain, b"value").0.unwrap()).collect();
    let mut deks = Deks::default();
    assert!(stored.iter().all(|stored| chain.is_pending(stored, &deks)));
    deks.fetch().now_or_never().unwrap();
    for stored in &stored {
        chain.from_storage(KEY, stored, &deks, &mut Vec::new()).unwrap();
    }
    assert_eq!(plugin.unwrapped.load(Relaxed), 1);
}

#[test]
fn a_dek_has_the_length_of_an_aes_key() {
    for length in 0..70 {
        let key = SecretBytes::new(vec![1; length]);
        assert_eq!(DekV1::new(&key).is_some(), [16, 24, 32].contains(&length));
        let of_kind = |kind| super::DekV2::new(kind, &key).is_some();
        assert_eq!(of_kind(DekKind::AesGcmKey), [16, 24, 32].contains(&length));
        assert_eq!(of_kind(DekKind::HkdfSeed), length >= 32);
    }
}

fn wrapped() -> WrappedDek<'static> {
    WrappedDek {
        kind: DekKind::HkdfSeed,
        source: vec![1; 40].into(),
        key_id: "kek".into(),
        annotations: vec![],
    }
}

#[test]
fn what_may_be_stored_is_what_kube_apiserver_takes() {
    let with = |change: fn(&mut WrappedDek<'static>)| {
        let mut dek = wrapped();
        change(&mut dek);
        dek.validate().map_err(|error| error.to_string())
    };
    let annotated = |key: &'static str, size: usize| {
        let mut dek = wrapped();
        dek.annotations.push((key.into(), vec![0; size].into()));
        dek.validate()
    };
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|dek| dek.key_id = "x".repeat(1024).into()), Ok(()));
    assert_eq!(with(|dek| dek.source = vec![0; 1024].into()), Ok(()));
    let long = "failed to validate key id: it is 1025 bytes, at most 1024 are allowed";
    assert_eq!(with(|dek| dek.key_id = "x".repeat(1025).into()), Err(long.to_owned()));
    let empty = "failed to validate encrypted DEK source: it is empty";
    assert_eq!(with(|dek| dek.source = vec![].into()), Err(empty.to_owned()));
    for good in ["a.b", "10.0.0.1", "a-b.c-d.e.", "9.a"] {
        assert_eq!(annotated(good, 0), Ok(()), "{good}");
    }
    for bad in [
        "", "com", "a..b", "A.b", "-a.b", "a-.b", "a_b.c", ".a.b", "a.b..", "ä.b",
    ] {
        assert!(annotated(bad, 0).is_err(), "{bad}");
    }
    assert_eq!(annotated("a.b", 32 * 1024 - 3), Ok(()));
    assert!(annotated("a.b", 32 * 1024 - 2).is_err());
}

#[test]
fn an_object_is_read_in_any_order_with_unknown_fields_and_without_its_type() {
    let mut tail = Vec::new();
    wrapped().encode(&mut tail);
    let read = |bytes: &[u8]| {
        EncryptedObject::parse(bytes).map(|object| (object.data.bytes.to_vec(), object.dek.into_owned()))
    };
    let data = b"\x0a\x03abc";
    let expected = Ok((b"abc".to_vec(), wrapped()));
    assert_eq!(read(&[data.as_slice(), &tail].concat()), expected);
    assert_eq!(read(&[tail.as_slice(), data, b"\x32\x01x\x38\x07"].concat()), expected);
    let untyped = read(&[data.as_slice(), tail.strip_suffix(b"\x28\x01").unwrap()].concat());
    assert_eq!(untyped.unwrap().1.kind, DekKind::AesGcmKey);
    assert_eq!(read(&tail), Err(ObjectError::NoData));
    assert_eq!(
        read(&[data.as_slice(), &tail, b"\x28\x02"].concat()),
        Err(ObjectError::SourceType(2))
    );
    assert_eq!(
        read(&[data.as_slice(), &tail, b"\x12\x01\xff"].concat()),
        Err(ObjectError::FieldType(2))
    );
}

proptest! {
    #[test]
    fn any_bytes_behind_the_prefix_are_an_error_or_wait_for_a_key(body: Vec<u8>) {
        let plugin = PaperPlugin::new();
        plugin.is_down.store(true, Relaxed);
        for (chain, prefix) in [(v1(&plugin), "k8s:enc:kms:v1:paper:"), (v2(&plugin), "k8s:enc:kms:v2:paper:")] {
            let stored = [prefix.as_bytes(), &body].concat();
            prop_assert!(open(&chain, KEY, &stored).0.is_err());
        }
    }

    #[test]
    fn what_is_written_is_read(plaintext: Vec<u8>) {
        let plugin = PaperPlugin::new();
        for chain in [v1(&plugin), v2(&plugin)] {
            let stored = seal(&chain, &plaintext).0.unwrap();
            let (opened, _) = open(&chain, KEY, &stored);
            prop_assert_eq!(opened.map(|(opened, _)| opened), Ok(plaintext.clone()));
        }
    }

    #[test]
    fn a_wrapped_dek_is_read_as_it_was_written(
        source in proptest::collection::vec(any::<u8>(), 1..100),
        key_id in "[a-z:]{1,20}",
        annotations in proptest::collection::btree_map("[a-z]{1,5}\\.[a-z]{1,5}", any::<Vec<u8>>(), 0..4),
    ) {
        let annotations = annotations.into_iter().map(|(key, value)| (key.into(), value.into()));
        let dek = WrappedDek {
            kind: DekKind::AesGcmKey,
            source: source.into(),
            key_id: key_id.into(),
            annotations: annotations.collect(),
        };
        let mut object = b"\x0a\x01x".to_vec();
        dek.encode(&mut object);
        prop_assert_eq!(EncryptedObject::parse(&object).unwrap().dek, dek);
    }
}
