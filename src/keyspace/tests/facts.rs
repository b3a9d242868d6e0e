//! The tables against Kubernetes' and OpenShift's own lists of etcd keys, and what is assumed beyond them.

use std::collections::BTreeSet;

use super::*;

/// One line of a list: of which resource objects are stored, and where one of them lies.
#[derive(Clone, Copy, Debug)]
struct Fact {
    group: &'static str,
    resource: &'static str,
    key: &'static str,
}

const KUBERNETES: [&str; 6] = [
    include_str!("../../../tests/keyspace/kubernetes-1.20.15.tsv"),
    include_str!("../../../tests/keyspace/kubernetes-1.27.16.tsv"),
    include_str!("../../../tests/keyspace/kubernetes-1.30.14.tsv"),
    include_str!("../../../tests/keyspace/kubernetes-1.31.14.tsv"),
    include_str!("../../../tests/keyspace/kubernetes-1.34.4.tsv"),
    include_str!("../../../tests/keyspace/kubernetes-1.37.2.tsv"),
];
const OPENSHIFT: &str = include_str!("../../../tests/keyspace/openshift-4.20.tsv");

fn facts(list: &'static str) -> Vec<Fact> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [_, resource, stored, key] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line:?} is no fact")
            };
            // A project is a namespace that another group shows.
            let resource = if key.contains("/namespaces/") {
                "namespaces"
            } else {
                resource
            };
            Fact {
                group: stored,
                resource,
                key,
            }
        })
        .collect()
}

fn is_found(keyspace: &KeySpace, fact: Fact) -> bool {
    let named = GroupResource::new(fact.group, fact.resource);
    let key = KeyRange::One(fact.key.as_bytes());
    let spans = keyspace.spans_of(Scope::Resource(&named));
    place(keyspace, fact.key) == named.to_string() && spans.iter().any(|span| span.meets(&key))
}

#[test]
fn every_resource_of_kubernetes_is_found_where_kubernetes_keeps_it() {
    let registry = below(&["/registry"]);
    for list in KUBERNETES {
        let facts = facts(list);
        assert!(facts.len() > 50);
        for fact in facts {
            assert!(is_found(&registry, fact), "{fact:?}: {}", place(&registry, fact.key));
        }
    }
}

#[test]
fn nothing_is_taken_for_a_built_in_that_no_release_has() {
    let known: BTreeSet<_> = KUBERNETES
        .into_iter()
        .flat_map(facts)
        .map(|fact| (fact.group, fact.resource))
        .collect();
    let unknown: Vec<_> = builtins()
        .filter(|builtin| !known.contains(&(builtin.group, builtin.resource)))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_resource_of_openshift_is_found_where_openshift_keeps_it() {
    let both = below(&["/kubernetes.io", "/openshift.io"]);
    let listed = facts(OPENSHIFT);
    for fact in &listed {
        assert!(is_found(&both, *fact), "{fact:?}: {}", place(&both, fact.key));
    }
    let known: BTreeSet<_> = listed.iter().map(|fact| (fact.group, fact.resource)).collect();
    for builtin in openshift::openshift() {
        assert!(known.contains(&(builtin.group, builtin.resource)), "{builtin}");
    }
    // Its own are only there, and not where somebody else has keys of such names.
    assert_eq!(place(&both, "/kubernetes.io/routes/default/a"), "Unlisted");
    assert_eq!(place(&below(&["/registry"]), "/registry/routes/default/a"), "Unlisted");
    assert_eq!(
        place(&both, "/kubernetes.io/route.openshift.io/routes/default/a"),
        "routes.route.openshift.io"
    );
    // Such a prefix may lie elsewhere.
    assert_eq!(
        place(&below(&["/a/openshift.io"]), "/a/openshift.io/oauth/accesstokens/a"),
        "oauthaccesstokens.oauth.openshift.io"
    );
}

#[test]
fn every_path_of_the_tables_is_of_exactly_one_resource() {
    let both = below(&["/kubernetes.io", "/openshift.io"]);
    let all: Vec<_> = builtins()
        .map(|builtin| ("/kubernetes.io", builtin))
        .chain(openshift::openshift().map(|builtin| ("/openshift.io", builtin)))
        .collect();
    for (prefix, BuiltIn { path, .. }) in &all {
        let key = format!("{prefix}/{path}/default/a");
        let owners = all.iter().filter(|(_, other)| {
            let named = GroupResource::new(other.group, other.resource);
            let spans = both.spans_of(Scope::Resource(&named));
            spans.iter().any(|span| span.meets(&KeyRange::One(key.as_bytes())))
        });
        assert_eq!(owners.count(), 1, "{key}");
    }
}

/// `below`, for rules about these resources.
fn ruled(prefixes: &[&str], rules: &[(&str, &str)]) -> KeySpace {
    let named: Vec<_> = rules
        .iter()
        .map(|(group, resource)| GroupResource::new(*group, *resource))
        .collect();
    below(prefixes).for_rules(named.iter().map(Scope::Resource))
}

#[test]
fn a_rule_for_what_no_table_knows_covers_both_layouts() {
    let rule = ("future.k8s.io", "widgets");
    let assumed = ruled(&["/registry"], &[rule]);
    let named = GroupResource::new(rule.0, rule.1);
    for key in [
        "/registry/widgets/default/a",
        "/registry/future.k8s.io/widgets/default/a",
    ] {
        assert_eq!(place(&assumed, key), "widgets.future.k8s.io", "{key}");
    }
    assert_eq!(assumed.guess(Scope::Resource(&named)), Guess::BothLayouts);
    assert_eq!(place(&below(&["/registry"]), "/registry/widgets/default/a"), "Unlisted");
    // The next configuration has no such rule.
    assert_eq!(place(&assumed.for_rules([]), "/registry/widgets/default/a"), "Unlisted");
    for (group, resource, guess) in [
        // No place is left for it, or it is certain where it lies.
        ("future.k8s.io", "secrets", Guess::GroupAlone),
        ("future.k8s.io", "services", Guess::GroupAlone),
        ("future.k8s.io", "ranges", Guess::GroupAlone),
        ("apiextensions.k8s.io", "customresourcedefinitions", Guess::None),
        ("apiregistration.k8s.io", "apiservices", Guess::None),
        ("scheduling.k8s.io", "priorityclasses", Guess::None),
        // Groups that are for custom resources alone, and no resource at all.
        ("x-k8s.io", "widgets", Guess::None),
        ("bears.example", "widgets", Guess::None),
        ("route.openshift.io", "widgets", Guess::None),
        ("apps", "widgets", Guess::None),
        ("", "widgets", Guess::None),
    ] {
        let with = ruled(&["/registry"], &[(group, resource)]);
        let named = GroupResource::new(group, resource);
        assert_eq!(with.guess(Scope::Resource(&named)), guess, "{named}");
        assert_eq!(with, below(&["/registry"]), "{named}");
    }
    assert_eq!(assumed.guess(Scope::Group("future.k8s.io")), Guess::KnownAlone);
    assert_eq!(assumed.guess(Scope::Group("bears.example")), Guess::None);
    assert_eq!(assumed.guess(Scope::Everything), Guess::None);
    // OpenShift's groups, below its own prefix.
    let both = ruled(&["/kubernetes.io", "/openshift.io"], &[("new.openshift.io", "widgets")]);
    assert_eq!(place(&both, "/openshift.io/widgets/a/b"), "widgets.new.openshift.io");
    assert_eq!(place(&both, "/kubernetes.io/widgets/a/b"), "Unlisted");
}

#[test]
fn of_two_of_one_name_the_first_is_looked_for_there() {
    let both = ruled(&["/registry"], &[("b.k8s.io", "widgets"), ("a.k8s.io", "widgets")]);
    assert_eq!(place(&both, "/registry/widgets/a"), "widgets.b.k8s.io");
    assert_eq!(place(&both, "/registry/a.k8s.io/widgets/a"), "widgets.a.k8s.io");
    let guess = |group: &str| both.guess(Scope::Resource(&GroupResource::new(group, "widgets")));
    assert_eq!(
        (guess("b.k8s.io"), guess("a.k8s.io")),
        (Guess::BothLayouts, Guess::GroupAlone)
    );
}

fn named(paths: &[&str]) -> Result<KeySpace, Error> {
    below(&["/registry"]).with_paths(paths.iter().map(|path| path.parse().unwrap()).collect())
}

#[test]
fn what_an_operator_names_is_found_there_and_where_it_was() {
    let keyspace = named(&["configmaps=/core/configmaps/", "widgets.apps=/widgets/"]).unwrap();
    assert_eq!(place(&keyspace, "/registry/core/configmaps/a"), "configmaps");
    assert_eq!(place(&keyspace, "/registry/configmaps/a"), "configmaps");
    assert_eq!(place(&keyspace, "/registry/widgets/a"), "widgets.apps");
    assert_eq!(place(&keyspace, "/registry/core/other/a"), "Unlisted");
    // It stays, whatever the rules are.
    assert_eq!(place(&keyspace.for_rules([]), "/registry/widgets/a"), "widgets.apps");
    // What is known already is no other thing.
    assert!(named(&["secrets=/secrets/", "a.b=/c/", "a.b=/c/"]).is_ok());
    for path in [
        "widgets.apps=/secrets/",
        "widgets.apps=/services/",
        "widgets.apps=/services/specs/",
        "widgets.apps=/secrets/below/",
        "widgets.apps=/ranges/serviceips/",
        "widgets.apps=/health/",
        "widgets.apps=/masterleases/",
    ] {
        let error = named(&[path]).unwrap_err();
        assert_eq!(error.flag(), "--resource-path");
        assert!(error.to_string().starts_with(path), "{error}");
    }
    assert!(named(&["a.b=/c/", "d.e=/c/"]).is_err());
    // A name that an operator has given to a path is nobody else's by chance.
    let resource = GroupResource::new("future.k8s.io", "widgets");
    let ruled = keyspace.for_rules([Scope::Resource(&resource)]);
    assert_eq!(place(&ruled, "/registry/widgets/a"), "widgets.apps");
}

#[test]
fn members_say_where_they_look_for_what_others_may_not_know() {
    let resource = GroupResource::new("future.k8s.io", "widgets");
    let rules = [
        Scope::Resource(&resource),
        Scope::Group("scheduling.k8s.io"),
        Scope::Everything,
    ];
    let keyspace = named(&["configmaps=/core/configmaps/"]).unwrap().for_rules(rules);
    assert_eq!(
        keyspace.beyond(rules),
        [
            "compositepodgroups.scheduling.k8s.io=/registry/compositepodgroups/",
            "widgets.future.k8s.io=/registry/widgets/",
        ]
    );
    let configmaps = GroupResource::new("", "configmaps");
    assert_eq!(
        keyspace.beyond([Scope::Resource(&configmaps)]),
        ["configmaps=/registry/core/configmaps/"]
    );
    // A record of 0.1 has nothing there, and members of both versions agree where it makes no difference.
    let secrets = GroupResource::new("", "secrets");
    assert_eq!(keyspace.beyond([Scope::Resource(&secrets), Scope::Everything]), [""; 0]);
}
