//! `--resource-path`: where an operator says that a resource lies.

use std::fmt;
use std::str::FromStr;

use crate::types::GroupResource;

/// A resource and the one or two segments below the prefix that its keys begin with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourcePath {
    /// Which resource.
    pub resource: GroupResource,
    /// Without slashes around it: `routes`, `core/configmaps`.
    pub(super) path: String,
}

/// Why a text is no [`ResourcePath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It has not both parts.
    #[error("expected RESOURCE.GROUP=/SEGMENT/, such as widgets.example.k8s.io=/widgets/")]
    Form,
    /// A rule for more than one resource, or for none, has no path.
    #[error("expected the name of one resource, in lower case and without *, before =")]
    Resource,
    /// Keys could not begin with it, or could be of something else.
    #[error("expected /SEGMENT/ or /SEGMENT/SEGMENT/ behind =, as it follows --etcd-prefix in etcd's keys")]
    Path,
    /// Such keys name their group.
    #[error(
        "a first segment with a dot is an API group, and the second one its resource, without being told so; where another \
         API server keeps its keys below a path of its own, add that to --etcd-prefix"
    )]
    Group,
}

impl FromStr for ResourcePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let (resource, path) = text.split_once('=').ok_or(PathError::Form)?;
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let is_name = |name: &str| {
            name.chars()
                .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || matches!(char, '-' | '.'))
        };
        if resource.is_empty() || !is_name(resource) || !is_name(group) {
            return Err(PathError::Resource);
        }
        let inner = path.strip_prefix('/').and_then(|path| path.strip_suffix('/'));
        let inner = inner.ok_or(PathError::Path)?;
        let is_segment = |segment: &str| !segment.is_empty() && segment.chars().all(|char| char.is_ascii_graphic());
        if inner.split('/').count() > 2 || !inner.split('/').all(is_segment) {
            return Err(PathError::Path);
        }
        if inner.split('/').next().is_some_and(|first| first.contains('.')) {
            return Err(PathError::Group);
        }
        Ok(Self {
            resource: GroupResource::new(group, resource),
            path: inner.to_owned(),
        })
    }
}

/// As it is given.
impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=/{}/", self.resource, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_read_and_shown_again() {
        for text in [
            "secrets=/hidden/",
            "widgets.example.k8s.io=/widgets/",
            "configmaps=/core/configmaps/",
        ] {
            assert_eq!(
                text.parse::<ResourcePath>().map(|path| path.to_string()),
                Ok(text.to_owned())
            );
        }
        for (text, error) in [
            ("", PathError::Form),
            ("widgets.example.k8s.io", PathError::Form),
            ("=/widgets/", PathError::Resource),
            (".example.k8s.io=/widgets/", PathError::Resource),
            ("*.example.k8s.io=/widgets/", PathError::Resource),
            ("Widgets=/widgets/", PathError::Resource),
            ("widgets/status=/widgets/", PathError::Resource),
            ("widgets=widgets", PathError::Path),
            ("widgets=/widgets", PathError::Path),
            ("widgets=widgets/", PathError::Path),
            ("widgets=/", PathError::Path),
            ("widgets=//", PathError::Path),
            ("widgets=/a//", PathError::Path),
            ("widgets=/a/b/c/", PathError::Path),
            ("widgets=/a b/", PathError::Path),
            ("widgets=/wid\u{e9}/", PathError::Path),
            ("widgets=/a.b/widgets/", PathError::Group),
        ] {
            assert_eq!(text.parse::<ResourcePath>(), Err(error), "{text}");
        }
    }
}
