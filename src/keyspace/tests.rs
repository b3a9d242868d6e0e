//! Every kind of key and where it belongs, and that spans never leave one out.

mod facts;

use proptest::prelude::*;

use super::*;
use crate::types::KeyRange;

fn below(prefixes: &[&str]) -> KeySpace {
    KeySpace::new(
        prefixes
            .iter()
            .map(|prefix| EtcdPrefix::parse(prefix).unwrap())
            .collect(),
    )
    .unwrap()
}

/// The place in short: `secrets`, `pandas.bears.example`, or what else it is.
fn place(keyspace: &KeySpace, key: impl AsRef<[u8]>) -> String {
    match keyspace.classify(key.as_ref()) {
        Place::Resource { group, resource } => GroupResource::new(group, resource).to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn keys_are_named_as_kube_apiserver_lays_them_out() {
    let registry = below(&["/registry"]);
    for (key, expected) in [
        ("/registry/secrets/default/a", "secrets"),
        ("/registry/secrets/", "secrets"),
        ("/registry/secrets", "secrets"),
        ("/registry/events/default/a.17", "events"),
        ("/registry/deployments/default/a", "deployments.apps"),
        ("/registry/leases/kube-system/a", "leases.coordination.k8s.io"),
        ("/registry/controllers/default/a", "replicationcontrollers"),
        ("/registry/services/specs/default/a", "services"),
        ("/registry/services/endpoints/default/a", "endpoints"),
        ("/registry/services/specs", "services"),
        ("/registry/minions/a", "nodes"),
        ("/registry/ingress/default/a", "ingresses.networking.k8s.io"),
        ("/registry/podsecuritypolicy/a", "podsecuritypolicies.policy"),
        (
            "/registry/apiextensions.k8s.io/customresourcedefinitions/pandas.bears.example",
            "customresourcedefinitions.apiextensions.k8s.io",
        ),
        (
            "/registry/apiregistration.k8s.io/apiservices/v1.",
            "apiservices.apiregistration.k8s.io",
        ),
        (
            "/registry/awesome.bears.example/pandas/default/a",
            "pandas.awesome.bears.example",
        ),
        ("/registry/awesome.bears.example/pandas", "pandas.awesome.bears.example"),
        ("/registry/bears.example/secrets/a", "secrets.bears.example"),
    ] {
        assert_eq!(place(&registry, key), expected, "{key}");
    }
}

#[test]
fn what_only_looks_like_a_resource_is_none() {
    let registry = below(&["/registry"]);
    for key in [
        "/registry/",
        "/registry//secrets/a",
        "/registry/secretsfoo/x",
        "/registry/Secrets/x",
        "/registry/secrets\0/x",
        // Names whose keys lie elsewhere, and groups that are no path.
        "/registry/services",
        "/registry/services/",
        "/registry/services/specsfoo/a",
        "/registry/endpoints/default/a",
        "/registry/nodes/a",
        "/registry/apps/deployments/default/a",
        // A group without a resource.
        "/registry/bears.example",
        "/registry/bears.example/",
        "/registry/bears.example//a",
    ] {
        assert_eq!(place(&registry, key), "Unlisted", "{key}");
    }
    assert_eq!(place(&registry, b"/registry/bears.\xff/pandas/a"), "Unlisted");
    assert_eq!(place(&registry, b"/registry/bears.example/p\xff/a"), "Unlisted");
    assert_eq!(place(&registry, b"/registry/secrets/\xff/\0"), "secrets");
    for key in [
        "",
        "/",
        "/registry",
        "/registryfoo/secrets/a",
        "registry/secrets/a",
        "compact_rev_key",
    ] {
        assert_eq!(place(&registry, key), "Outside", "{key}");
    }
}

#[test]
fn kube_apiservers_own_records_are_told_from_their_neighbours() {
    let registry = below(&["/registry"]);
    for key in [
        "/registry/ranges/serviceips",
        "/registry/ranges/secondaryserviceips",
        "/registry/ranges/servicenodeports",
        "/registry/masterleases/10.0.0.1",
        "/registry/peerserverleases/a",
        "/registry/health",
    ] {
        assert_eq!(place(&registry, key), "NeverEncrypted", "{key}");
    }
    for key in [
        "/registry/ranges/serviceips/a",
        "/registry/ranges/others",
        "/registry/masterleases",
        "/registry/masterleases/",
        "/registry/peerserverleasesfoo/a",
        "/registry/healthy",
        "/registry/health/a",
    ] {
        assert_eq!(place(&registry, key), "Unlisted", "{key}");
    }
}

#[test]
fn of_several_prefixes_the_longest_counts() {
    let keyspace = below(&["/registry", "/", "/registry/secrets", "registry/", "/kubernetes.io"]);
    assert_eq!(keyspace.prefixes().len(), 4, "two ways to write a prefix are one");
    assert_eq!(place(&keyspace, "/registry/pods/a"), "pods");
    assert_eq!(place(&keyspace, "/registry/secrets/configmaps/a"), "configmaps");
    assert_eq!(place(&keyspace, "/registry/secrets"), "secrets");
    assert_eq!(place(&keyspace, "/kubernetes.io/routes/a"), "Unlisted");
    assert_eq!(place(&keyspace, "/kubernetes.io"), "Unlisted");
    assert_eq!(place(&keyspace, "/secrets/a"), "secrets");
    assert_eq!(place(&keyspace, "/"), "Unlisted");
    assert_eq!(place(&keyspace, "secrets/a"), "Outside");
    assert_eq!(KeySpace::new(vec![]), Err(Error::NoPrefix));
}

#[test]
fn a_resource_that_no_key_can_have_has_no_span() {
    let registry = below(&["/registry"]);
    let spans = |group: &str, resource: &str| {
        registry
            .spans_of(Scope::Resource(&GroupResource::new(group, resource)))
            .len()
    };
    assert_eq!((spans("", "secret"), spans("extensions", "deployments")), (0, 0));
    assert_eq!((spans("", "secrets"), spans("bears.example", "pandas")), (2, 2));
    // Built in, but a key that names its group would be its too.
    assert_eq!(spans("networking.k8s.io", "ingresses"), 4);
    assert_eq!(registry.spans_of(Scope::Group("nonsense")), vec![]);
}

#[test]
fn the_front_of_a_key_ends_with_the_path_of_its_resource() {
    let registry = below(&["/registry"]);
    for (key, expected) in [
        ("/registry/secrets/default/a", "/registry/secrets/"),
        ("/registry/secrets", ""),
        ("/registry/services/specs/default/a", "/registry/services/specs/"),
        ("/registry/services/specs", ""),
        ("/registry/a.b/pandas/default/a", "/registry/a.b/pandas/"),
        ("/registry/a.b/pandas", ""),
        ("/registry/unknown/x/y", ""),
        ("/registry/ranges/serviceips", ""),
        ("/elsewhere/secrets/a", ""),
    ] {
        let (_, front) = registry.classify_with_front(key.as_bytes());
        assert_eq!(front, expected.as_bytes(), "{key}");
    }
    // A key below it may be of the longer prefix.
    let nested = below(&["/registry", "/registry/secrets/x"]);
    assert_eq!(nested.classify_with_front(b"/registry/secrets/default/a").1, b"");
    assert_eq!(
        nested.classify_with_front(b"/registry/pods/default/a").1,
        b"/registry/pods/"
    );
}

/// Keys of bytes and segments that matter here, in any order.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    let segments = [
        "registry",
        "secrets",
        "services",
        "specs",
        "ranges",
        "serviceips",
        "apps",
        "a.b",
        "x",
        ".",
    ];
    let piece = prop_oneof![
        4 => Just(b"/".to_vec()),
        4 => proptest::sample::select(segments.map(|segment| segment.as_bytes().to_vec()).to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..3),
    ];
    (any::<bool>(), proptest::collection::vec(piece, 0..8))
        .prop_map(|(under, pieces)| [if under { b"/registry/".as_slice() } else { b"" }, &pieces.concat()].concat())
}

proptest! {
    #[test]
    fn every_built_in_is_found_again_under_its_own_path(
        prefix in "(/[a-z.]{1,6}){0,3}", index in 0..builtins().count(), rest in "(/[a-z0-9.-]{0,9}){0,3}",
    ) {
        let builtin = builtins().nth(index).unwrap();
        let keyspace = below(&[&format!("/{prefix}")]);
        let key = [keyspace.prefixes()[0].join(builtin.path), rest.into_bytes()].concat();
        let Place::Resource { group, resource } = keyspace.classify(&key) else {
            return Err(TestCaseError::fail(format!("{} has no resource", key.escape_ascii())));
        };
        prop_assert_eq!((group, resource), (builtin.group, builtin.resource));
    }

    #[test]
    fn every_key_is_within_the_spans_of_its_resource_its_group_and_everything(key in any_key()) {
        let keyspace = below(&["/", "/registry", "/registry/x"]);
        let holds = |scope| keyspace.spans_of(scope).iter().any(|span| span.meets(&KeyRange::One(&key)));
        match keyspace.classify(&key) {
            Place::Outside => prop_assert!(!holds(Scope::Everything)),
            Place::Unlisted | Place::NeverEncrypted => prop_assert!(holds(Scope::Everything)),
            Place::Resource { group, resource } => {
                let named = GroupResource::new(group, resource);
                prop_assert!(holds(Scope::Resource(&named)));
                prop_assert!(holds(Scope::Group(group)) && holds(Scope::Everything));
            }
        }
    }

    /// What comes behind the front, and whether there is a prefix of its own below it, is nothing to the front.
    #[test]
    fn every_key_with_the_same_front_has_the_same_place(
        key in any_key(), rest in any_key(), many: bool,
    ) {
        let prefixes: &[&str] = &["/registry", "/", "/registry/secrets/x", "/registry/a.b/x/x", "/registry/services/specs"];
        let keyspace = below(if many { prefixes } else { &["/registry"] });
        let (found, front) = keyspace.classify_with_front(&key);
        prop_assert_eq!(found, keyspace.classify(&key));
        prop_assert!(key.starts_with(front));
        if !front.is_empty() {
            prop_assert_eq!(place(&keyspace, [front, &rest].concat()), place(&keyspace, &key));
        }
    }

    #[test]
    fn below_the_root_prefix_every_key_with_a_slash_in_front_has_a_place(key in any_key()) {
        let outside = below(&["/"]).classify(&key) == Place::Outside;
        prop_assert_eq!(outside, !key.starts_with(b"/"));
    }
}
