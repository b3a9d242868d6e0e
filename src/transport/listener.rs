//! Bound sockets that accept connections. Options of accepted sockets are set where they are served, not here.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::socket::UNACKNOWLEDGED_BY_CLIENT;
use super::{ListenAddress, ListenUrl, Socket};
use crate::files::explained;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Who may connect to a unix listener: its owner. kube-apiserver and root can; give others access by the folder's ACL.
const SOCKET_MODE: u32 = 0o600;

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    url: String,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A connection on its way from the runtime that accepted it to the one that serves it.
#[derive(Debug)]
pub enum Accepted {
    /// From a TCP listener.
    Tcp(StdTcpStream),
    /// From a unix listener.
    Unix(StdUnixStream),
}

/// Why a listener could not be bound.
#[derive(Debug, Error)]
#[error("cannot listen on {url}")]
pub struct BindError {
    url: String,
    source: io::Error,
}

impl Listener {
    /// Binds `url`'s address; must be called on the runtime that will accept.
    ///
    /// A unix socket file that nobody listens on any more is replaced; any other file in its place is an error.
    pub fn bind(url: &ListenUrl) -> Result<Self, BindError> {
        let failed = |source| BindError {
            url: url.to_string(),
            source,
        };
        match url.address() {
            ListenAddress::Tcp(address) => {
                let listener = bind_tcp(*address).map_err(failed)?;
                let actual = listener.local_addr().map_err(failed)?;
                let scheme = if url.is_tls() { "https" } else { "http" };
                Ok(Self {
                    bound: Bound::Tcp(listener),
                    url: format!("{scheme}://{actual}"),
                })
            }
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path).map_err(|error| failed(explained(path, error)))?;
                Ok(Self {
                    bound: Bound::Unix(listener, path.clone()),
                    url: url.to_string(),
                })
            }
        }
    }

    /// The URL that clients reach this listener by, with the port that the system chose where 0 was asked for.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops listening: whoever connects is refused by the system. Connections that were accepted stay.
    pub fn close(self) -> Closed {
        let address = match &self.bound {
            Bound::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            Bound::Unix(_, path) => Ok(ListenAddress::Unix(path.clone())),
        };
        Closed {
            address,
            url: self.url.clone(),
        }
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match &self.bound {
            Bound::Tcp(listener) => Ok(Accepted::Tcp(listener.accept().await?.0.into_std()?)),
            Bound::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

/// A listener that was closed.
#[derive(Debug)]
pub struct Closed {
    address: io::Result<ListenAddress>,
    url: String,
}

impl Closed {
    /// Listens where it was listened before.
    ///
    /// # Errors
    /// [`BindError`], such as where somebody else listens there by now.
    pub fn bind(&self) -> Result<Listener, BindError> {
        let failed = |source| BindError {
            url: self.url.clone(),
            source,
        };
        let bound = match &self.address {
            Ok(ListenAddress::Tcp(address)) => Bound::Tcp(bind_tcp(*address).map_err(failed)?),
            Ok(ListenAddress::Unix(path)) => Bound::Unix(bind_unix(path).map_err(failed)?, path.clone()),
            Err(error) => return Err(failed(error.kind().into())),
        };
        Ok(Listener {
            bound,
            url: self.url.clone(),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Bound::Unix(_, path) = &self.bound {
            // Leaving a dead socket file behind does no harm: the next start replaces it.
            let _ = fs::remove_file(path);
        }
    }
}

impl Accepted {
    /// Registers the connection with the current runtime.
    pub fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => Socket::tcp(TcpStream::from_std(stream)?, UNACKNOWLEDGED_BY_CLIENT),
            Self::Unix(stream) => Ok(Socket::Unix(UnixStream::from_std(stream)?)),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before it to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(StdTcpListener::from(socket))
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    remove_stale_socket(path)?;
    let listener = StdUnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Removes a socket file left by a process that is gone. A live one answers, and then binding fails as it should.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is in the way",
        ));
    }
    match StdUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on this socket",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn port_zero_is_reported_as_the_port_chosen() {
        let listener = Listener::bind(&"http://127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(!listener.url().ends_with(":0"), "{}", listener.url());
    }

    #[tokio::test]
    async fn a_closed_listener_refuses_until_it_is_bound_again_at_the_same_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.sock");
        for url in ["http://127.0.0.1:0".to_owned(), format!("unix://{}", path.display())] {
            let listener = Listener::bind(&url.parse().unwrap()).unwrap();
            let url = listener.url().to_owned();
            let connect = async || match url.strip_prefix("http://") {
                Some(address) => TcpStream::connect(address).await.map(drop),
                None => UnixStream::connect(&path).await.map(drop),
            };
            connect().await.unwrap();
            let closed = listener.close();
            connect().await.unwrap_err();
            let again = closed.bind().unwrap();
            assert_eq!(again.url(), url);
            connect().await.unwrap();
            again.accept().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_or_another_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.sock");
        let url: ListenUrl = format!("unix://{}", path.display()).parse().unwrap();

        drop(StdUnixListener::bind(&path).unwrap());
        let live = Listener::bind(&url).unwrap();
        // For its owner alone: whoever can connect reads every Secret in the clear.
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            Listener::bind(&url).unwrap_err().source.kind(),
            io::ErrorKind::AddrInUse
        );
        drop(live);
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        assert_eq!(
            Listener::bind(&url).unwrap_err().source.kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
