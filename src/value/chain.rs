//! The chain of one rule: its providers in order. The first one writes, any of them reads. Does not know which resource
//! it is for, and never falls back to writing with another provider than the first.

use std::fmt;
use std::ops::Range;

use rand::CryptoRng;

use super::deks::Need;
use super::prefix_chain::{Opened, PrefixChain, Transformer};
use super::{BuildError, Candidate, Deks, OpenError, Provider, ProviderKind, SealError};
use crate::types::{KeyName, StorageKey};

/// Seals and opens the values of one rule.
pub struct Chain {
    links: PrefixChain<Provider>,
    /// How many of the providers are the rule's; those behind them are retired.
    own: usize,
}

impl Chain {
    /// A chain of at least one provider.
    pub fn new(providers: Vec<Provider>) -> Result<Self, BuildError> {
        Self::with_retired(providers, Vec::new())
    }

    /// The same, with providers behind them that are no part of the rule: they open what nothing before them does, and never
    /// write.
    pub fn with_retired(providers: Vec<Provider>, retired: Vec<Provider>) -> Result<Self, BuildError> {
        let own = providers.len();
        if own == 0 {
            return Err(BuildError::NoProviders);
        }
        let links = providers.into_iter().chain(retired).map(Provider::into_link);
        let links = PrefixChain::new(links, OpenError::NoMatchingPrefix).ok_or(BuildError::NoProviders)?;
        Ok(Self { links, own })
    }

    /// Appends to `out` what etcd is to hold under `key` for `plaintext`: sealed by the first provider, with its first
    /// key and a fresh random nonce. An empty plaintext is sealed like any other.
    ///
    /// Leaves `out` as it was on error. [`SealError::Pending`] is none: fetch what `deks` lack, and try again.
    pub fn to_storage(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        self.to_storage_with(key, plaintext, &mut rand::rng(), deks, out)
    }

    /// [`Chain::to_storage`] with the source of nonces given: safe only with one that never repeats itself.
    pub(super) fn to_storage_with<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let start = out.len();
        out.reserve(self.links.sealed_len(plaintext.len()));
        self.links
            .to_storage(key, plaintext, nonces, deks, out)
            .inspect_err(|_| out.truncate(start))
    }

    /// Seals several values, as [`Chain::to_storage`] would one after the other, but side by side where the cipher gains by
    /// it: an AES-CBC chain is serial, and one alone leaves the processor's AES units idle for most of the time.
    ///
    /// Gives what etcd is to hold for each. On error none is sealed.
    pub fn to_storage_batch(&self, values: &[(StorageKey<'_>, &[u8])], deks: &Deks) -> Result<Vec<Vec<u8>>, SealError> {
        self.to_storage_batch_with(values, &mut rand::rng(), deks)
    }

    /// [`Chain::to_storage_batch`] with the source of nonces given: safe only with one that never repeats itself.
    pub(super) fn to_storage_batch_with<R: CryptoRng>(
        &self,
        values: &[(StorageKey<'_>, &[u8])],
        nonces: &mut R,
        deks: &Deks,
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let lay_out = |(key, plaintext): &(StorageKey<'_>, &[u8])| {
            let mut out = Vec::with_capacity(self.links.sealed_len(plaintext.len()));
            let left = self.links.lay_out(*key, plaintext, nonces, deks, &mut out)?;
            Ok((out, left))
        };
        let mut laid_out = values.iter().map(lay_out).collect::<Result<Vec<_>, SealError>>()?;
        let left = laid_out.iter_mut().filter_map(|(out, left)| out.get_mut(left.clone()));
        self.links.finish(left.collect());
        Ok(laid_out.into_iter().map(|(out, _)| out).collect())
    }

    /// Appends to `out` the plaintext of what etcd holds under `key`, and says whether it should be written again.
    ///
    /// Leaves `out` as it was on error. [`OpenError::Pending`] is none: fetch what `deks` lack, and try again.
    pub fn from_storage(
        &self,
        key: StorageKey<'_>,
        stored: &[u8],
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<Opened, OpenError> {
        let start = out.len();
        out.extend_from_slice(stored);
        let (_, place) = out.split_at_mut(start);
        let (opened, at) = self
            .from_storage_in_place(key, place, deks, &mut Vec::new())
            .inspect_err(|_| out.truncate(start))?;
        out.truncate(start + at.end);
        out.drain(start..start + at.start);
        Ok(opened)
    }

    /// [`Chain::from_storage`] where the stored bytes lie: says where in them the plaintext is then. What else is in `stored`
    /// is rubbish, but on error it is all as it was.
    ///
    /// `spare` is room that some ciphers need. It holds no plaintext, and is best used again for the next value.
    pub fn from_storage_in_place(
        &self,
        key: StorageKey<'_>,
        stored: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<(Opened, Range<usize>), OpenError> {
        self.links.from_storage(key, stored, deks, spare)
    }

    /// Whether opening or sealing could ever have to wait for DEKs: a provider is a KMS.
    pub fn may_wait(&self) -> bool {
        self.readers()
            .any(|provider| matches!(provider.kind(), ProviderKind::KmsV1 | ProviderKind::KmsV2))
    }

    /// Whether opening `stored` has to wait for DEKs, which are then noted in `deks`. Opens nothing.
    pub fn is_pending(&self, stored: &[u8], deks: &Deks) -> bool {
        self.links.survey(stored, deks) == Need::Pending
    }

    /// The providers that `stored` could be of, by its first bytes, in the order in which [`Chain::from_storage`] tries
    /// them. Opens nothing. Identity is always among them, as there.
    pub fn candidates<'a>(&'a self, stored: &'a [u8]) -> impl Iterator<Item = Candidate<'a>> {
        let candidate = |(index, provider)| Candidate::of(index, provider, stored);
        self.readers().enumerate().filter_map(candidate)
    }

    /// What [`Chain::to_storage`] writes with.
    pub fn writer(&self) -> Writer<'_> {
        let provider = self.links.writer();
        Writer {
            provider: provider.kind(),
            key: provider.key_names().first(),
        }
    }

    /// What [`Chain::from_storage`] reads with, in order, the writer's provider first; the retired ones last.
    pub fn readers(&self) -> impl Iterator<Item = &Provider> {
        self.links.readers()
    }

    /// The rule's own among the readers.
    pub fn own_readers(&self) -> impl Iterator<Item = &Provider> {
        self.readers().take(self.own)
    }

    /// Whether the reader of this index is retired.
    pub fn is_retired(&self, provider: usize) -> bool {
        provider >= self.own
    }
}

/// Names only, never a key: `writes aescbc key "key1"; reads aescbc "key1","key0", identity`.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writes {}; reads ", self.writer())?;
        for (index, provider) in self.own_readers().enumerate() {
            write!(f, "{}{provider}", if index == 0 { "" } else { ", " })?;
        }
        for (index, provider) in self.readers().skip(self.own).enumerate() {
            write!(f, "{}{provider}", if index == 0 { "; retired " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The provider and key that a chain writes with, by name: `aescbc key "key1"`, `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer<'a> {
    /// Which kind of provider.
    pub provider: ProviderKind,
    /// Which of its keys; `None` for identity.
    pub key: Option<&'a KeyName>,
}

impl fmt::Display for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.provider)?;
        match self.key {
            Some(name) => write!(f, " key {:?}", name.as_str()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::*;
    use crate::types::SecretBytes;

    const KEY: StorageKey<'_> = StorageKey(b"/registry/secrets/default/a");

    /// A provider whose keys are called `1`, `2` and so on, and are what the number says in every provider.
    fn provider(kind: ProviderKind, numbers: &[u8]) -> Provider {
        let named = |number: &u8| (KeyName::new(number.to_string()), SecretBytes::new(vec![*number; 32]));
        let keys: Vec<_> = numbers.iter().map(named).collect();
        let keys = keys.iter().map(|(name, secret)| (name, secret));
        match kind {
            ProviderKind::Identity => Ok(Provider::identity()),
            ProviderKind::AesCbc => Provider::aescbc(keys),
            ProviderKind::AesGcm => Provider::aesgcm(keys),
            ProviderKind::Secretbox => Provider::secretbox(keys),
            ProviderKind::KmsV1 | ProviderKind::KmsV2 => unreachable!("they have no keys of their own"),
        }
        .unwrap()
    }

    fn identity() -> Provider {
        Provider::identity()
    }

    fn aescbc(numbers: &[u8]) -> Provider {
        provider(ProviderKind::AesCbc, numbers)
    }

    fn chain<const N: usize>(providers: [Provider; N]) -> Chain {
        Chain::new(providers.into()).unwrap()
    }

    fn sealed(by: Provider, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        chain([by])
            .to_storage(KEY, plaintext, &Deks::default(), &mut out)
            .unwrap();
        out
    }

    #[derive(Debug, PartialEq)]
    enum Outcome {
        Fresh(Vec<u8>),
        Stale(Vec<u8>),
        Fails(String),
    }

    fn read<const N: usize>(providers: [Provider; N], stored: &[u8]) -> Outcome {
        let mut out = b"kept".to_vec();
        let opened = chain(providers).from_storage(KEY, stored, &Deks::default(), &mut out);
        let rest = out
            .strip_prefix(b"kept")
            .expect("what was in the buffer stays")
            .to_vec();
        match opened {
            Ok(Opened { stale: false, .. }) => Outcome::Fresh(rest),
            Ok(Opened { stale: true, .. }) => Outcome::Stale(rest),
            Err(error) => {
                assert_eq!(rest, b"", "nothing is left behind by a failure");
                Outcome::Fails(error.to_string())
            }
        }
    }

    fn fresh(plaintext: &[u8]) -> Outcome {
        Outcome::Fresh(plaintext.to_vec())
    }

    fn stale(plaintext: &[u8]) -> Outcome {
        Outcome::Stale(plaintext.to_vec())
    }

    fn fails(text: &str) -> Outcome {
        Outcome::Fails(text.to_owned())
    }

    #[test]
    fn plaintext_is_read_only_through_identity_and_fresh_only_if_identity_writes() {
        assert_eq!(read([aescbc(&[1])], b"k8s\0plain"), fails("no matching prefix found"));
        assert_eq!(read([aescbc(&[1]), identity()], b"k8s\0plain"), stale(b"k8s\0plain"));
        assert_eq!(read([identity(), aescbc(&[1])], b"k8s\0plain"), fresh(b"k8s\0plain"));
    }

    #[test]
    fn sealed_values_are_read_past_an_identity_that_declines_in_silence() {
        let stored = sealed(aescbc(&[1]), b"value");
        assert_eq!(read([identity(), aescbc(&[1])], &stored), stale(b"value"));
        assert_eq!(read([identity()], &stored), fails("no matching prefix found"));
        let lone_failure = "no matching key was found for the provided AES transformer";
        assert_eq!(read([identity(), aescbc(&[2])], &stored), fails(lone_failure));
    }

    #[test]
    fn any_key_reads_and_all_but_the_first_are_stale() {
        let stored = sealed(aescbc(&[1]), b"value");
        assert_eq!(read([aescbc(&[1, 2])], &stored), fresh(b"value"));
        assert_eq!(read([aescbc(&[2, 1])], &stored), stale(b"value"));
        assert_eq!(read([aescbc(&[2]), aescbc(&[1])], &stored), stale(b"value"));
        assert_eq!(
            read([provider(ProviderKind::AesGcm, &[1]), aescbc(&[1])], &stored),
            stale(b"value")
        );
    }

    #[test]
    fn it_is_told_which_provider_and_which_key_opened_a_value() {
        let stored = sealed(aescbc(&[1]), b"value");
        let opener = |chain: Chain, stored: &[u8]| {
            let opened = chain
                .from_storage(KEY, stored, &Deks::default(), &mut Vec::new())
                .unwrap();
            (opened.provider, opened.key)
        };
        assert_eq!(opener(chain([aescbc(&[1])]), &stored), (0, 0));
        assert_eq!(opener(chain([aescbc(&[3, 2, 1])]), &stored), (0, 2));
        assert_eq!(opener(chain([identity(), aescbc(&[2, 1])]), &stored), (1, 1));
        assert_eq!(opener(chain([aescbc(&[2]), aescbc(&[3, 1])]), &stored), (1, 1));
        assert_eq!(opener(chain([aescbc(&[1]), identity()]), b"plain"), (1, 0));
    }

    #[test]
    fn a_stored_value_names_its_candidates_by_its_first_bytes() {
        let chain = chain([
            identity(),
            aescbc(&[2, 1, 1]),
            provider(ProviderKind::AesGcm, &[1]),
            aescbc(&[3]),
        ]);
        let named = |stored: &[u8]| {
            let candidates = chain.candidates(stored);
            candidates
                .map(|found| (found.provider, found.keys().collect()))
                .collect::<Vec<(_, Vec<_>)>>()
        };
        assert_eq!(
            named(&sealed(aescbc(&[1]), b"value")),
            [(0, vec![]), (1, vec![1, 2]), (3, vec![])]
        );
        assert_eq!(named(b"plain"), [(0, vec![])]);
    }

    #[test]
    fn an_empty_value_is_sealed_like_any_other_but_none_at_all_has_no_prefix() {
        assert_eq!(read([aescbc(&[1])], &sealed(aescbc(&[1]), b"")), fresh(b""));
        assert_eq!(read([aescbc(&[1])], b""), fails("no matching prefix found"));
        assert_eq!(read([aescbc(&[1]), identity()], b""), stale(b""));
    }

    #[test]
    fn what_looks_sealed_already_is_sealed_again_and_comes_back_as_it_was() {
        let once = sealed(aescbc(&[1]), b"value");
        assert_eq!(read([aescbc(&[2])], &sealed(aescbc(&[2]), &once)), fresh(&once));
        assert_eq!(sealed(identity(), &once), once);
    }

    #[test]
    fn failures_are_told_together_once_each() {
        let stored = sealed(aescbc(&[1]), b"value");
        let missing = "no matching key was found for the provided AES transformer";
        assert_eq!(read([aescbc(&[2]), aescbc(&[3])], &stored), fails(missing));
        let cut = &stored[..stored.len() - 1];
        let both = format!("[{missing}, the stored data could not be decrypted]");
        assert_eq!(read([aescbc(&[2]), aescbc(&[1])], cut), fails(&both));
        let foreign = b"k8s:enc:kms:v2:other:";
        assert_eq!(
            read([aescbc(&[1]), identity()], foreign),
            fails("no matching prefix found")
        );
    }

    /// `a:` begins the values of both; with the key `a`, what follows is no value, and the search must go on.
    #[test]
    fn a_key_whose_name_begins_anothers_does_not_hide_it() {
        let [short, long] = ["a", "a:b"].map(|name| {
            (
                KeyName::new(name),
                SecretBytes::new(name.bytes().cycle().take(32).collect()),
            )
        });
        let with = |keys: [&(KeyName, SecretBytes); 2]| {
            let keys = keys.map(|(name, secret)| (name, secret));
            Provider::secretbox(keys).unwrap()
        };
        let stored = sealed(with([&long, &short]), b"value");
        assert_eq!(read([with([&short, &long])], &stored), stale(b"value"));
    }

    #[test]
    fn a_chain_is_shown_by_names_alone() {
        let chain = chain([aescbc(&[2, 1]), provider(ProviderKind::Secretbox, &[7]), identity()]);
        let shown = r#"writes aescbc key "2"; reads aescbc "2","1", secretbox "7", identity"#;
        assert_eq!(
            (chain.to_string(), format!("{chain:?}")),
            (shown.to_owned(), shown.to_owned())
        );
        assert_eq!(Chain::new(vec![identity()]).unwrap().writer().to_string(), "identity");
        assert_eq!(Chain::new(vec![]).unwrap_err(), BuildError::NoProviders);
    }

    fn any_provider() -> impl Strategy<Value = (ProviderKind, Vec<u8>)> {
        let kind = prop_oneof![
            Just(ProviderKind::Identity),
            Just(ProviderKind::AesCbc),
            Just(ProviderKind::AesGcm),
            Just(ProviderKind::Secretbox)
        ];
        (kind, proptest::collection::vec(1u8..9, 1..4))
    }

    proptest! {
        #[test]
        fn what_a_chain_seals_it_opens_and_any_chain_behind_another_calls_it_stale(
            mut settings in proptest::collection::vec(any_provider(), 1..4),
            in_front in (2u8..9, 1u8..9),
            plaintext in proptest::collection::vec(any::<u8>(), 0..600),
            etcd_key in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let build = |settings: &[(ProviderKind, Vec<u8>)]| {
                Chain::new(settings.iter().map(|(kind, numbers)| provider(*kind, numbers)).collect()).unwrap()
            };
            let key = StorageKey(&etcd_key);
            let open = |chain: &Chain, stored: &[u8]| {
                let mut out = Vec::new();
                chain.from_storage(key, stored, &Deks::default(), &mut out).map(|opened| (out, opened.stale))
            };
            let mut stored = Vec::new();
            build(&settings).to_storage(key, &plaintext, &Deks::default(), &mut stored).unwrap();
            prop_assert_eq!(open(&build(&settings), &stored), Ok((plaintext.clone(), false)));

            // Another provider or, within the same one, another key takes over the writing.
            if settings[0].0 == ProviderKind::Identity || in_front.0 % 2 == 0 {
                settings.insert(0, (ProviderKind::AesGcm, vec![100 + in_front.1]));
            } else {
                settings[0].1.insert(0, 100 + in_front.1);
            }
            prop_assert_eq!(open(&build(&settings), &stored), Ok((plaintext, true)));
        }

        /// With the same random bytes, so that the bytes themselves can be compared.
        #[test]
        fn a_batch_is_what_its_values_are_one_by_one(
            (kind, numbers) in any_provider(),
            lengths in proptest::collection::vec(prop_oneof![0usize..40, 0usize..1000], 0..30),
        ) {
            let chain = chain([provider(kind, &numbers)]);
            let plaintexts: Vec<_> = (0u8..).zip(lengths).map(|(fill, length)| vec![fill; length]).collect();
            let values: Vec<_> = plaintexts.iter().map(|plaintext| (KEY, plaintext.as_slice())).collect();
            let random = || rand::rngs::StdRng::from_seed([5; 32]);
            let batch = chain.to_storage_batch_with(&values, &mut random(), &Deks::default()).unwrap();
            let mut nonces = random();
            let one_by_one: Vec<_> = values
                .iter()
                .map(|(key, plaintext)| {
                    let mut out = Vec::new();
                    chain.to_storage_with(*key, plaintext, &mut nonces, &Deks::default(), &mut out).unwrap();
                    out
                })
                .collect();
            prop_assert_eq!(batch, one_by_one);
        }

        #[test]
        fn no_bytes_at_all_make_a_chain_panic(
            body in proptest::collection::vec(any::<u8>(), 0..100), kind in any_provider(), prefixed: bool,
        ) {
            let (kind, numbers) = kind;
            let prefix = if prefixed { format!("k8s:enc:{kind}:v1:{}:", numbers[0]) } else { String::new() };
            let _ = read([provider(kind, &numbers), identity()], &[prefix.as_bytes(), &body].concat());
        }

        #[test]
        fn the_reserved_length_is_the_written_one((kind, numbers) in any_provider(), length in 0usize..100) {
            let chain = chain([provider(kind, &numbers)]);
            let mut out = Vec::new();
            chain.to_storage(KEY, &vec![0; length], &Deks::default(), &mut out).unwrap();
            prop_assert_eq!(out.len(), chain.links.sealed_len(length));
        }
    }
}
