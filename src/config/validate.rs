//! kube-apiserver's rules for an EncryptionConfiguration, in its order, with its field paths and words. Every problem is
//! collected; no secret is in any.

mod keys;
mod kms;
mod resources;

use std::collections::HashSet;

use keys::{AES_LENGTHS, SECRETBOX_LENGTHS, validate_keys};
use kms::validate_kms;
use resources::validate_resources;

pub(super) use resources::parse_resource;

use super::{
    error::{Error, Problems},
    model::{Entry, Provider},
    path::Path,
    schema::{Document, ProviderFields, Rule},
};

/// The entries that the document describes, if it breaks no rule. `reload` makes the names of all KMS providers unique.
pub(super) fn validate(document: &Document<'_>, reload: bool) -> Result<Vec<Entry>, Error> {
    let mut validator = Validator {
        reload,
        problems: Problems::default(),
        kms_names: HashSet::new(),
    };
    let path = Path::Root.field("resources");
    let entries = if document.value.is_empty() {
        validator
            .problems
            .push(document.at, || path.required("at least one resources is required"));
        Vec::new()
    } else {
        let rules = document.value.iter().enumerate();
        rules
            .map(|(index, rule)| validator.rule(rule, path.element(index)))
            .collect()
    };
    validator.problems.or(entries)
}

struct Validator<'d> {
    reload: bool,
    problems: Problems,
    /// Of all KMS providers so far, whatever their version.
    kms_names: HashSet<&'d str>,
}

impl<'d> Validator<'d> {
    fn rule(&mut self, rule: &Rule<'d>, path: Path<'_>) -> Entry {
        let resources = validate_resources(&rule.resources, path.field("resources"), &mut self.problems);
        let path = path.field("providers");
        if rule.providers.value.is_empty() {
            let detail = format_args!("at least one {path} is required");
            self.problems.push(rule.providers.at, || path.required(detail));
        }
        let providers = rule.providers.value.iter().enumerate();
        Entry {
            resources,
            providers: providers
                .filter_map(|(index, fields)| self.provider(fields, path.element(index)))
                .collect(),
        }
    }

    /// The provider, unless it has problems. Where an element has several, kube-apiserver looks into one of them.
    fn provider(&mut self, fields: &ProviderFields<'d>, path: Path<'_>) -> Option<Provider> {
        self.exactly_one(fields, path);
        if let Some(kms) = &fields.kms {
            let kms = validate_kms(
                kms,
                path.field("kms"),
                &mut self.kms_names,
                self.reload,
                &mut self.problems,
            );
            return kms.map(Provider::Kms);
        }
        let mut keys = |name, list, lengths| {
            let path = path.field(name);
            validate_keys(list, path.field("keys"), lengths, &mut self.problems)
        };
        if let Some(list) = &fields.aesgcm {
            let keys = keys("aesgcm", list, AES_LENGTHS);
            return Some(Provider::AesGcm { keys });
        }
        if let Some(list) = &fields.aescbc {
            let keys = keys("aescbc", list, AES_LENGTHS);
            return Some(Provider::AesCbc { keys });
        }
        if let Some(list) = &fields.secretbox {
            let keys = keys("secretbox", list, SECRETBOX_LENGTHS);
            return Some(Provider::Secretbox { keys });
        }
        fields.identity.then_some(Provider::Identity)
    }

    fn exactly_one(&mut self, fields: &ProviderFields<'_>, path: Path<'_>) {
        let names: Vec<&str> = [
            ("kms", fields.kms.is_some()),
            ("aesgcm", fields.aesgcm.is_some()),
            ("aescbc", fields.aescbc.is_some()),
            ("secretbox", fields.secretbox.is_some()),
            ("identity", fields.identity),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect();
        let detail = match names.len() {
            1 => return,
            0 => "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity",
            _ => "more than one provider specified in a single element, should split into different list elements",
        };
        // kube-apiserver prints the element as a Go structure here, addresses in memory included.
        self.problems.push(fields.at, || {
            path.invalid(format_args!("{{{}}}", names.join(", ")), detail)
        });
    }
}
