//! Everybody's record, and whether all have loaded the same. A record that cannot be read counts as another configuration.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::presence::{FOLDER, MemberId};
use super::record::{Loaded, Member};
use crate::etcd::{CallError, PageAsk, Store};
use crate::types::{StatePrefix, prefix_end};

/// Records of a page.
const PAGE: i64 = 100;
/// More members than this are not read: nobody runs so many proxies, and memory is bounded.
const MAX_MEMBERS: usize = 10_000;
/// Bytes of a page after which the rest is asked for anew.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Members that differ and are named at once.
const MAX_NAMED: usize = 5;
/// Characters of what is said of one: a whole reason, and who it is of.
const MAX_SHOWN: usize = 1_500;
/// Characters of a fingerprint that tell it from others well enough for people.
const SHORT: usize = "sha256:".len() + 12;

/// The members that are alive, as far as etcd knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    entries: Vec<(String, Result<Member, String>)>,
    /// Those of them that no lease ends.
    leaseless: Vec<Leaseless>,
    /// The revisions at which records of this store came there, by their IDs.
    created: BTreeMap<String, i64>,
    /// The revision at which a record was last written; 0 where there is none.
    changed: i64,
}

/// A record that no lease ends, so that it may stay though no such process lives. None of ours writes one like that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaseless {
    /// Where it lies.
    pub key: Bytes,
    /// The revision at which it was written.
    pub revision: i64,
    /// Whose it is, fit to be shown.
    pub whose: String,
    id: String,
}

/// Who has not loaded what everybody should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dissent {
    /// One line for each, fit to be shown.
    reasons: Vec<String>,
    others: usize,
}

impl Roster {
    /// Reads all records.
    ///
    /// # Errors
    /// What etcd said.
    pub async fn read<S: Store>(store: &S, state: &StatePrefix) -> Result<Self, CallError> {
        let folder = [state.as_bytes(), FOLDER.as_bytes()].concat();
        let end = prefix_end(&folder);
        let mut start = folder.clone();
        let mut limit = PAGE;
        let (mut entries, mut leaseless) = (Vec::new(), Vec::new());
        let (mut created, mut changed) = (BTreeMap::new(), 0);
        loop {
            let ask = PageAsk {
                start: &start,
                end: end.as_deref(),
                revision: 0,
                limit,
                enough: MAX_PAGE_BYTES,
            };
            let page = store.page(ask).await?;
            for kv in &page.kvs {
                let id = kv.key.strip_prefix(folder.as_slice()).unwrap_or_default();
                let (id, member) = (id.escape_ascii().to_string(), Member::decode(&kv.value));
                if kv.lease == 0 {
                    let name = member.as_ref().map_or(&*id, |member| &member.name);
                    let whose = shown(&format!("the record of the member {name}"));
                    leaseless.push(Leaseless {
                        key: kv.key.clone(),
                        revision: kv.mod_revision,
                        whose,
                        id: id.clone(),
                    });
                }
                created.insert(id.clone(), kv.create_revision);
                entries.push((id, member));
                changed = changed.max(kv.mod_revision);
            }
            // Whoever is not looked at might not agree, so nobody is passed over.
            match page.kvs.last() {
                _ if !page.more => {
                    return Ok(Self {
                        entries,
                        leaseless,
                        created,
                        changed,
                    });
                }
                Some(last) if entries.len() < MAX_MEMBERS => {
                    start = [&last.key[..], &[0]].concat();
                    limit = PAGE;
                }
                // One record is larger than a page may be. By itself it is always whole.
                None if limit > 1 => limit = 1,
                _ => {
                    let why = format!("etcd has more records than the {} that were read", entries.len());
                    entries.push(("behind them".to_owned(), Err(why)));
                    return Ok(Self {
                        entries,
                        leaseless,
                        created,
                        changed,
                    });
                }
            }
        }
    }

    /// These and the members of another store, of whose revisions nothing is told here.
    pub fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.leaseless.extend(other.leaseless);
    }

    /// The records that no lease ends.
    pub fn leaseless(&self) -> &[Leaseless] {
        &self.leaseless
    }

    /// The same without these.
    #[must_use]
    pub fn with_leases(mut self) -> Self {
        let leaseless = std::mem::take(&mut self.leaseless);
        let has_lease = |id: &str| leaseless.iter().all(|record| record.id != id);
        self.entries.retain(|(id, _)| has_lease(id));
        self
    }

    /// The members whose records could be read.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.entries.iter().filter_map(|(_, member)| member.as_ref().ok())
    }

    /// How many there are, whose records cannot be read included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether etcd refuses late writes of everybody who is here.
    pub fn is_fenced(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.all(|(_, member)| member.as_ref().is_ok_and(|member| member.fenced))
    }

    /// Who does not say that it writes under fresh seeds of KMS v2 plugins when that is ordered, as a warning; `None` if everybody
    /// does. Without a fence nobody has to have seen the order.
    pub fn renews_not(&self) -> Option<String> {
        let lacking = self.members().filter(|member| !member.renews_seeds || !member.fenced);
        let names: Vec<_> = lacking.map(|member| shown(&member.name)).collect();
        (!names.is_empty()).then(|| {
            format!(
                "warning: {} may write on under the seed of a KMS v2 plugin that it has, being of an earlier version or without a \
                 fence: restart it and give this command once more",
                names.join(", ")
            )
        })
    }

    /// The revision at which one of the records was last written: since then everybody who is here has been as they say.
    /// 0 where nobody is.
    pub fn changed(&self) -> i64 {
        self.changed
    }

    /// Every member, in the order of their IDs, or why its record cannot be read.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Result<&Member, &str>)> {
        let entries = self.entries.iter();
        entries.map(|(id, member)| (id.as_str(), member.as_ref().map_err(String::as_str)))
    }

    /// The revision at which the record of `id` came, if it is there.
    pub(super) fn created(&self, id: &str) -> Option<i64> {
        self.created.get(id).copied()
    }

    /// How many have loaded `loaded`.
    pub fn agreeing(&self, loaded: &Loaded) -> usize {
        self.members().filter(|member| member.loaded == *loaded).count()
    }

    /// Whether the member `id` is among them.
    pub fn has(&self, id: &MemberId) -> bool {
        self.entries.iter().any(|(other, _)| *other == id.to_string())
    }

    /// Who has not loaded `loaded`; `None` if everybody has.
    pub fn dissent(&self, loaded: &Loaded) -> Option<Dissent> {
        self.named(|member| (member.loaded != *loaded).then(|| self.dissents(member, loaded)))
    }

    /// Who writes, or may write, otherwise than by `loaded`; `None` if nobody does. Who has no key ID of a plugin yet writes
    /// nothing under it.
    pub fn others_write(&self, loaded: &Loaded) -> Option<Dissent> {
        self.named(|member| {
            let is_other = member.loaded.writes_otherwise(loaded);
            is_other.then(|| self.dissents(member, loaded))
        })
    }

    /// Who does not say that it has the root of this ID; `None` if everybody does.
    pub fn without_root(&self, root: &str) -> Option<Dissent> {
        self.named(|member| {
            let has_root = member.roots.iter().any(|own| own == root);
            (!has_root).then(|| {
                let who = format!("{} ({})", member.name, member.urls.join(", "));
                match &member.roots[..] {
                    [] => format!("{who} has no root"),
                    roots => format!("{who} has {}", roots.join(", ")),
                }
            })
        })
    }

    /// In what `member` differs from those who have loaded `loaded`; a key that has other bytes there is the worst of it.
    fn dissents(&self, member: &Member, loaded: &Loaded) -> String {
        let why = member.dissents(loaded);
        if member.loaded.configuration == loaded.configuration {
            return why;
        }
        let has_loaded = |peer: &&Member| peer.loaded.configuration == loaded.configuration;
        let is_known = self.members().any(|peer| has_loaded(&peer));
        let mut peers = self.members().filter(|peer| !is_known || has_loaded(peer));
        let other = peers.find_map(|peer| Some((peer, member.other_bytes(peer)?)));
        match other {
            None => why,
            Some((peer, (provider, name))) => format!(
                "{why}; its {provider} key {name:?} has OTHER BYTES than that of {} ({}): neither of them reads what the other \
                 writes. Give both the same configuration, in which each of the two keys is listed (aescbc keys cannot share a name: stop the \
                 proxy that has the wrong one)",
                peer.name,
                peer.urls.join(", ")
            ),
        }
    }

    /// What to do about the record of `id`, if no lease ends it.
    pub fn way_out(&self, id: &str) -> &'static str {
        if self.leaseless.iter().any(|record| record.id == id) {
            ". No lease ends that record, so it may stay for ever though no such process lives: `secrets-encrypt abort --forget` \
             removes it"
        } else {
            ""
        }
    }

    pub(super) fn named(&self, dissents: impl Fn(&Member) -> Option<String>) -> Option<Dissent> {
        let reason = |(id, member): &(String, Result<Member, String>)| match member {
            Ok(member) => dissents(member).map(|why| shown(&why) + self.way_out(id)),
            Err(why) => {
                Some(shown(&format!("the record of the member {id} cannot be read ({why})")) + self.way_out(id))
            }
        };
        let mut reasons: Vec<_> = self.entries.iter().filter_map(reason).collect();
        let others = reasons.len().saturating_sub(MAX_NAMED);
        reasons.truncate(MAX_NAMED);
        (!reasons.is_empty()).then_some(Dissent { reasons, others })
    }
}

impl Member {
    /// In what it differs, for people.
    fn dissents(&self, loaded: &Loaded) -> String {
        let who = format!("{} ({})", self.name, self.urls.join(", "));
        if self.loaded.configuration != loaded.configuration {
            let because = match &self.refused {
                Some(why) => format!(" and refuses a newer one: {why}"),
                None => String::new(),
            };
            return format!("{who} has loaded {}{because}", short(&self.loaded.configuration));
        }
        if self.loaded.prefixes != loaded.prefixes {
            return format!(
                "{who} has --etcd-prefix={}; whoever serves another part of this etcd needs a --state-prefix of its own",
                self.loaded.prefixes.join(",")
            );
        }
        if let Some(paths) = self.loaded.other_paths(loaded) {
            return format!("{who} looks for resources elsewhere: {paths}");
        }
        let plugins = self.loaded.kms.keys().chain(loaded.kms.keys());
        for plugin in plugins {
            match (self.loaded.kms.get(plugin), loaded.kms.get(plugin)) {
                (own, wanted) if own == wanted => {}
                (Some(own), _) => return format!("{who} writes under key ID {} of KMS plugin {plugin}", short(own)),
                (None, _) => return format!("{who} has not yet had a key ID of KMS plugin {plugin}"),
            }
        }
        who
    }
}

/// `reason` as it may be shown: whoever writes to etcd writes what is in a record.
pub(super) fn shown(reason: &str) -> String {
    let printable = |char: char| {
        if char.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            char
        }
    };
    reason.chars().take(MAX_SHOWN).map(printable).collect()
}

/// The beginning of a fingerprint.
pub fn short(fingerprint: &str) -> &str {
    fingerprint.get(..SHORT).unwrap_or(fingerprint)
}

impl fmt::Display for Dissent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))?;
        if self.others > 0 {
            write!(f, "; and {} more", self.others)?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Roster {
    /// Of these members, with their IDs and the revisions at which their records came.
    pub(super) fn with_ages(members: &[(String, i64, Member)]) -> Self {
        let entry = |(id, _, member): &(String, i64, Member)| (id.clone(), Ok(member.clone()));
        Self {
            entries: members.iter().map(entry).collect(),
            created: members.iter().map(|(id, created, _)| (id.clone(), *created)).collect(),
            ..Self::default()
        }
    }

    /// Of these members, whose records were last written at `changed`.
    pub(crate) fn of(members: impl IntoIterator<Item = Member>, changed: i64) -> Self {
        let entries = members.into_iter().enumerate();
        Self {
            entries: entries.map(|(id, member)| (id.to_string(), Ok(member))).collect(),
            leaseless: Vec::new(),
            created: BTreeMap::new(),
            changed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::record::tests::member;
    use crate::members::record::{Key, RuleKeys};

    fn roster(members: impl IntoIterator<Item = Result<Member, String>>) -> Roster {
        let entries = members.into_iter().enumerate();
        Roster {
            entries: entries.map(|(id, member)| (id.to_string(), member)).collect(),
            leaseless: Vec::new(),
            created: BTreeMap::new(),
            changed: 0,
        }
    }

    fn loaded(configuration: &str) -> Loaded {
        member("", configuration).loaded
    }

    #[test]
    fn those_who_have_loaded_the_same_agree() {
        let same = roster([Ok(member("a", "sha256:1")), Ok(member("b", "sha256:1"))]);
        assert_eq!(same.dissent(&loaded("sha256:1")), None);
        assert_eq!(same.agreeing(&loaded("sha256:1")), 2);
        assert_eq!(same.agreeing(&loaded("sha256:2")), 0);
    }

    #[test]
    fn who_differs_is_named_and_says_why() {
        let mut refusing = member("b", "sha256:0123456789abcdef");
        refusing.refused = Some("e.yaml:1:1: not valid".to_owned());
        let mut stale_kms = member("c", "sha256:1");
        stale_kms.loaded.kms.insert("vault".to_owned(), "sha256:old".to_owned());
        let mut elsewhere = member("d", "sha256:1");
        elsewhere.loaded.prefixes = vec!["/other".to_owned()];
        let all = roster([
            Ok(member("a", "sha256:1")),
            Ok(refusing),
            Ok(stale_kms),
            Ok(elsewhere),
            Err("its schema is 9".to_owned()),
        ]);
        let mut wanted = loaded("sha256:1");
        wanted.kms.insert("vault".to_owned(), "sha256:new".to_owned());
        assert_eq!(
            all.dissent(&wanted).unwrap().to_string(),
            "a (http://127.0.0.1:3379) has not yet had a key ID of KMS plugin vault; b (http://127.0.0.1:3379) has \
             loaded sha256:0123456789ab and refuses a newer one: e.yaml:1:1: not valid; c (http://127.0.0.1:3379) \
             writes under key ID sha256:old of KMS plugin vault; d (http://127.0.0.1:3379) has --etcd-prefix=/other; \
             whoever serves another part of this etcd needs a --state-prefix of its own; the record of the member 4 \
             cannot be read (its schema is 9)"
        );
    }

    #[test]
    fn a_key_that_has_other_bytes_elsewhere_is_named() {
        let with = |member_name: &str, configuration: &str, prints: &[&str]| {
            let key = |print: &&str| -> Key {
                let print = format!("\"{print}\"");
                Key {
                    provider: "aescbc".to_owned(),
                    name: "key1".to_owned(),
                    print: serde_json::from_str(&print).unwrap(),
                }
            };
            let reads: Vec<_> = prints.iter().map(key).collect();
            let mut member = member(member_name, configuration);
            member.rules = vec![RuleKeys {
                resources: "secrets".to_owned(),
                writes: reads[0].clone(),
                reads,
            }];
            Ok(member)
        };
        let said = |one: &[&str], other: &[&str], wanted: &str| {
            let all = roster([with("a", "sha256:1", one), with("b", "sha256:2", other)]);
            all.dissent(&loaded(wanted)).unwrap().to_string()
        };
        let text = said(&["11"], &["22"], "sha256:1");
        assert!(
            text.starts_with("b (http://127.0.0.1:3379) has loaded sha256:2; its aescbc key \"key1\" has OTHER BYTES than that of a ("),
            "{text}"
        );
        // Whatever the file holds that is asked about.
        let text = said(&["11"], &["22"], "sha256:3");
        assert_eq!(text.matches("OTHER BYTES").count(), 2, "{text}");
        // One of the two that the other lists will do.
        for (one, other) in [(&["11"][..], &["22", "11"][..]), (&["11"], &["11"])] {
            let text = said(one, other, "sha256:1");
            assert!(text.contains("b (") && !text.contains("BYTES"), "{text}");
        }
    }

    #[test]
    fn who_has_not_the_root_is_named() {
        let with = |name: &str, roots: &[&str]| {
            let roots = roots.iter().map(|&root| root.to_owned()).collect();
            member(name, "sha256:1").with_roots(roots)
        };
        let all = [
            Ok(with("a", &["old", "new"])),
            Ok(with("b", &["old"])),
            Ok(with("c", &[])),
            Err("its schema is 9".to_owned()),
        ];
        assert_eq!(
            roster(all).without_root("new").unwrap().to_string(),
            "b (http://127.0.0.1:3379) has old; c (http://127.0.0.1:3379) has no root; the record of the member 3 cannot be \
             read (its schema is 9)"
        );
        assert_eq!(roster([Ok(with("a", &["old", "new"]))]).without_root("new"), None);
        assert_eq!(roster([]).without_root("new"), None);
    }

    #[test]
    fn of_many_a_few_are_named() {
        let all = roster((0..20).map(|index| Ok(member(&format!("m{index}"), "sha256:old"))));
        let text = all.dissent(&loaded("sha256:new")).unwrap().to_string();
        assert!(text.ends_with("; and 15 more"), "{text}");
    }

    #[test]
    fn what_a_record_holds_is_shown_on_one_line_that_somebody_could_read() {
        let mut hostile = member("a\nb\x1b[2J", "sha256:old");
        hostile.urls = vec!["u".repeat(1 << 20)];
        let all = roster([Ok(hostile), Err("x".repeat(1 << 20))]);
        let text = all.dissent(&loaded("sha256:new")).unwrap().to_string();
        assert!(!text.contains(char::is_control), "{text}");
        assert!(text.chars().count() <= 2 * MAX_SHOWN + 2, "{}", text.len());
        assert!(
            text.contains("; the record of the member 1 cannot be read (x"),
            "{text}"
        );
    }
}
