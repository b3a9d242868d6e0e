//! Where kube-apiserver keeps its built-in resources, 1.20 to 1.37: the one table, its exceptions, and the records that
//! are no resource.

use std::fmt;

use crate::types::GroupResource;

/// A resource that kube-apiserver itself serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// Where its keys lie below the prefix: one segment without a dot, or two.
    pub path: &'static str,
    /// API group, empty for core.
    pub group: &'static str,
    /// Plural name.
    pub resource: &'static str,
}

impl BuiltIn {
    /// Whether this is the resource that `wanted` names.
    pub fn is(&self, wanted: &GroupResource) -> bool {
        self.group == wanted.group && self.resource == wanted.resource
    }
}

/// As Kubernetes writes it: `secrets`, `deployments.apps`.
impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{}", self.resource, self.group)
    }
}

/// Every built-in resource, in no order; no path comes twice.
pub fn builtins() -> impl Iterator<Item = BuiltIn> {
    GROUPS.iter().flat_map(|&(group, resources)| {
        resources.iter().map(move |&resource| BuiltIn {
            path: irregular_path(group, resource).unwrap_or(resource),
            group,
            resource,
        })
    })
}

/// Resources of its own that kube-apiserver keeps where those of a custom group would lie, under their group's name.
pub(super) const BY_GROUP: [(&str, &str); 2] = [
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
];

/// What version 0.1 did not list. A process of that version seals none of it under a rule of its own, so a member's record says
/// where it does ([`super::KeySpace::beyond`]). Whatever is added to the tables is added here.
pub(super) fn is_newer(builtin: &BuiltIn) -> bool {
    matches!(
        (builtin.group, builtin.resource),
        ("lifecycle.k8s.io", _) | ("scheduling.k8s.io", "compositepodgroups")
    ) || builtin.group.ends_with(".openshift.io")
}

/// Whether kube-apiserver reads and writes `path`, the part of a key behind the prefix, past all transformers, whatever
/// the configuration says: allocations of service addresses and ports, the leases of API servers, and the health probe.
///
/// Before 1.26 a rule for `services` covered the allocations too. An upgrade would have left those unreadable, so what
/// lies there today is plaintext.
pub(super) fn is_never_encrypted(path: &[u8]) -> bool {
    let below = |parent: &[u8]| path.strip_prefix(parent).is_some_and(|name| !name.is_empty());
    match path.first() {
        Some(b'r') => {
            matches!(
                path,
                b"ranges/serviceips" | b"ranges/secondaryserviceips" | b"ranges/servicenodeports"
            )
        }
        Some(b'm') => below(b"masterleases/"),
        Some(b'p') => below(b"peerserverleases/"),
        Some(b'h') => path == b"health",
        _ => false,
    }
}

/// What [`is_never_encrypted`] by what its path begins with, and by its whole path.
pub(super) const OWN_FOLDERS: [&str; 2] = ["masterleases/", "peerserverleases/"];
pub(super) const OWN_RECORDS: [&str; 4] = [
    "health",
    "ranges/secondaryserviceips",
    "ranges/servicenodeports",
    "ranges/serviceips",
];

/// First segments of all that is never encrypted.
pub(super) const OWN: [&str; 4] = ["health", "masterleases", "peerserverleases", "ranges"];

/// The resources that are stored, by the group whose rule covers them. A resource that two groups serve is here under
/// the one that it is stored as: `events` of events.k8s.io are core events, and what was once of `extensions` is of the
/// group that took it over.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "replicationcontrollers",
            "resourcequotas",
            "secrets",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "deployments",
            "replicasets",
            "statefulsets",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    (
        "certificates.k8s.io",
        &[
            "certificatesigningrequests",
            "clustertrustbundles",
            "podcertificaterequests",
        ],
    ),
    ("coordination.k8s.io", &["leasecandidates", "leases"]),
    ("discovery.k8s.io", &["endpointslices"]),
    (
        "flowcontrol.apiserver.k8s.io",
        &["flowschemas", "prioritylevelconfigurations"],
    ),
    ("internal.apiserver.k8s.io", &["storageversions"]),
    ("lifecycle.k8s.io", &["evictionrequests", "evictions"]),
    (
        "networking.k8s.io",
        // clustercidrs: 1.25 to 1.28 only.
        &[
            "clustercidrs",
            "ingressclasses",
            "ingresses",
            "ipaddresses",
            "networkpolicies",
            "servicecidrs",
        ],
    ),
    ("node.k8s.io", &["runtimeclasses"]),
    // podsecuritypolicies: up to 1.24.
    ("policy", &["poddisruptionbudgets", "podsecuritypolicies"]),
    (
        "rbac.authorization.k8s.io",
        &["clusterrolebindings", "clusterroles", "rolebindings", "roles"],
    ),
    (
        "resource.k8s.io",
        &[
            "deviceclasses",
            "devicetaintrules",
            "resourceclaims",
            "resourceclaimtemplates",
            "resourcepoolstatusrequests",
            "resourceslices",
            // Of older alpha versions.
            "podschedulingcontexts",
            "resourceclaimparameters",
            "resourceclasses",
            "resourceclassparameters",
        ],
    ),
    (
        "scheduling.k8s.io",
        &["compositepodgroups", "podgroups", "priorityclasses", "workloads"],
    ),
    (
        "storage.k8s.io",
        &[
            "csidrivers",
            "csinodes",
            "csistoragecapacities",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ],
    ),
    ("storagemigration.k8s.io", &["storageversionmigrations"]),
];

/// The path of a built-in resource that does not lie under its own name, as the first releases laid them out.
fn irregular_path(group: &str, resource: &str) -> Option<&'static str> {
    Some(match (group, resource) {
        ("", "replicationcontrollers") => "controllers",
        ("", "endpoints") => "services/endpoints",
        ("", "services") => "services/specs",
        ("", "nodes") => "minions",
        ("networking.k8s.io", "ingresses") => "ingress",
        ("policy", "podsecuritypolicies") => "podsecuritypolicy",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// What telling custom from built-in resources by the first segment's dot rests on.
    #[test]
    fn no_path_has_a_dot_in_its_first_segment_and_none_comes_twice() {
        let mut paths = HashSet::new();
        for BuiltIn { path, .. } in builtins() {
            assert!(
                path.split('/').next().is_some_and(|first| !first.contains('.')),
                "{path}"
            );
            assert!(paths.insert(path), "{path} comes twice");
        }
        assert_eq!(paths.len(), 74);
    }

    /// A path that is the first segment of another's would make the shorter one win.
    #[test]
    fn no_path_lies_below_another() {
        let paths: Vec<_> = builtins().map(|builtin| builtin.path).collect();
        for (path, other) in paths
            .iter()
            .flat_map(|path| paths.iter().map(move |other| (path, other)))
        {
            assert!(
                path == other || !other.starts_with(&format!("{path}/")),
                "{other} lies below {path}"
            );
        }
    }
}
