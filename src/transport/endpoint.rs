//! What `--etcd-servers` names: one member of the etcd cluster, and how a request and a certificate call it.
//!
//! Parsing never resolves a name: that is done at every dial, so that a member may move.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls::pki_types::{DnsName, ServerName};

use super::url_parts::{Host, Scheme, UrlError, UrlProblem, socket_path, split_host_port, split_scheme};

/// One etcd member, as etcd's own client takes it: `http://HOST:PORT`, `https://HOST:PORT`, `unix://PATH`,
/// `unixs://PATH` or a bare `HOST:PORT`.
///
/// The port is named: etcd's client knows no default. A lone `/` after it is dropped, as that client drops every path;
/// any other path, query or password is refused, because nothing would honour it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    security: Security,
    target: Target,
    server_name: Option<ServerName<'static>>,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An IP address and a port from 1 to 65535.
    Ip(IpAddr, u16),
    /// A DNS name, resolved at every dial, and a port from 1 to 65535.
    Dns(DnsName<'static>, u16),
    /// A Unix socket; a relative path is meant from the working directory. At most 107 bytes.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether to speak TLS, given whether the operator named any of the client's TLS files (CA, certificate and key).
    ///
    /// `https` and `unixs` always do, `http` never does, and `unix` and a bare `HOST:PORT` do if there are TLS files:
    /// etcd's client decides so, and falling back to plain text where files are given would be the unsafe reading.
    pub fn is_tls(&self, tls_files_given: bool) -> bool {
        match self.security {
            Security::Plain => false,
            Security::Tls => true,
            Security::AsConfigured => tls_files_given,
        }
    }

    /// Whether nothing outside this machine can read along: a loopback address, `localhost` or a Unix socket.
    pub fn is_loopback(&self) -> bool {
        match &self.target {
            Target::Ip(ip, _) => ip.to_canonical().is_loopback(),
            Target::Dns(name, _) => name.as_ref().eq_ignore_ascii_case("localhost"),
            Target::Unix(_) => true,
        }
    }

    /// What to connect to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The `:authority` of requests: `HOST:PORT`, with IPv6 in brackets, as etcd's client sends it.
    ///
    /// For a Unix socket it is `localhost`, as gRPC has it: a path is no valid authority, and Go's HTTP/2 server, which
    /// etcd puts in front of gRPC under TLS, answers 400 to one.
    pub fn authority(&self) -> String {
        match &self.target {
            Target::Ip(IpAddr::V4(ip), port) => format!("{ip}:{port}"),
            Target::Ip(IpAddr::V6(ip), port) => format!("[{ip}]:{port}"),
            Target::Dns(name, port) => format!("{}:{port}", name.as_ref()),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The name that the server's certificate must carry, and which SNI sends if it is a DNS name.
    ///
    /// It is the host. For a Unix socket it is the file name up to its last colon, as in etcd's client:
    /// `unixs://localhost:m1` is checked for `localhost`. `None` only for a `unix` socket whose file name cannot stand in
    /// a certificate; such a socket can't be used with TLS.
    pub fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }
}

impl FromStr for Endpoint {
    type Err = UrlError;

    /// Reads one endpoint; white space around it does not count.
    fn from_str(given: &str) -> Result<Self, UrlError> {
        let given = given.trim();
        parse(given).map_err(|problem| UrlError::new(given, EXPECTED, problem))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.target, self.security) {
            (Target::Unix(path), Security::Tls) => write!(f, "unixs://{}", path.display()),
            (Target::Unix(path), _) => write!(f, "unix://{}", path.display()),
            (_, Security::Tls) => write!(f, "https://{}", self.authority()),
            (_, Security::Plain) => write!(f, "http://{}", self.authority()),
            (_, Security::AsConfigured) => f.write_str(&self.authority()),
        }
    }
}

/// What the scheme says of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Security {
    Plain,
    Tls,
    AsConfigured,
}

const EXPECTED: &str =
    "https://HOST:PORT, http://HOST:PORT, unixs:///PATH, unix:///PATH or HOST:PORT, where IPv6 is in brackets";

fn parse(text: &str) -> Result<Endpoint, UrlProblem> {
    let (scheme, rest) = split_scheme(text)?;
    let security = match scheme {
        Some(Scheme::Http) => Security::Plain,
        Some(Scheme::Https | Scheme::Unixs) => Security::Tls,
        Some(Scheme::Unix) | None => Security::AsConfigured,
    };
    if matches!(scheme, Some(Scheme::Unix | Scheme::Unixs)) {
        let path = socket_path(rest)?;
        let server_name = socket_server_name(&path);
        if server_name.is_none() && security == Security::Tls {
            return Err(UrlProblem::BadSocketServerName);
        }
        return Ok(Endpoint {
            security,
            target: Target::Unix(path),
            server_name,
        });
    }
    let (host, port) = split_host_port(rest.strip_suffix('/').unwrap_or(rest))?;
    if port == 0 {
        return Err(UrlProblem::PortZero);
    }
    let (target, server_name) = match host {
        Host::Ip(ip) => (Target::Ip(ip, port), ServerName::from(ip)),
        Host::Name(name) => {
            let name = DnsName::try_from(name.to_owned()).map_err(|_| UrlProblem::BadHost)?;
            (Target::Dns(name.clone(), port), ServerName::DnsName(name))
        }
    };
    Ok(Endpoint {
        security,
        target,
        server_name: Some(server_name),
    })
}

fn socket_server_name(path: &Path) -> Option<ServerName<'static>> {
    let file = path.file_name()?.to_str()?;
    let host = file.rsplit_once(':').map_or(file, |(host, _)| host);
    ServerName::try_from(host.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Endpoint {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn loopback_is_told_from_the_network() {
        for (given, expected) in [
            ("http://127.0.0.2:1", true),
            ("http://[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("http://LocalHost:1", true),
            ("unix:///run/etcd.sock", true),
            ("http://10.0.0.1:1", false),
            ("http://localhost.example:1", false),
        ] {
            assert_eq!(given.parse::<Endpoint>().unwrap().is_loopback(), expected, "{given}");
        }
    }

    #[test]
    fn what_etcds_client_dials_is_dialled() {
        for (text, tls, authority, server_name) in [
            ("http://127.0.0.1:2379", [false, false], "127.0.0.1:2379", "127.0.0.1"),
            (
                "https://etcd-0.etcd.svc:2379",
                [true, true],
                "etcd-0.etcd.svc:2379",
                "etcd-0.etcd.svc",
            ),
            (" https://etcd_1:443/ ", [true, true], "etcd_1:443", "etcd_1"),
            (
                "HTTPS://[2001:db8::7]:2379",
                [true, true],
                "[2001:db8::7]:2379",
                "2001:db8::7",
            ),
            ("10.0.0.44:437", [false, true], "10.0.0.44:437", "10.0.0.44"),
            ("etcd:2379", [false, true], "etcd:2379", "etcd"),
            ("unix:///run/etcd.sock", [false, true], "localhost", "etcd.sock"),
            ("unixs://localhost:m1", [true, true], "localhost", "localhost"),
            ("unixs:///run/10.0.0.1:2379", [true, true], "localhost", "10.0.0.1"),
        ] {
            let endpoint = parsed(text);
            assert_eq!([false, true].map(|files| endpoint.is_tls(files)), tls, "{text}");
            assert_eq!(endpoint.authority(), authority, "{text}");
            assert_eq!(
                endpoint.server_name().map(|name| name.to_str()).as_deref(),
                Some(server_name),
                "{text}"
            );
        }
    }

    #[test]
    fn a_socket_that_no_certificate_can_name_is_for_plain_text_only() {
        assert_eq!(parsed("unix:///run/my socket").server_name(), None);
        let error = "unixs:///run/my socket".parse::<Endpoint>().unwrap_err();
        assert_eq!(error.problem(), UrlProblem::BadSocketServerName);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", UrlProblem::Empty),
            ("etcd", UrlProblem::NoPort),
            ("https://etcd", UrlProblem::NoPort),
            ("https://etcd/", UrlProblem::NoPort),
            ("https://etcd:0", UrlProblem::PortZero),
            ("https://etcd:2379/v2", UrlProblem::AfterPort),
            ("https://etcd:2379//", UrlProblem::AfterPort),
            ("https://etcd:2379?x", UrlProblem::AfterPort),
            ("https://-etcd:2379", UrlProblem::BadHost),
            ("https://127.1:2379", UrlProblem::BadHost),
            ("https://::1:2379", UrlProblem::Ipv6),
            ("https://:2379", UrlProblem::NoHost),
            ("https://root:secret@etcd:2379", UrlProblem::UserInfo),
            ("etcd://etcd:2379", UrlProblem::Scheme),
        ] {
            assert_eq!(text.parse::<Endpoint>().expect_err(text).problem(), expected, "{text}");
        }
    }

    #[test]
    fn the_message_says_what_to_write() {
        assert_eq!(
            "https://etcd".parse::<Endpoint>().unwrap_err().to_string(),
            "URL \"https://etcd\": the port is missing; expected https://HOST:PORT, http://HOST:PORT, unixs:///PATH, \
             unix:///PATH or HOST:PORT, where IPv6 is in brackets"
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(text in "((https?|unixs?):(//)?)?[a-zA-Z0-9.:/_\\[\\]-]{1,20}(:[0-9]{1,5})?/?") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }

        #[test]
        fn every_authority_is_one_to_the_http_crate(host in "[a-zA-Z0-9._-]{1,20}|\\[[0-9a-f:]{2,12}\\]", port: u16) {
            if let Ok(endpoint) = format!("http://{host}:{port}").parse::<Endpoint>() {
                prop_assert!(endpoint.authority().parse::<http::uri::Authority>().is_ok());
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Endpoint>();
        }
    }
}
