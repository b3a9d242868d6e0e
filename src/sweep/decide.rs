//! What a stored value is under the loaded rules, and whether it should be written again. Pure: bytes in, verdict out.

use super::scope::Scope;
use crate::inventory::{Under, is_plausible};
use crate::types::StorageKey;
use crate::value::{Deks, OpenError, Provider, ProviderKind, is_sealed};

/// What is to become of a stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what the rule writes: sealed by the first provider with its first key, or plain where identity writes.
    Fresh(Under),
    /// Sealed by another provider or key than the rule writes with; plaintext is to take its place where identity writes.
    Stale(Under),
    /// Not sealed, and it should be.
    Plaintext,
    /// No provider of the rule opens it. It stays as it is.
    Undecryptable {
        /// What it says that it is sealed with; identity for a plaintext under a rule that does not read any.
        needs: Under,
        /// Why it does not open. Holds no byte of the value.
        why: String,
    },
    /// No rule covers it, or it is one of the proxy's own.
    NotOurs,
}

/// Why there is no verdict yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotYet {
    /// DEKs have been noted as missing; fetch them and ask again.
    Pending,
    /// A KMS could not be asked; try again later.
    Kms(String),
}

/// Looks at what etcd holds under `key`, and appends its plaintext to `plaintext` where it opens.
pub(super) fn decide(
    scope: &Scope,
    key: &[u8],
    stored: &[u8],
    deks: &Deks,
    plaintext: &mut Vec<u8>,
) -> Result<Verdict, NotYet> {
    let Some(chain) = scope.sealer(key).map(|sealer| sealer.chain()) else {
        return Ok(Verdict::NotOurs);
    };
    let start = plaintext.len();
    match chain.from_storage(StorageKey(key), stored, deks, plaintext) {
        Ok(opened) => {
            let provider = chain.readers().nth(opened.provider);
            let under = Under::opened(chain, opened);
            let kind = provider.map_or(ProviderKind::Identity, Provider::kind);
            if !is_plausible(kind, plaintext.get(start..).unwrap_or_default()) {
                // It must not take the place of a value that the right key would open.
                plaintext.truncate(start);
                return Ok(Verdict::Undecryptable {
                    needs: under,
                    why:
                        "it opens, but to nothing that Kubernetes stores; was it sealed with another key of that name?"
                            .to_owned(),
                });
            }
            Ok(if !opened.stale {
                Verdict::Fresh(under)
            } else if kind == ProviderKind::Identity {
                Verdict::Plaintext
            } else {
                Verdict::Stale(under)
            })
        }
        Err(OpenError::Pending) => Err(NotYet::Pending),
        Err(error) if error.is_transient() => Err(NotYet::Kms(error.to_string())),
        Err(error) => Ok(Verdict::Undecryptable {
            needs: Under::needed(chain, stored),
            why: if is_sealed(stored) {
                error.to_string()
            } else {
                "it is not encrypted, and the rule does not list identity".to_owned()
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::world::{KEY_NEW, KEY_OLD, aescbc, aesgcm, identity, scope, sealed};

    const KEY: &[u8] = b"/registry/secrets/default/a";

    fn verdict(providers: &[&str], key: &[u8], stored: &[u8]) -> (Verdict, Vec<u8>) {
        let mut plaintext = Vec::new();
        let verdict = decide(&scope(providers), key, stored, &Deks::default(), &mut plaintext);
        (verdict.expect("no KMS is there"), plaintext)
    }

    fn under(provider: &'static str, key: &str) -> Under {
        Under {
            provider: provider.into(),
            key: key.to_owned(),
        }
    }

    #[test]
    fn only_what_the_first_provider_writes_with_its_first_key_is_fresh() {
        let (old, new) = (aescbc("old", KEY_OLD), aescbc("new", KEY_NEW));
        let stored = sealed(&[&old], KEY, b"value");
        assert_eq!(
            verdict(&[&old], KEY, &stored),
            (Verdict::Fresh(under("aescbc", "old")), b"value".to_vec())
        );
        assert_eq!(
            verdict(&[&new, &old], KEY, &stored),
            (Verdict::Stale(under("aescbc", "old")), b"value".to_vec())
        );
        assert_eq!(
            verdict(&[&old, &identity()], KEY, b"value"),
            (Verdict::Plaintext, b"value".to_vec())
        );
    }

    #[test]
    fn where_identity_writes_plaintext_is_fresh_and_what_is_sealed_is_to_be_opened_for_good() {
        let old = aescbc("old", KEY_OLD);
        let stored = sealed(&[&old], KEY, b"value");
        let providers = [&identity()[..], &old];
        assert_eq!(
            verdict(&providers, KEY, b"value"),
            (Verdict::Fresh(under("identity", "")), b"value".to_vec())
        );
        assert_eq!(
            verdict(&providers, KEY, &stored),
            (Verdict::Stale(under("aescbc", "old")), b"value".to_vec())
        );
    }

    #[test]
    fn what_does_not_open_tells_what_it_needs() {
        let needs = |providers: &[&str], stored: &[u8]| match verdict(providers, KEY, stored) {
            (Verdict::Undecryptable { needs, .. }, plaintext) if plaintext.is_empty() => needs,
            other => panic!("{other:?}"),
        };
        let new = aescbc("new", KEY_NEW);
        let other = sealed(&[&aesgcm("gone", KEY_OLD)], KEY, b"value");
        assert_eq!(needs(&[&new, &identity()], &other), under("aesgcm", "gone"));
        assert_eq!(needs(&[&new], b"value"), under("identity", ""));
        assert_eq!(needs(&[&new], b"k8s:enc:rot13:v1:k:"), under("rot13", "k"));
        assert_eq!(needs(&[&new], b"k8s:enc:\xff:v1:k:"), under("unknown", ""));
        // Its name holds colons, which only the rule can tell.
        let colons = aescbc("a:b", KEY_OLD);
        let other_bytes = sealed(&[&aescbc("a:b", KEY_NEW)], KEY, b"value");
        assert_eq!(
            needs(&[&colons], &other_bytes[..other_bytes.len() - 1]),
            under("aescbc", "a:b")
        );
    }

    #[test]
    fn keys_without_a_rule_and_our_own_records_are_not_ours_to_write() {
        let new = aescbc("new", KEY_NEW);
        for key in [
            &b"/registry/configmaps/default/a"[..],
            b"/other/secrets/default/a",
            b"/etcd-encryption-proxy/sweep/checkpoint",
        ] {
            assert_eq!(verdict(&[&new, &identity()], key, b"value").0, Verdict::NotOurs);
        }
    }

    /// The right key or a wrong one, which nothing else tells apart where values are not authenticated.
    #[test]
    fn what_opens_to_random_bytes_by_a_cipher_without_authentication_does_not_open() {
        let (cbc, gcm) = (aescbc("old", KEY_OLD), aesgcm("old", KEY_OLD));
        let random = b"\xc3\x28\x8f\x00 random";
        let (found, plaintext) = verdict(&[&cbc], KEY, &sealed(&[&cbc], KEY, random));
        assert!(matches!(found, Verdict::Undecryptable { .. }), "{found:?}");
        assert_eq!(plaintext, b"");
        let (found, plaintext) = verdict(&[&gcm], KEY, &sealed(&[&gcm], KEY, random));
        assert!(matches!(found, Verdict::Fresh(_)), "{found:?}");
        assert_eq!(plaintext, random);
        for usual in [
            &b"k8s\0\x0a\x9c\xff"[..],
            b"\xd9\xd9\xf7\xa2\xff",
            b"{\"kind\":\"Bear\"}\n",
            b"k8s:enc:aescbc:v1:inner:\xff",
            b"",
        ] {
            let (found, plaintext) = verdict(&[&cbc], KEY, &sealed(&[&cbc], KEY, usual));
            assert!(matches!(found, Verdict::Fresh(_)), "{found:?}");
            assert_eq!(plaintext, usual);
        }
    }
}
