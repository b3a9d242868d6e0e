//! The pieces that listen URLs and endpoints have in common: scheme, `HOST:PORT`, socket path, and what can be wrong.
//!
//! Written by hand because a general URL parser is wrong here both ways: it drops `:80` as a default port, reads
//! `0x7f.1` as an IPv4 address, and takes a path, a query or a password that nothing would honour.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

/// A URL of a flag that cannot be used, with what the flag expects.
///
/// It repeats the given text, escaped, unless that holds an `@`: a password may stand before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}; expected {expected}", Given(given))]
pub struct UrlError {
    given: String,
    expected: &'static str,
    problem: UrlProblem,
}

impl UrlError {
    pub(super) fn new(given: &str, expected: &'static str, problem: UrlProblem) -> Self {
        let given = if given.contains('@') { "" } else { given };
        Self {
            given: given.to_owned(),
            expected,
            problem,
        }
    }

    /// What is wrong, for callers that decide on it.
    pub fn problem(&self) -> UrlProblem {
        self.problem
    }
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Nothing was given, as between two commas.
    #[error("the URL is empty")]
    Empty,
    /// Neither of http, https, unix and unixs.
    #[error("the scheme is missing or unknown")]
    Scheme,
    /// `user:password@`, which etcd has no use for.
    #[error("a user name or password cannot be part of the URL")]
    UserInfo,
    /// Something after `HOST:PORT`.
    #[error("nothing may follow the port")]
    AfterPort,
    /// No `:PORT`; there is no default port.
    #[error("the port is missing")]
    NoPort,
    /// Not a number from 0 to 65535.
    #[error("the port is not a number from 0 to 65535")]
    BadPort,
    /// Port 0, which only a listener can use.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// Nothing before the port.
    #[error("the host is missing")]
    NoHost,
    /// More than one colon outside brackets, or brackets around something else.
    #[error("an IPv6 address is written in brackets, without a zone, as in [::1]:2379")]
    Ipv6,
    /// Neither an IP address nor a DNS name.
    #[error("the host is neither an IP address nor a DNS name")]
    BadHost,
    /// A DNS name to listen on: it may resolve to another address tomorrow, and etcd refuses it too.
    #[error("the host to listen on is neither an IP address nor localhost")]
    NotAnAddress,
    /// Nothing after `unix:`, or a folder.
    #[error("the path of the socket is missing")]
    NoSocketPath,
    /// Longer than [`MAX_SOCKET_PATH`].
    #[error("the path of the socket is longer than {MAX_SOCKET_PATH} bytes, the system's limit")]
    LongSocketPath,
    /// `?`, `#` and `%`, which URL parsers disagree on, control characters, and `@` in front, the abstract namespace.
    #[error("the path of the socket holds one of ? # % or a control character, or begins with @")]
    BadSocketPath,
    /// The socket's file name, which etcd's client takes for the name in the server's certificate, cannot be one.
    #[error("the file name of a unixs socket, without :SUFFIX, must be a DNS name or IP address of the certificate")]
    BadSocketServerName,
}

/// Longest path of a Unix socket in bytes: `sun_path` of `sockaddr_un(7)` has 108, one of which ends the string.
pub const MAX_SOCKET_PATH: usize = 107;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

/// Cuts the scheme off: `None` for a bare `HOST:PORT`. Schemes are in any case, as in every URL.
///
/// For Unix sockets, `unix:NAME`, `unix://NAME` (relative) and `unix:///PATH` are all known to etcd's clients.
pub(super) fn split_scheme(text: &str) -> Result<(Option<Scheme>, &str), UrlProblem> {
    if text.is_empty() {
        return Err(UrlProblem::Empty);
    }
    let (head, tail) = text.split_once(':').unwrap_or(("", text));
    let after_slashes = tail.strip_prefix("//");
    match (head.to_ascii_lowercase().as_str(), after_slashes) {
        ("unix", rest) => Ok((Some(Scheme::Unix), rest.unwrap_or(tail))),
        ("unixs", rest) => Ok((Some(Scheme::Unixs), rest.unwrap_or(tail))),
        ("http", Some(rest)) => Ok((Some(Scheme::Http), rest)),
        ("https", Some(rest)) => Ok((Some(Scheme::Https), rest)),
        // `https:2379` is more likely a slip than a host of that name.
        ("http" | "https", None) | (_, Some(_)) => Err(UrlProblem::Scheme),
        (_, None) => Ok((None, text)),
    }
}

/// Cuts `HOST:PORT` apart. An IPv6 host comes back without its brackets, as an address.
pub(super) fn split_host_port(text: &str) -> Result<(Host<'_>, u16), UrlProblem> {
    if text.contains('@') {
        return Err(UrlProblem::UserInfo);
    }
    let authority = text.split(['/', '?', '#']).next().unwrap_or(text);
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (inner, after) = bracketed.split_once(']').ok_or(UrlProblem::Ipv6)?;
        let ip = inner.parse::<Ipv6Addr>().map_err(|_| UrlProblem::Ipv6)?;
        (
            Host::Ip(IpAddr::V6(ip)),
            after.strip_prefix(':').ok_or(UrlProblem::NoPort)?,
        )
    } else {
        let (name, port) = authority.rsplit_once(':').ok_or(UrlProblem::NoPort)?;
        match name.parse::<IpAddr>() {
            _ if name.is_empty() => return Err(UrlProblem::NoHost),
            _ if name.contains(':') => return Err(UrlProblem::Ipv6),
            Ok(ip) => (Host::Ip(ip), port),
            Err(_) => (Host::Name(name), port),
        }
    };
    if port.is_empty() {
        return Err(UrlProblem::NoPort);
    }
    // `u16::from_str` would take a plus sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UrlProblem::BadPort);
    }
    let port = port.parse().map_err(|_| UrlProblem::BadPort)?;
    if authority.len() == text.len() {
        Ok((host, port))
    } else {
        Err(UrlProblem::AfterPort)
    }
}

/// What stands before the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host<'a> {
    Ip(IpAddr),
    Name(&'a str),
}

/// Checks the path of a Unix socket; a relative one is meant from the working directory, as etcd means it.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, UrlProblem> {
    if text.is_empty() || text.ends_with('/') {
        return Err(UrlProblem::NoSocketPath);
    }
    if text.len() > MAX_SOCKET_PATH {
        return Err(UrlProblem::LongSocketPath);
    }
    let ambiguous = |ch: char| matches!(ch, '?' | '#' | '%') || ch.is_control();
    if text.starts_with('@') || text.contains(ambiguous) {
        return Err(UrlProblem::BadSocketPath);
    }
    Ok(PathBuf::from(text))
}

/// The text of the flag as an error shows it.
struct Given<'a>(&'a str);

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("URL")
        } else {
            write!(f, "URL {:?}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Endpoint;
    use super::*;

    #[test]
    fn a_password_is_not_repeated() {
        for scheme in ["https://", "", "ftp://", "https:"] {
            let error = format!("{scheme}root:hunter2@etcd:2379")
                .parse::<Endpoint>()
                .unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn the_given_text_is_escaped() {
        let error = UrlError::new("ftp://\u{1b}[2J", "http://IP:PORT", UrlProblem::Scheme);
        assert_eq!(
            error.to_string(),
            r#"URL "ftp://\u{1b}[2J": the scheme is missing or unknown; expected http://IP:PORT"#
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = split_scheme(&text);
            let _ = split_host_port(&text);
            let _ = socket_path(&text);
        }

        #[test]
        fn a_host_comes_back_whole(host in "[a-z0-9._-]{1,20}", port: u16) {
            let text = format!("{host}:{port}");
            let (found, found_port) = split_host_port(&text).unwrap();
            prop_assert_eq!(found_port, port);
            match found {
                Host::Name(name) => prop_assert_eq!(name, host),
                Host::Ip(ip) => prop_assert_eq!(ip.to_string(), host),
            }
        }
    }
}
