//! The prefix chain: the first link writes, any link reads. Used twice, nested: a chain of providers, each of which is a
//! chain of keys. Knows neither which prefixes there are nor what a link does.

use std::ops::Range;

use rand::CryptoRng;

use super::deks::Need;
use super::{Deks, OpenError, SealError};
use crate::types::StorageKey;

/// What is known of a value that opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The value should be written again: it was not sealed by what writes now.
    pub stale: bool,
    /// Which provider opened it: an index into [`Chain::readers`](super::Chain::readers).
    pub provider: usize,
    /// Which of that provider's keys: an index into [`Provider::key_names`](super::Provider::key_names). 0 where it has
    /// none.
    pub key: usize,
}

impl Opened {
    /// Sealed by what writes now, so far as the transformer can tell.
    pub(super) fn fresh() -> Self {
        Self {
            stale: false,
            provider: 0,
            key: 0,
        }
    }

    /// The same, but to be written again.
    pub(super) fn made_stale(self) -> Self {
        Self { stale: true, ..self }
    }

    /// The same, said by the chain whose link `index` said it. A chain of keys takes its links for providers, until the
    /// chain around it makes keys of them.
    fn through_link(self, index: usize) -> Self {
        Self {
            stale: self.stale || index != 0,
            provider: index,
            key: self.provider,
        }
    }
}

/// Where in a body its plaintext lies, and what is known of it.
pub(super) type Place = (Opened, Range<usize>);

/// One way to store a value. Sealing appends to `out`; opening leaves the plaintext where the ciphertext was.
pub(super) trait Transformer {
    /// How many bytes [`Transformer::to_storage`] appends for a plaintext of `plaintext_len` bytes; about how many, where that
    /// depends on a plugin. A buffer with as much room need not grow.
    fn sealed_len(&self, plaintext_len: usize) -> usize;

    /// Seals `plaintext`. Whatever must be random comes from `nonces`, and only from there; a DEK that is not at hand, from
    /// `deks`.
    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError>;

    /// The first half of [`Transformer::to_storage`], for one value of several: appends all of it that needs no encrypting
    /// together with others, and says what is left to [`Transformer::finish`]. What is appended may be plaintext until then.
    fn lay_out<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, SealError> {
        self.to_storage(key, plaintext, nonces, deks, out)?;
        Ok(out.len()..out.len())
    }

    /// The second half, for all that was laid out.
    fn finish(&self, _laid_out: Vec<&mut [u8]>) {}

    /// Opens `body` where it lies. What is not plaintext then is of no use any more; but after an error `body` is as it was,
    /// so that others can try it and the client can be given it as it is stored.
    ///
    /// `spare` is for the copy that this takes of a cipher that destroys what it does not open: room that is used again for
    /// the next value.
    #[expect(clippy::wrong_self_convention, reason = "kube-apiserver's word for it")]
    fn from_storage(
        &self,
        key: StorageKey<'_>,
        body: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError>;

    /// Notes in `deks` what opening `body` would lack, without opening it, and has it hold what is at hand. Most transformers
    /// need nothing.
    fn survey(&self, _body: &[u8], _deks: &Deks) -> Need {
        Need::Nothing
    }
}

/// A transformer and what its values begin with.
pub(super) struct Link<T> {
    prefix: Box<[u8]>,
    transformer: T,
}

impl<T> Link<T> {
    pub(super) fn new(prefix: impl AsRef<[u8]>, transformer: T) -> Self {
        Self {
            prefix: prefix.as_ref().into(),
            transformer,
        }
    }

    /// What follows the prefix; `None` where `stored` does not begin with it.
    fn body_of<'a>(&self, stored: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let (front, body) = stored.split_at_mut_checked(self.prefix.len())?;
        (*front == *self.prefix).then_some(body)
    }
}

/// Links in the order of the configuration. There is always a first one.
pub(super) struct PrefixChain<T> {
    first: Link<T>,
    rest: Vec<Link<T>>,
    no_match: OpenError,
}

impl<T: Transformer> PrefixChain<T> {
    /// A chain that fails with `no_match` for what no link recognises. `None` if there are no links.
    pub(super) fn new(links: impl IntoIterator<Item = Link<T>>, no_match: OpenError) -> Option<Self> {
        let mut links = links.into_iter();
        Some(Self {
            first: links.next()?,
            rest: links.collect(),
            no_match,
        })
    }

    /// The transformer that writes.
    pub(super) fn writer(&self) -> &T {
        &self.first.transformer
    }

    /// Every transformer, the writer first.
    pub(super) fn readers(&self) -> impl Iterator<Item = &T> {
        self.links().map(|link| &link.transformer)
    }

    fn links(&self) -> impl Iterator<Item = &Link<T>> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl<T: Transformer> Transformer for PrefixChain<T> {
    fn sealed_len(&self, plaintext_len: usize) -> usize {
        self.first.prefix.len() + self.first.transformer.sealed_len(plaintext_len)
    }

    fn to_storage<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        out.extend_from_slice(&self.first.prefix);
        self.first.transformer.to_storage(key, plaintext, nonces, deks, out)
    }

    fn lay_out<R: CryptoRng>(
        &self,
        key: StorageKey<'_>,
        plaintext: &[u8],
        nonces: &mut R,
        deks: &Deks,
        out: &mut Vec<u8>,
    ) -> Result<Range<usize>, SealError> {
        out.extend_from_slice(&self.first.prefix);
        self.first.transformer.lay_out(key, plaintext, nonces, deks, out)
    }

    fn finish(&self, laid_out: Vec<&mut [u8]>) {
        self.first.transformer.finish(laid_out);
    }

    fn from_storage(
        &self,
        key: StorageKey<'_>,
        stored: &mut [u8],
        deks: &Deks,
        spare: &mut Vec<u8>,
    ) -> Result<Place, OpenError> {
        let mut errors = Vec::new();
        for (index, link) in self.links().enumerate() {
            let Some(body) = link.body_of(stored) else {
                continue;
            };
            match link.transformer.from_storage(key, body, deks, spare) {
                Ok((inner, at)) => {
                    let skipped = link.prefix.len();
                    return Ok((inner.through_link(index), skipped + at.start..skipped + at.end));
                }
                // Whether it opens is not known yet, so neither is whose turn would be next. What the others lack is noted
                // along with it, so that after one fetch there is nothing left to wait for.
                Err(OpenError::Pending) => {
                    self.survey(stored, deks);
                    return Err(OpenError::Pending);
                }
                // identity before an encrypting provider, as when migrating away from encryption: every value is a
                // candidate of the empty prefix, so that it declined says nothing and must not mask a later answer.
                Err(_) if link.prefix.is_empty() => {}
                // The same prefix may come again with other keys (a provider listed twice while rotating), and one
                // key's name may begin another's, so a failure behind a matching prefix never ends the search.
                Err(error) => errors.push(error),
            }
        }
        Err(OpenError::reduce(errors).unwrap_or_else(|| self.no_match.clone()))
    }

    fn survey(&self, stored: &[u8], deks: &Deks) -> Need {
        let mut need = Need::Nothing;
        for link in self.links() {
            if let Some(body) = stored.strip_prefix(&*link.prefix)
                && link.transformer.survey(body, deks) == Need::Pending
            {
                need = Need::Pending;
            }
        }
        need
    }
}
