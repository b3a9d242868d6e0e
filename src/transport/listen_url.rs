//! What `--listen-client-urls` and `--listen-metrics-urls` name: an address to listen on, with or without TLS.
//!
//! Parsing never resolves a name and never touches the file system.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::url_parts::{Host, Scheme, UrlError, UrlProblem, socket_path, split_host_port, split_scheme};

/// One listener: `http://IP:PORT`, `https://IP:PORT`, `unix://PATH` or `unixs://PATH` (a Unix socket with TLS).
///
/// As in etcd, the host is an IP address or `localhost`, the port is named, no path follows it, and `unix://NAME:PORT` is
/// a file of that whole name in the working directory. Port 0 has the system choose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenUrl {
    tls: bool,
    address: ListenAddress,
}

/// Where a listener binds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address. `localhost` is 127.0.0.1, whatever the machine's resolver says: that is where etcd listens for it,
    /// and a resolver must not be able to move a listener off the loopback interface.
    Tcp(SocketAddr),
    /// A Unix socket; a relative path is meant from the working directory. At most 107 bytes.
    Unix(PathBuf),
}

impl ListenUrl {
    /// Whether connections begin with a TLS handshake.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether nothing outside this machine can reach the listener: a loopback address or a Unix socket.
    pub fn is_loopback(&self) -> bool {
        match &self.address {
            // An IPv4 loopback address may be written as IPv6, `::ffff:127.0.0.1`.
            ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ListenAddress::Unix(_) => true,
        }
    }

    /// Where to bind.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }
}

impl FromStr for ListenUrl {
    type Err = UrlError;

    /// Reads one URL; white space around it does not count.
    fn from_str(given: &str) -> Result<Self, UrlError> {
        let given = given.trim();
        parse(given).map_err(|problem| UrlError::new(given, EXPECTED, problem))
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        match &self.address {
            ListenAddress::Tcp(address) => write!(f, "http{s}://{address}"),
            ListenAddress::Unix(path) => write!(f, "unix{s}://{}", path.display()),
        }
    }
}

const EXPECTED: &str =
    "http://IP:PORT, https://IP:PORT, unix:///PATH or unixs:///PATH, where IP may be localhost and IPv6 is in brackets";

fn parse(text: &str) -> Result<ListenUrl, UrlProblem> {
    let (scheme, rest) = split_scheme(text)?;
    let scheme = scheme.ok_or(UrlProblem::Scheme)?;
    let address = match scheme {
        Scheme::Unix | Scheme::Unixs => ListenAddress::Unix(socket_path(rest)?),
        Scheme::Http | Scheme::Https => {
            let (host, port) = split_host_port(rest)?;
            let ip = match host {
                Host::Ip(ip) => ip,
                Host::Name("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Host::Name(_) => return Err(UrlProblem::NotAnAddress),
            };
            ListenAddress::Tcp(SocketAddr::new(ip, port))
        }
    };
    Ok(ListenUrl {
        tls: matches!(scheme, Scheme::Https | Scheme::Unixs),
        address,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> ListenUrl {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn problem(text: &str) -> UrlProblem {
        text.parse::<ListenUrl>().expect_err(text).problem()
    }

    #[test]
    fn what_etcd_listens_on_is_listened_on() {
        for (text, tls, loopback, shown) in [
            ("http://127.0.0.1:2379", false, true, "http://127.0.0.1:2379"),
            (" HTTPS://10.0.0.7:80 ", true, false, "https://10.0.0.7:80"),
            ("http://localhost:0", false, true, "http://127.0.0.1:0"),
            ("https://[::1]:443", true, true, "https://[::1]:443"),
            (
                "http://[::ffff:127.0.0.1]:1",
                false,
                true,
                "http://[::ffff:127.0.0.1]:1",
            ),
            ("http://0.0.0.0:2379", false, false, "http://0.0.0.0:2379"),
            ("http://[::]:2379", false, false, "http://[::]:2379"),
            ("unix:///run/etcd.sock", false, true, "unix:///run/etcd.sock"),
            ("unix:/run/etcd.sock", false, true, "unix:///run/etcd.sock"),
            ("unixs://localhost:m1", true, true, "unixs://localhost:m1"),
            ("unix:etcd.sock", false, true, "unix://etcd.sock"),
        ] {
            let url = parsed(text);
            assert_eq!(
                (url.is_tls(), url.is_loopback(), url.to_string().as_str()),
                (tls, loopback, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn a_relative_socket_keeps_its_whole_name() {
        assert_eq!(
            parsed("unix://localhost:m1").address(),
            &ListenAddress::Unix("localhost:m1".into())
        );
        assert_eq!(
            parsed("unix://run/a:b").address(),
            &ListenAddress::Unix("run/a:b".into())
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", UrlProblem::Empty),
            ("127.0.0.1:2379", UrlProblem::Scheme),
            ("ftp://127.0.0.1:2379", UrlProblem::Scheme),
            ("http:127.0.0.1:2379", UrlProblem::Scheme),
            ("http://etcd.example:2379", UrlProblem::NotAnAddress),
            ("http://0x7f.1:2379", UrlProblem::NotAnAddress),
            ("http://127.0.0.1", UrlProblem::NoPort),
            ("http://127.0.0.1:", UrlProblem::NoPort),
            ("http://127.0.0.1/v3", UrlProblem::NoPort),
            ("http://[::1]", UrlProblem::NoPort),
            ("http://127.0.0.1:+80", UrlProblem::BadPort),
            ("http://127.0.0.1:65536", UrlProblem::BadPort),
            ("http://127.0.0.1:2379/", UrlProblem::AfterPort),
            ("http://:2379", UrlProblem::NoHost),
            ("http://::1:2379", UrlProblem::Ipv6),
            ("http://[127.0.0.1]:2379", UrlProblem::Ipv6),
            ("http://[fe80::1%25eth0]:2379", UrlProblem::Ipv6),
            ("http://u:p@127.0.0.1:2379", UrlProblem::UserInfo),
            ("unix://", UrlProblem::NoSocketPath),
            ("unix:///run/", UrlProblem::NoSocketPath),
            ("unix:@abstract", UrlProblem::BadSocketPath),
            ("unix:///run/a%20b", UrlProblem::BadSocketPath),
            ("unix:///run/a\0b", UrlProblem::BadSocketPath),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
        assert_eq!(
            problem(&format!("unix:///{}", "a".repeat(107))),
            UrlProblem::LongSocketPath
        );
        parsed(&format!("unix:///{}", "a".repeat(106)));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(text in "(https?|unixs?):(//)?[a-z0-9.:/\\[\\]]{0,20}(:[0-9]{1,5})?") {
            if let Ok(url) = text.parse::<ListenUrl>() {
                prop_assert_eq!(url.to_string().parse::<ListenUrl>(), Ok(url));
            }
        }

        #[test]
        fn every_address_reads_back_the_same(address: SocketAddr, tls: bool) {
            // A zone or flow label has no place in a URL, so none is made.
            let address = ListenAddress::Tcp(SocketAddr::new(address.ip(), address.port()));
            let url = ListenUrl { tls, address };
            prop_assert_eq!(url.to_string().parse::<ListenUrl>(), Ok(url));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<ListenUrl>();
        }
    }
}
