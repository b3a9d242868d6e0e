//! Where OpenShift's own API servers keep their resources: below a prefix of their own, `/openshift.io` where it was not changed,
//! beside the one of kube-apiserver, `/kubernetes.io`. OpenShift 4; what it serves as custom resources lies with kube-apiserver's.

use super::builtins::BuiltIn;

/// The last segment of the prefix that this table is for.
pub(super) const PREFIX: &str = "/openshift.io/";

/// What every resource's group ends with.
pub(super) const GROUPS: &str = ".openshift.io";

/// Every resource, in no order; no path comes twice, and none is one of Kubernetes' own.
pub(super) fn openshift() -> impl Iterator<Item = BuiltIn> {
    TABLE
        .iter()
        .map(|&(path, group, resource)| BuiltIn { path, group, resource })
}

const TABLE: &[(&str, &str, &str)] = &[
    ("deploymentconfigs", "apps.openshift.io", "deploymentconfigs"),
    ("buildconfigs", "build.openshift.io", "buildconfigs"),
    ("builds", "build.openshift.io", "builds"),
    ("images", "image.openshift.io", "images"),
    ("imagestreams", "image.openshift.io", "imagestreams"),
    ("oauth/accesstokens", "oauth.openshift.io", "oauthaccesstokens"),
    ("oauth/authorizetokens", "oauth.openshift.io", "oauthauthorizetokens"),
    (
        "oauth/clientauthorizations",
        "oauth.openshift.io",
        "oauthclientauthorizations",
    ),
    ("oauth/clients", "oauth.openshift.io", "oauthclients"),
    ("routes", "route.openshift.io", "routes"),
    ("rangeallocations", "security.openshift.io", "rangeallocations"),
    (
        "brokertemplateinstances",
        "template.openshift.io",
        "brokertemplateinstances",
    ),
    ("templateinstances", "template.openshift.io", "templateinstances"),
    ("templates", "template.openshift.io", "templates"),
    ("groups", "user.openshift.io", "groups"),
    ("useridentities", "user.openshift.io", "identities"),
    ("users", "user.openshift.io", "users"),
];
