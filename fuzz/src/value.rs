//! Target: a stored value, of each provider, sound or not.

use std::sync::LazyLock;

use etcd_encryption_proxy::{
    types::{KeyName, SecretBytes, StorageKey},
    value::{Chain, Deks, OpenError, Provider, ProviderKind, SealError, is_sealed},
};

use super::kms;
use super::source::{Source, input};

/// What a stored value may begin with.
const PREFIXES: [&str; 9] = [
    "",
    "k8s:enc:",
    "k8s:enc:aescbc:v1:key1:",
    "k8s:enc:aesgcm:v1:key1:",
    "k8s:enc:secretbox:v1:key1:",
    "k8s:enc:aescbc:v1:key1:x:",
    "k8s:enc:kms:v2:plugin:",
    "k8s:enc:aesgcm:v1:",
    "k8s:enc:kms:v1:plugin:",
];

/// One of each provider with keys of each size, and several together.
static CHAINS: LazyLock<Vec<Chain>> = LazyLock::new(|| {
    type Make = fn(&[(KeyName, SecretBytes)]) -> Provider;
    let cbc: Make = |keys| Provider::aescbc(pairs(keys)).expect("the key has a size that there is");
    let gcm: Make = |keys| Provider::aesgcm(pairs(keys)).expect("the key has a size that there is");
    let secretbox: Make = |keys| Provider::secretbox(pairs(keys)).expect("the key has a size that there is");
    let key = |name: &str, size: u8| (KeyName::new(name), SecretBytes::new((0..size).collect()));
    let two = |size| [key("key1", size), key("key1:x", size)];
    let providers = [
        vec![Provider::identity()],
        vec![cbc(&two(16))],
        vec![cbc(&[key("key1", 24)])],
        vec![cbc(&two(32)), Provider::identity()],
        vec![gcm(&two(16))],
        vec![gcm(&[key("key1", 24)]), cbc(&two(16))],
        vec![gcm(&two(32))],
        vec![secretbox(&two(32))],
        vec![Provider::identity(), secretbox(&two(32)), gcm(&two(16)), cbc(&two(32))],
        vec![kms::v1()],
        vec![kms::v2()],
        vec![kms::v2(), kms::v1(), gcm(&two(32)), kms::v2(), Provider::identity()],
    ];
    providers
        .into_iter()
        .map(|providers| Chain::new(providers).expect("there is a provider"))
        .collect()
});

fn pairs(keys: &[(KeyName, SecretBytes)]) -> impl Iterator<Item = (&KeyName, &SecretBytes)> {
    keys.iter().map(|(name, secret)| (name, secret))
}

/// A stored value is opened; a plaintext is sealed, opened, and damaged.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let chain = source.pick(&CHAINS);
    let prefix = source.pick(&PREFIXES).as_bytes();
    let damage = (usize::from(source.byte()), source.byte());
    let key = source.block();
    let content = source.rest();
    open(chain, key, &[prefix, content].concat());
    seal(chain, key, content, damage);
}

/// Either fails and leaves no byte, or appends.
fn open(chain: &Chain, key: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    const BEFORE: &[u8] = b"what was there";
    let mut out = BEFORE.to_vec();
    let mut deks = Deks::default();
    let open = |deks: &Deks, out: &mut Vec<u8>| chain.from_storage(StorageKey(key), stored, deks, out);
    let mut opened = open(&deks, &mut out);
    let mut rounds = 0;
    while opened == Err(OpenError::Pending) {
        assert_eq!(out, BEFORE);
        rounds += 1;
        assert!(rounds < 3, "each of the chain's plugins is asked at once");
        kms::fetch(&mut deks);
        opened = open(&deks, &mut out);
    }
    assert!(out.starts_with(BEFORE));
    match opened {
        Ok(_) => Some(out[BEFORE.len()..].to_vec()),
        Err(error) => {
            assert_eq!(out, BEFORE, "bytes of a value that did not open were left behind");
            let shown = format!("{error} {error:?}");
            assert!(shown.is_ascii() && shown.len() < 1000);
            None
        }
    }
}

fn seal(chain: &Chain, key: &[u8], plaintext: &[u8], (place, change): (usize, u8)) {
    let mut stored = Vec::new();
    let mut deks = Deks::default();
    let mut sealed = chain.to_storage(StorageKey(key), plaintext, &deks, &mut stored);
    if sealed == Err(SealError::Pending) {
        kms::fetch(&mut deks);
        sealed = chain.to_storage(StorageKey(key), plaintext, &deks, &mut stored);
    }
    sealed.expect("short values are sealed");
    let writer = chain.writer().provider;
    if writer == ProviderKind::Identity {
        assert_eq!(stored, plaintext);
        if !is_sealed(plaintext) {
            assert_eq!(open(chain, key, &stored).as_deref(), Some(plaintext));
        }
        return;
    }
    assert!(is_sealed(&stored));
    assert_eq!(open(chain, key, &stored).as_deref(), Some(plaintext));
    let is_bound = matches!(writer, ProviderKind::AesGcm | ProviderKind::KmsV2);
    let elsewhere = open(chain, &[key, b"x"].concat(), &stored);
    // What KMS v1 writes is bound as well, but its readers try AES-CBC then, which now and then comes to something.
    if writer != ProviderKind::KmsV1 {
        assert_eq!(elsewhere.is_none(), is_bound, "bound to its key, or not");
    }
    // Whatever is changed or cut off, AEAD must notice.
    let is_authenticated = matches!(writer, ProviderKind::AesGcm | ProviderKind::Secretbox);
    let place = place % stored.len();
    let cut = open(chain, key, &stored[..place]);
    stored[place] ^= change;
    let changed = open(chain, key, &stored);
    // A change within the prefix can make it another provider's, or nobody's, which identity returns as it is.
    let has_identity = chain.readers().any(|reader| reader.kind() == ProviderKind::Identity);
    if is_authenticated && !has_identity {
        assert_eq!(cut, None);
        assert!(change == 0 || changed.is_none());
    }
}

/// For each chain a plaintext and what begins like a stored value; one that kube-apiserver wrote.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for chain in 0..12u8 {
        for prefix in 0..9u8 {
            let mut seed = input(&[chain, prefix, 30, 1], &[b"/registry/secrets/default/my-secret"]);
            seed.extend((0..chain * 8).map(|byte| byte ^ prefix));
            seeds.push(seed);
        }
    }
    let written = b"\x20\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f\
        \x03\xf2\xc3\xbd\xca\x82\x6b\xf0\x82\xd7\xcf\xb0\x35\xcd\xb8\xc1";
    let mut seed = input(&[1, 2, 0, 0], &[b"/registry/secrets/default/my-secret"]);
    seed.extend_from_slice(written);
    seeds.push(seed);
    // An object of KMS v2 and a value of KMS v1, whose keys the plugin would hand out.
    let data = b"\x0a\x02xy\x12\x03now\x1a\x20";
    let tail = b"\x22\x08\x0a\x03a.b\x12\x01c\x28\x01";
    for (chain, prefix) in [(10, 6), (11, 6), (11, 8)] {
        let mut seed = input(&[chain, prefix, 0, 0], &[b"/registry/secrets/default/my-secret"]);
        let body = [data.as_slice(), &[5; 32], tail].concat();
        let v1 = [b"\0\x20".as_slice(), &[5; 32], &[9; 64]].concat();
        seed.extend_from_slice(if prefix == 6 { &body } else { &v1 });
        seeds.push(seed);
    }
    seeds
}
