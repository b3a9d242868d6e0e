//! The rules for resources: alone, in one list, and between entries.

use super::{HEAD, accepted, refusal};

const DUPLICATE: &str = "the same resource cannot be specified multiple times";
const OVERLAP: &str = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";

/// One entry for each list of resources.
fn entries(lists: &[&[&str]]) -> String {
    let entries: Vec<String> = lists
        .iter()
        .map(|list| {
            let list: Vec<String> = list.iter().map(|resource| format!("{resource:?}")).collect();
            format!("- resources: [{}]\n  providers: [identity: {{}}]\n", list.join(", "))
        })
        .collect();
    format!("{HEAD}resources:\n{}", entries.concat())
}

#[test]
fn a_resource_breaks_the_first_rule_that_it_breaks() {
    let capitals = "resource name should not contain capital letters";
    let star = "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources";
    let no_api = "resources which do not have REST API/s cannot be encrypted";
    let events = "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in \
                  the config file";
    let extensions = "'extensions' group has been removed and cannot be used for encryption";
    let across = "encrypting the same resource across groups is not supported";
    for (resource, message) in [
        ("apiServerIPInfo", capitals),
        ("secrets.Apps", capitals),
        ("İ", capitals),
        ("*", star),
        ("apiserveripinfo", no_api),
        ("serviceipallocations", no_api),
        ("servicenodeportallocations", no_api),
        ("events.events.k8s.io", events),
        ("*.events.k8s.io", events),
        ("*.extensions", extensions),
        ("foo.extensions", extensions),
        ("foos.*", across),
        (".*", across),
    ] {
        assert_eq!(
            refusal(&entries(&[&["pods.a", resource]])),
            format!("4:25: resources[0].resources[1]: Invalid value: {resource:?}: {message}")
        );
    }
}

#[test]
fn what_kube_apiserver_lets_pass_is_accepted() {
    for list in [
        &["secrets"][..],
        &["events", "configmaps."],
        &["*.apps", "*."],
        &["deployments.apps", "*."],
        &["*.*"],
        &["*.apps", "*.batch"],
        &["apiserveripinfo.example.com", "foo.events.k8s.io.example"],
        &["a..b", "1", "$", "é", ""],
    ] {
        accepted(&entries(&[list]));
    }
}

#[test]
fn one_list_holds_nothing_twice_and_nothing_that_masks() {
    for (list, details) in [
        (&["secrets", "secrets"][..], &[DUPLICATE][..]),
        (&["secrets", "pods", "secrets."], &[DUPLICATE]),
        (&["a.b", "a.b", "a.b"], &[DUPLICATE]),
        (&["*.apps", "*.", "*.*"], &[OVERLAP]),
        (&["deployments.apps", "*.apps"], &[OVERLAP]),
        (&["*.", "secrets"], &[OVERLAP]),
        (&["secrets", "*.*"], &[OVERLAP]),
        (&["*.apps", "*.apps"], &[DUPLICATE, OVERLAP]),
        (&["*.*", "*.*"], &[DUPLICATE, OVERLAP]),
    ] {
        let quoted: Vec<String> = list.iter().map(|resource| format!("{resource:?}")).collect();
        let value = format!("[]string{{{}}}", quoted.join(", "));
        let messages: Vec<String> = details
            .iter()
            .map(|detail| format!("4:14: resources[0].resources: Invalid value: {value}: {detail}"))
            .collect();
        assert_eq!(refusal(&entries(&[list])), messages.join("\n"));
    }
}

/// A lone `*` is the core group's wildcard to the rules for lists, though it is refused for itself.
#[test]
fn a_lone_star_counts_as_the_core_group() {
    let messages = refusal(&entries(&[&["*", "*."]]));
    let details: Vec<&str> = messages.lines().filter_map(|line| line.rsplit(": ").next()).collect();
    assert_eq!(
        details,
        [
            DUPLICATE,
            OVERLAP,
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        ]
    );
}

#[test]
fn an_earlier_wildcard_masks_and_a_later_one_does_not() {
    let masked = |place: &str, resource: &str, rule: &str| {
        format!(
            "{place}: error while building transformers: resource \"{resource}\" is masked by earlier rule \"{rule}\""
        )
    };
    for (lists, messages) in [
        (
            &[&["*."][..], &["pods", "secrets"]][..],
            vec![masked("6:15", "pods", "*."), masked("6:23", "secrets", "*.")],
        ),
        (
            &[&["*.apps"], &["deployments.apps"]],
            vec![masked("6:15", "deployments.apps", "*.apps")],
        ),
        (&[&["*.*"], &["secrets"]], vec![masked("6:15", "secrets", "*.*")]),
        (&[&["*.*"], &["*.apps"]], vec![masked("6:15", "*.apps", "*.*")]),
        (&[&["*.*"], &["*.*"]], vec![masked("6:15", "*.*", "*.*")]),
        (&[&["*."], &["*."]], vec![masked("6:15", "*.", "*.")]),
        // Both mask it; the group is named.
        (
            &[&["*."], &["*.*"], &["secrets"]],
            vec![masked("8:15", "secrets", "*.")],
        ),
    ] {
        assert_eq!(refusal(&entries(lists)), messages.join("\n"));
    }
    for lists in [
        &[&["secrets"][..], &["*."], &["*.*"]][..],
        &[&["secrets"], &["secrets"]],
        &[&["*."], &["deployments.apps"], &["*.apps"]],
    ] {
        accepted(&entries(lists));
    }
}
