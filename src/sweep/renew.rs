//! Opens stored values, decides, and seals what is to be written again: several values at a time, in one place. Waits only
//! for KMS plugins; sends nothing to etcd.

use futures_util::future::join_all;
use zeroize::Zeroizing;

use super::decide::{NotYet, Verdict, decide};
use super::scope::Scope;
use crate::etcd::KeyValue;
use crate::inventory::Under;
use crate::keyring::Sealer;
use crate::types::StorageKey;
use crate::value::{Chain, Deks, OpenError, ProviderKind, SealError};

/// A stored value, what it is, and what is to be done about it.
#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) kv: KeyValue,
    pub(super) verdict: Verdict,
    pub(super) step: Step,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// This is to take the stored value's place.
    Write(Vec<u8>),
    /// It should be written again and can't be.
    Refuse(String),
}

/// Why a batch could not be dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A KMS could not be asked: the same may work later.
    Kms(String),
    /// The writer of a rule has no key, and no value of the rule can be written.
    Seal(String),
}

/// Decides on `batch`, and seals what should be written again if `seals`. In the order of the batch.
pub(super) async fn renew(scope: &Scope, batch: Vec<KeyValue>, seals: bool) -> Result<Vec<Renewed>, Fault> {
    let opened = open(scope, &batch).await?;
    let due = |(verdict, _): &Opened| seals && matches!(verdict, Verdict::Stale(_) | Verdict::Plaintext);
    let together = seal_together(
        scope,
        batch.iter().zip(&opened).map(|(kv, opened)| {
            let plaintext = due(opened).then_some(&**opened.1);
            (&*kv.key, plaintext)
        }),
    );
    let all = batch.iter().zip(opened).zip(together);
    let renewed = join_all(all.map(async |((kv, opened), done)| {
        let sealer = scope.sealer(&kv.key).filter(|_| due(&opened));
        let (verdict, plaintext) = opened;
        let step = match sealer {
            Some(sealer) => seal(sealer, StorageKey(&kv.key), &plaintext, done).await?,
            None => Step::Keep,
        };
        Ok((verdict, step))
    }))
    .await;
    batch
        .into_iter()
        .zip(renewed)
        .map(|(kv, renewed)| renewed.map(|(verdict, step)| Renewed { kv, verdict, step }))
        .collect()
}

/// A verdict with the plaintext that it was made on, empty where there is none.
type Opened = (Verdict, Zeroizing<Vec<u8>>);

/// Opens every value of `batch`, with one question to each KMS for all DEKs that it must unwrap.
async fn open(scope: &Scope, batch: &[KeyValue]) -> Result<Vec<Opened>, Fault> {
    let mut deks = Deks::default();
    let mut opened: Vec<Option<Opened>> = batch.iter().map(|_| None).collect();
    loop {
        let mut is_pending = false;
        for (kv, slot) in batch.iter().zip(&mut opened) {
            if slot.is_some() {
                continue;
            }
            let mut plaintext = Zeroizing::new(Vec::new());
            match decide(scope, &kv.key, &kv.value, &deks, &mut plaintext) {
                Ok(verdict) => *slot = Some((aged(scope, kv, verdict), plaintext)),
                Err(NotYet::Kms(why)) => return Err(Fault::Kms(why)),
                Err(NotYet::Pending) => is_pending = true,
            }
            if deks.is_full() {
                break;
            }
        }
        if !is_pending {
            return Ok(opened.into_iter().flatten().collect());
        }
        deks.fetch().await;
    }
}

/// The verdict, where everything that was written up to some revision is to be written again.
fn aged(scope: &Scope, kv: &KeyValue, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Fresh(under)
            if scope.written_until.is_some_and(|until| kv.mod_revision <= until) && under != Under::identity() =>
        {
            Verdict::Stale(under)
        }
        verdict => verdict,
    }
}

/// Values that are sealed the same way: where each stands in its batch, and itself.
type Together<'a> = (Sealer<'a>, Vec<usize>, Vec<(StorageKey<'a>, &'a [u8])>);

/// What is to be stored for those values that gain by being sealed side by side; the others have `None`.
fn seal_together<'a>(
    scope: &'a Scope,
    values: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Vec<Option<Vec<u8>>> {
    let mut done: Vec<Option<Vec<u8>>> = vec![None; values.len()];
    // Few: a configuration has few rules.
    let mut groups: Vec<Together<'a>> = Vec::new();
    for (index, (key, plaintext)) in values.enumerate() {
        let (Some(sealer), Some(plaintext)) = (scope.sealer(key), plaintext) else {
            continue;
        };
        if sealer.writer().provider != ProviderKind::AesCbc {
            continue;
        }
        let value = (StorageKey(key), plaintext);
        match groups.iter_mut().find(|(other, ..)| sealer.is_same(other)) {
            Some((_, places, values)) => {
                places.push(index);
                values.push(value);
            }
            None => groups.push((sealer, vec![index], vec![value])),
        }
    }
    for (sealer, places, values) in groups {
        // One that fails fails again by itself, and says why.
        let batch = sealer.to_storage_batch(&values, &Deks::default()).unwrap_or_default();
        for (place, stored) in places.into_iter().zip(batch) {
            if let Some(slot) = done.get_mut(place) {
                *slot = Some(stored);
            }
        }
    }
    done
}

/// What is to be stored for `plaintext`, which may have been sealed already. It is opened again before anybody trusts it,
/// with nothing that this process alone knows: a value that would not come back must never take the place of one that does.
async fn seal(sealer: Sealer<'_>, key: StorageKey<'_>, plaintext: &[u8], done: Option<Vec<u8>>) -> Result<Step, Fault> {
    // DEKs for writing are handed out in order, so values that wait for one do not share them.
    let mut deks = Deks::default();
    let stored = match done {
        Some(stored) => stored,
        None => loop {
            let mut stored = Vec::new();
            match sealer.to_storage(key, plaintext, &deks, &mut stored) {
                Ok(()) => break stored,
                Err(SealError::Pending) => deks.fetch().await,
                Err(SealError::Kms(failure)) if failure.is_transient => return Err(Fault::Kms(failure.to_string())),
                Err(SealError::Kms(failure)) => return Err(Fault::Seal(failure.to_string())),
                Err(error) => return Ok(Step::Refuse(error.to_string())),
            }
        },
    };
    let mut deks = Deks::past_caches();
    loop {
        let mut again = Zeroizing::new(Vec::new());
        match reopen(sealer.chain(), key, &stored, &deks, &mut again) {
            Ok(true) if *again == plaintext => return Ok(Step::Write(stored)),
            Ok(false) => deks.fetch().await,
            // Such as a plaintext that looks encrypted, where identity writes: it would be read as what it is not.
            Ok(true) => {
                return Ok(Step::Refuse(
                    "what would be written would not be read as it was".to_owned(),
                ));
            }
            Err(Fault::Kms(why)) => return Err(Fault::Kms(why)),
            Err(Fault::Seal(why)) => return Ok(Step::Refuse(format!("what would be written would not open: {why}"))),
        }
    }
}

/// Whether `stored` has been opened; false while DEKs are missing.
fn reopen(
    chain: &Chain,
    key: StorageKey<'_>,
    stored: &[u8],
    deks: &Deks,
    plaintext: &mut Vec<u8>,
) -> Result<bool, Fault> {
    match chain.from_storage(key, stored, deks, plaintext) {
        Ok(_) => Ok(true),
        Err(OpenError::Pending) => Ok(false),
        Err(error) if error.is_transient() => Err(Fault::Kms(error.to_string())),
        Err(error) => Err(Fault::Seal(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::world::{KEY_NEW, KEY_OLD, aescbc, identity, kv, scope, sealed};

    const KEY: &[u8] = b"/registry/secrets/default/a";

    async fn steps(providers: &[&str], values: &[&[u8]]) -> Vec<Step> {
        let batch = values.iter().map(|value| kv(KEY, value, 1, 0)).collect();
        let renewed = renew(&scope(providers), batch, true).await.unwrap();
        renewed.into_iter().map(|renewed| renewed.step).collect()
    }

    #[tokio::test]
    async fn what_is_written_opens_to_what_was_stored() {
        let (old, new) = (aescbc("old", KEY_OLD), aescbc("new", KEY_NEW));
        let providers = [&new[..], &old, &identity()];
        let values = [
            sealed(&[&old], KEY, b"one"),
            b"two".to_vec(),
            sealed(&[&new], KEY, b"three"),
        ];
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let steps = steps(&providers, &values).await;
        let opened = |step: &Step| {
            let Step::Write(stored) = step else { panic!("{step:?}") };
            let mut plaintext = Vec::new();
            let verdict = decide(&scope(&[&new]), KEY, stored, &Deks::default(), &mut plaintext).unwrap();
            assert!(matches!(verdict, Verdict::Fresh(_)));
            plaintext
        };
        assert_eq!(
            (opened(&steps[0]), opened(&steps[1])),
            (b"one".to_vec(), b"two".to_vec())
        );
        assert_eq!(steps[2], Step::Keep);
    }

    /// kube-apiserver with encryption of its own before this one: taken off here, its values would be read as this one's.
    #[tokio::test]
    async fn a_plaintext_that_would_be_read_as_encrypted_is_not_laid_bare() {
        let old = aescbc("old", KEY_OLD);
        let inner = sealed(&[&old], KEY, b"value");
        let nested = sealed(&[&old], KEY, &inner);
        let steps = steps(&[&identity(), &old], &[&nested]).await;
        assert!(matches!(&steps[0], Step::Refuse(_)), "{steps:?}");
    }
}
