//! What a step is decided by: the record, the configuration, and what the live members have loaded. Pure.

use super::record::Record;
use super::stores::{Beside, User};
use crate::config::{EncryptionConfiguration, KeyId, Provider, ProviderType, Writer};
use crate::members::{Dissent, Loaded, Member, Roster, StoreId};

/// The facts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What etcd keeps of the rotation.
    pub record: Record,
    /// The configuration, where its source has it now.
    pub config: EncryptionConfiguration,
    /// What operators call that source.
    pub source: String,
    /// Where this process takes Kubernetes' keys to begin.
    pub prefixes: Vec<String>,
    /// Where it takes resources of the configuration to lie, as far as not every process knows it.
    pub paths: Vec<String>,
    /// Everybody who is alive, members of the other stores included; its revision is one of this store.
    pub roster: Roster,
    /// Which store this is; `None` where no process of a version that says so has ever served it.
    pub store: Option<StoreId>,
    /// What operators call it.
    pub servers: String,
    /// The other stores that the command was told of.
    pub beside: Vec<Beside>,
    /// The stores that the configuration is used for and that the command was not told of.
    pub strangers: Vec<User>,
    /// Whether etcd's history before the record's proof is gone; false where there is no proof.
    pub is_history_gone: bool,
}

/// Two that have not loaded the same, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The source, or a member.
    pub one: String,
    /// A member.
    pub other: String,
    /// In what they differ, for people.
    pub dissent: Dissent,
}

impl Facts {
    /// What every member should have loaded: this configuration, and the KMS key IDs that the first one has.
    fn expected(&self) -> Loaded {
        let first = self.roster.members().next();
        Loaded {
            configuration: self.config.fingerprint.to_string(),
            prefixes: self.prefixes.clone(),
            paths: self.paths.clone(),
            kms: first.map_or_else(Default::default, |member| member.loaded.kms.clone()),
        }
    }

    /// Who has not loaded this configuration; `None` if everybody has, or nobody is there.
    pub fn dissent(&self) -> Option<Dissent> {
        self.roster.dissent(&self.expected())
    }

    /// The same, with the names of two that differ.
    pub fn mismatch(&self) -> Option<Mismatch> {
        let expected = self.expected();
        let dissent = self.roster.dissent(&expected)?;
        let named = |is_wanted: &dyn Fn(&Member) -> bool| {
            let mut members = self.roster.members().filter(|member| is_wanted(member));
            members.next().map(|member| member.name.clone())
        };
        let same = named(&|member| member.loaded == expected);
        let unreadable = || self.roster.entries().find(|(_, member)| member.is_err());
        let other = named(&|member| member.loaded != expected);
        Some(Mismatch {
            one: same.unwrap_or_else(|| self.source.clone()),
            other: other
                .or_else(|| unreadable().map(|(id, _)| id.to_owned()))
                .unwrap_or_default(),
            dissent,
        })
    }

    /// The first member that has not shown that it reads with `keys` wherever this configuration does.
    pub fn cannot_read(&self, keys: &[KeyId]) -> Option<String> {
        let loaded = self.config.fingerprint.to_string();
        let is_behind = |member: &Member| member.loaded.configuration != loaded && !self.reads(member, keys);
        self.roster.entries().find_map(|(id, member)| match member {
            Ok(member) if is_behind(member) => Some(member.name.clone()),
            Ok(_) => None,
            Err(_) => Some(id.to_owned()),
        })
    }

    /// Who has not said that every KMS plugin among `keys` has wrapped something for it and given it back.
    pub fn without_round_trip(&self, keys: &[KeyId]) -> Option<Dissent> {
        let plugins = keys.iter().filter_map(|key| match key.provider {
            ProviderType::Kms(version) => Some((version, key.name.clone())),
            _ => None,
        });
        self.roster.without_round_trip(&plugins.collect::<Vec<_>>())
    }

    fn reads(&self, member: &Member, keys: &[KeyId]) -> bool {
        self.config.rules().into_iter().all(|(selector, providers)| {
            let resources = selector.to_string();
            let rule = member.rules.iter().find(|rule| rule.resources == resources);
            let has_all = keys.iter().all(|key| {
                let name = match key.provider {
                    // Its name is that of an entry's resources, and no reader's.
                    ProviderType::Identity if key.lays_bare(&resources) => "",
                    ProviderType::Kms(_) => key.name.as_str(),
                    ProviderType::Identity | ProviderType::Keys(_) => return true,
                };
                let is_listed = providers.iter().any(|provider| provider.is_of(key));
                let mut reads = rule.iter().flat_map(|rule| &rule.reads);
                !is_listed || reads.any(|read| read.provider == key.provider.as_str() && read.name == name)
            });
            let listed = providers.into_iter().flat_map(Provider::key_prints);
            let mut listed = listed.filter(|(key, _)| keys.contains(key));
            has_all
                && listed.all(|(key, print)| {
                    rule.is_some_and(|rule| {
                        let mut reads = rule.reads.iter();
                        reads.any(|read| {
                            let has_name = read.provider == key.provider.as_str() && read.name == key.name.as_str();
                            // Records of earlier versions do not say.
                            has_name && read.print.as_ref().is_none_or(|own| *own == print)
                        })
                    })
                })
        })
    }

    /// Whether any entry encrypts what it writes.
    pub fn is_enabled(&self) -> bool {
        self.config.writers().iter().any(|writer| *writer != Writer::Identity)
    }
}
