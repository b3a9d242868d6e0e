//! The syntax of resources, and the rules within one list of them. What one entry does to another is not looked at here.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use crate::{
    config::{
        error::Problems,
        go::quote,
        model::ResourceSelector,
        path::Path,
        schema::{List, Text},
    },
    types::GroupResource,
};

/// What `text` selects: its group is what follows the first dot.
///
/// `secrets.` is the same as `secrets`. A lone `*` and `name.*` are no wildcards; validation refuses both.
pub(in crate::config) fn parse_resource(text: &str) -> ResourceSelector {
    match split(text) {
        ("*", "*") => ResourceSelector::All,
        ("*", group) if text != "*" => ResourceSelector::Group(group.to_owned()),
        (resource, group) => ResourceSelector::Exact(GroupResource::new(group, resource)),
    }
}

/// As in the `resources` of a configuration, and refused for the same reasons.
impl FromStr for ResourceSelector {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match problem_of(text) {
            None if text.is_empty() => Err("a resource has a name"),
            None => Ok(parse_resource(text)),
            Some(problem) => Err(problem),
        }
    }
}

/// The selectors of `list`.
pub(super) fn validate_resources(
    list: &List<Text<'_>>,
    path: Path<'_>,
    problems: &mut Problems,
) -> Vec<ResourceSelector> {
    if list.value.is_empty() {
        let detail = format_args!("at least one {path} is required");
        problems.push(list.at, || path.required(detail));
    }
    let selectors: Vec<ResourceSelector> = list
        .value
        .iter()
        .map(|resource| parse_resource(resource.value))
        .collect();
    let mut refuse_list = |detail| problems.push(list.at, || path.invalid(quote_list(&list.value), detail));
    if has_duplicate(&list.value) {
        refuse_list("the same resource cannot be specified multiple times");
    }
    if has_overlap(&list.value) {
        refuse_list(
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they \
             will be masked",
        );
    }
    for (index, resource) in list.value.iter().enumerate() {
        if let Some(detail) = problem_of(resource.value) {
            problems.push(resource.at, || {
                path.element(index).invalid(quote(resource.value), detail)
            });
        }
    }
    selectors
}

/// The first rule that a single resource breaks.
fn problem_of(text: &str) -> Option<&'static str> {
    let (resource, group) = split(text);
    Some(if text.chars().any(is_capital) {
        "resource name should not contain capital letters"
    } else if text == "*" {
        "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    } else if matches!(
        text,
        "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations"
    ) {
        "resources which do not have REST API/s cannot be encrypted"
    } else if group == "events.k8s.io" {
        "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config \
         file"
    } else if group == "extensions" {
        "'extensions' group has been removed and cannot be used for encryption"
    } else if group == "*" && resource != "*" {
        "encrypting the same resource across groups is not supported"
    } else {
        return None;
    })
}

fn is_capital(character: char) -> bool {
    !character.to_lowercase().eq([character])
}

/// Resource and group. The group is what follows the first dot.
fn split(text: &str) -> (&str, &str) {
    text.split_once('.').unwrap_or((text, ""))
}

fn has_duplicate(list: &[Text<'_>]) -> bool {
    let mut seen = HashSet::new();
    !list.iter().all(|text| seen.insert(split(text.value)))
}

/// Whether any element may mask another: `*.*` beside anything, or a wildcard beside anything of its group, itself once
/// more included.
fn has_overlap(list: &[Text<'_>]) -> bool {
    let parts = || list.iter().map(|text| split(text.value));
    let mut of_group: HashMap<&str, usize> = HashMap::new();
    for (_, group) in parts() {
        *of_group.entry(group).or_default() += 1;
    }
    parts().any(|(resource, group)| {
        resource == "*" && (of_group.get(group).is_some_and(|&count| count > 1) || (group == "*" && list.len() > 1))
    })
}

/// The list as Go prints it.
fn quote_list(list: &[Text<'_>]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text.value)).collect();
    format!("[]string{{{}}}", quoted.join(", "))
}
