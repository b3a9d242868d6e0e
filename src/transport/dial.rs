//! Opens a connection to one endpoint, TLS handshake included, within a bound. Tries once, but each address of a name; who calls
//! decides on more.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::socket::UNACKNOWLEDGED_BY_MEMBER;
use super::{Endpoint, Socket, Stream, Target, race};
use crate::tls::ClientSessions;

/// Bound on connecting and on the TLS handshake together: a member that takes longer is not one to wait for while
/// others may answer. etcdctl allows 2 s by default, kube-apiserver 20 s.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach one endpoint.
#[derive(Clone, Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    tls: Option<(ClientSessions, ServerName<'static>)>,
}

/// Why an endpoint was not reached.
#[derive(Debug, Error)]
pub enum DialError {
    /// The socket did not connect.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// The endpoint as configured.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS handshake failed: certificates, names or versions do not agree.
    #[error("TLS handshake with {endpoint} failed")]
    Tls {
        /// The endpoint as configured.
        endpoint: Endpoint,
        /// What rustls said.
        source: io::Error,
    },
    /// Nothing happened for too long.
    #[error("no answer from {endpoint} within {} s", DIAL_TIMEOUT.as_secs())]
    Timeout {
        /// The endpoint as configured.
        endpoint: Endpoint,
    },
    /// The endpoint's name cannot stand in a certificate.
    #[error(
        "{endpoint} has no name that a TLS certificate could carry; name the socket file after the certificate's host"
    )]
    NoServerName {
        /// The endpoint as configured.
        endpoint: Endpoint,
    },
}

impl Dialer {
    /// Dials `endpoint`, under TLS with `tls` where it is given: each time with what is in use by then.
    pub fn new(endpoint: Endpoint, tls: Option<ClientSessions>) -> Result<Self, DialError> {
        let tls = match (tls, endpoint.server_name()) {
            (None, _) => None,
            (Some(sessions), Some(name)) => Some((sessions, name.clone())),
            (Some(_), None) => return Err(DialError::NoServerName { endpoint }),
        };
        Ok(Self { endpoint, tls })
    }

    /// The endpoint that this reaches.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether connections are under TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens one connection.
    pub async fn dial(&self) -> Result<Stream, DialError> {
        tokio::time::timeout(DIAL_TIMEOUT, self.connect())
            .await
            .unwrap_or_else(|_| {
                Err(DialError::Timeout {
                    endpoint: self.endpoint.clone(),
                })
            })
    }

    async fn connect(&self) -> Result<Stream, DialError> {
        let socket = self.open_socket().await.map_err(|source| DialError::Connect {
            endpoint: self.endpoint.clone(),
            source,
        })?;
        let Some((sessions, name)) = &self.tls else {
            return Ok(Stream::plain(socket));
        };
        let session = TlsConnector::from(sessions.config())
            .connect(name.clone(), socket)
            .await
            .map_err(|source| DialError::Tls {
                endpoint: self.endpoint.clone(),
                source,
            })?;
        Ok(Stream::client(session))
    }

    async fn open_socket(&self) -> io::Result<Socket> {
        match self.endpoint.target() {
            Target::Ip(ip, port) => Socket::tcp(TcpStream::connect((*ip, *port)).await?, UNACKNOWLEDGED_BY_MEMBER),
            Target::Dns(name, port) => {
                let addresses = lookup_host((name.as_ref(), *port)).await?.collect();
                Socket::tcp(race::connect(addresses, DIAL_TIMEOUT).await?, UNACKNOWLEDGED_BY_MEMBER)
            }
            Target::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        }
    }
}
