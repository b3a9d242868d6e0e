//! The one rule between entries: an earlier wildcard leaves a later one of its resources without effect, which
//! kube-apiserver refuses when it builds its transformers, after validation.

use std::collections::HashSet;

use super::{
    error::{Error, Problems},
    go::quote,
    model::ResourceSelector,
    schema::Document,
    validate::parse_resource,
};

/// Refuses each resource that an entry before its own masks. Within one entry validation has seen to it.
pub(super) fn check(document: &Document<'_>) -> Result<(), Error> {
    let mut problems = Problems::default();
    let mut wildcards: HashSet<ResourceSelector> = HashSet::new();
    for rule in &document.value {
        for resource in &rule.resources.value {
            let selector = parse_resource(resource.value);
            let group = match &selector {
                ResourceSelector::Exact(exact) => Some(ResourceSelector::Group(exact.group.clone())),
                ResourceSelector::Group(group) => Some(ResourceSelector::Group(group.clone())),
                ResourceSelector::All => None,
            };
            let masks = group
                .into_iter()
                .chain([ResourceSelector::All])
                .find(|earlier| wildcards.contains(earlier));
            if let Some(earlier) = masks {
                problems.push(resource.at, || {
                    let (masked, earlier) = (quote(&selector.to_string()), quote(&earlier.to_string()));
                    format!("error while building transformers: resource {masked} is masked by earlier rule {earlier}")
                });
            }
            if !matches!(selector, ResourceSelector::Exact(_)) {
                wildcards.insert(selector);
            }
        }
    }
    problems.or(())
}
