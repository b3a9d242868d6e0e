//! `--etcd-prefix` as kube-apiserver understands it.

use std::fmt;
use std::str::FromStr;

use super::Error;
use super::layout::Kind;
use super::openshift;

/// The path under which keys lie, cleaned as Go's `path.Join("/", prefix)` does and ended with a slash.
///
/// `registry`, `/registry` and `/registry/` are the same prefix. `/` is every key that begins with a slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtcdPrefix(String);

impl EtcdPrefix {
    /// Reads the value of an `--etcd-prefix` flag.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::EmptyPrefix);
        }
        let mut segments = Vec::new();
        for segment in text.split('/') {
            match segment {
                "" | "." => {}
                // At the root there is nothing left to leave.
                ".." => drop(segments.pop()),
                name => segments.push(name),
            }
        }
        let path: String = segments.iter().flat_map(|segment| [segment, "/"]).collect();
        Ok(Self(format!("/{path}")))
    }

    /// What every key below the prefix begins with: a slash at both ends.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whose resources lie below it, which its last segment tells.
    pub(super) fn kind(&self) -> Kind {
        if self.0.ends_with(openshift::PREFIX) {
            Kind::OpenShift
        } else {
            Kind::Kubernetes
        }
    }

    /// The key of `path` below this prefix.
    pub(super) fn join(&self, path: &str) -> Vec<u8> {
        format!("{}{path}", self.0).into_bytes()
    }
}

impl FromStr for EtcdPrefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// As an operator writes it: `/registry`, `/`.
impl fmt::Display for EtcdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.strip_suffix('/') {
            Some(path) if !path.is_empty() => f.write_str(path),
            _ => f.write_str(&self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_cleaned_as_go_joins_paths() {
        for (text, shown, bytes) in [
            ("registry", "/registry", "/registry/"),
            ("/registry", "/registry", "/registry/"),
            ("/registry/", "/registry", "/registry/"),
            ("//registry//", "/registry", "/registry/"),
            ("/", "/", "/"),
            (".", "/", "/"),
            ("..", "/", "/"),
            ("/kubernetes.io", "/kubernetes.io", "/kubernetes.io/"),
            ("/a/./b/../c", "/a/c", "/a/c/"),
            ("/43da1478/registry", "/43da1478/registry", "/43da1478/registry/"),
        ] {
            let prefix = EtcdPrefix::parse(text).unwrap();
            assert_eq!(
                (prefix.to_string().as_str(), prefix.as_bytes()),
                (shown, bytes.as_bytes()),
                "{text}"
            );
        }
        assert_eq!(EtcdPrefix::parse(""), Err(Error::EmptyPrefix));
    }
}
