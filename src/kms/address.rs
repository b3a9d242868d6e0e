//! Where a plugin listens: from the configuration's endpoint to what is dialed. Connects nothing.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// What begins the path of an endpoint whose socket has no file: `unix:///@name`.
const ABSTRACT: &[u8] = b"/@";

/// A unix socket, by file or in the abstract namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    endpoint: String,
    path: PathBuf,
}

impl Address {
    /// Reads an endpoint as Go's `url.Parse` does, of which kube-apiserver takes only the path: what stands between `//`
    /// and the next `/` is ignored, `%2F` and the like are decoded, and query and fragment are dropped.
    ///
    /// Of an endpoint without a path (`unix://name`) nothing is left, and dialing it fails: kube-apiserver takes such a
    /// configuration as well, and its plugin is never well.
    pub(super) fn parse(endpoint: &str) -> Self {
        let rest = endpoint.split_once(':').map_or(endpoint, |(_, rest)| rest);
        let path = match rest.strip_prefix("//") {
            Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default(),
            None => rest,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut path = decoded(path.as_bytes());
        if path.starts_with(ABSTRACT) {
            // How the socket API tells such a name from a file's.
            path.splice(..ABSTRACT.len(), [0]);
        }
        Self {
            endpoint: endpoint.to_owned(),
            path: OsString::from_vec(path).into(),
        }
    }

    /// The path of the socket's file, or a name behind a NUL.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint)
    }
}

/// Decodes `%XX`; what is no such escape stays, since the configuration was refused for it or it does no harm.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let escaped = match after {
            [high, low, tail @ ..] if byte == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| (high, low, tail)),
            _ => None,
        };
        let (byte, after) = escaped.map_or((byte, after), |(high, low, tail)| (high << 4 | low, tail));
        out.push(byte);
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_kube_apiserver_reads_it() {
        for (endpoint, path) in [
            ("unix:///tmp/kms.sock", "/tmp/kms.sock"),
            ("unix:/tmp/kms.sock", "/tmp/kms.sock"),
            ("unix:///@kms.sock", "\0kms.sock"),
            ("unix:///with%20space/%6bms?x=y#z", "/with space/kms"),
            ("unix://host/tmp/kms.sock", "/tmp/kms.sock"),
            ("unix://kms.sock", ""),
            ("unix:///100%", "/100%"),
        ] {
            assert_eq!(Address::parse(endpoint).path(), Path::new(path), "{endpoint}");
        }
    }
}
