//! Target: the values of flags that are no plain numbers or names: listeners, members, prefixes.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use etcd_encryption_proxy::{
    keyspace::EtcdPrefix,
    transport::{Endpoint, ListenAddress, ListenUrl, MAX_SOCKET_PATH, Target, UrlError},
};

/// Any text as each of them.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(prefix) = EtcdPrefix::parse(text) {
        reads_back(&prefix);
        let bytes = prefix.as_bytes();
        assert!(bytes.starts_with(b"/") && bytes.ends_with(b"/"));
        let segments: Vec<&[u8]> = bytes.split(|&byte| byte == b'/').collect();
        let inner = &segments[1..segments.len() - 1];
        let is_name = |segment: &&[u8]| !matches!(*segment, b"" | b"." | b"..");
        assert!(bytes == b"/" || inner.iter().all(is_name));
    } else {
        assert!(text.is_empty());
    }
    if let Some(url) = checked::<ListenUrl>(text)
        && let ListenAddress::Unix(path) = url.address()
    {
        assert!(path.as_os_str().len() <= MAX_SOCKET_PATH && url.is_loopback());
    }
    if let Some(endpoint) = checked::<Endpoint>(text) {
        let authority = endpoint.authority();
        assert!(authority.parse::<http::uri::Authority>().is_ok(), "{authority:?}");
        assert!(!endpoint.is_tls(false) || endpoint.server_name().is_some());
        if let Target::Ip(_, 0) | Target::Dns(_, 0) = endpoint.target() {
            panic!("port 0 cannot be connected to");
        }
    }
}

fn checked<T>(text: &str) -> Option<T>
where
    T: FromStr<Err = UrlError> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(parsed) => {
            reads_back(&parsed);
            Some(parsed)
        }
        Err(error) => {
            // A password may stand before an `@`.
            let shown = format!("{error} {error:?}");
            assert!(!text.contains('@') || text.trim().len() < 8 || !shown.contains(text.trim()));
            assert!(!shown.contains(char::is_control), "{shown:?}");
            None
        }
    }
}

fn reads_back<T>(parsed: &T)
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq,
{
    let shown = parsed.to_string();
    let again = shown
        .parse::<T>()
        .unwrap_or_else(|error| panic!("{shown:?}: {error:?}"));
    assert_eq!(*parsed, again, "{shown:?}");
}

/// One of each form.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "http://127.0.0.1:2379",
        "https://[2001:db8::7]:2379",
        "https://etcd-0.etcd.svc:2379/",
        "http://localhost:0",
        "etcd:2379",
        "10.0.0.44:437",
        "unix:///run/etcd.sock",
        "unixs://localhost:m1",
        "unix:etcd.sock",
        "https://root:hunter2@etcd:2379",
        "http://[::ffff:127.0.0.1]:1",
        "/registry",
        "//a/./b/../c//",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
