//! One connection to one of several addresses: each is tried a little after the one before it, and the first that connects is taken
//! ("Happy Eyeballs", RFC 8305). One that drops packets then costs a quarter of a second and not the whole time for connecting.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// How long an address has to itself before the next one is tried as well. RFC 8305, section 8: "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to one of `addresses`, all of which are tried within the first half of `bound`.
///
/// # Errors
/// That of the address that failed last, which it names; `NotFound` where there is none. Who calls bounds the time.
pub(super) async fn connect(addresses: Vec<SocketAddr>, bound: Duration) -> io::Result<TcpStream> {
    let addresses = in_turns(addresses);
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let stagger = STAGGER.min(bound / 2 / count);
    let mut attempts = FuturesUnordered::new();
    let mut waiting = addresses.into_iter();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut next_at = Instant::now();
    let mut is_more = true;
    loop {
        tokio::select! {
            biased;
            Some(attempt) = attempts.next(), if !attempts.is_empty() => match attempt {
                Ok(stream) => return Ok(stream),
                // No reason to wait before the next one.
                Err(error) => {
                    failure = error;
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if is_more => match waiting.next() {
                Some(address) => {
                    attempts.push(attempt(address));
                    next_at = Instant::now() + stagger;
                }
                None => is_more = false,
            },
            else => return Err(failure),
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// The addresses as the resolver has sorted them, but for this: the two families take turns, so that one that leads nowhere does not
/// hold up the other (section 4).
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let starts_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|at| at.is_ipv6() == starts_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(first.next());
        all.extend(second.next());
        if all.len() == before {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};
    use tokio::time::timeout;

    use super::*;

    /// What a test waits for at most. Without the second attempt it would take the system minutes.
    const PATIENCE: Duration = Duration::from_secs(30);
    const BOUND: Duration = Duration::from_secs(5);

    /// An address on which SYNs are dropped: its queue is full and nobody takes from it.
    fn silent() -> (SocketAddr, Socket, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut filling = Vec::new();
        for _ in 0..8 {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            // It does not connect at once, and perhaps never.
            let _ = client.connect(&address.into());
            filling.push(client);
        }
        (address, listener, filling)
    }

    fn listening() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap(), listener)
    }

    async fn connected(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        let connecting = connect(addresses.to_vec(), BOUND);
        timeout(PATIENCE, connecting).await.expect("an end")?.peer_addr()
    }

    #[tokio::test]
    async fn an_address_that_drops_packets_does_not_hide_the_next_one() {
        let (silent, _listener, _filling) = silent();
        let (good, _good) = listening();
        assert_eq!(connected(&[silent, good]).await.unwrap(), good);
        assert_eq!(connected(&[silent, silent, silent, good]).await.unwrap(), good);
    }

    #[tokio::test]
    async fn one_that_refuses_is_passed_by_and_the_last_failure_is_told() {
        let (good, _good) = listening();
        let (closed, listener) = listening();
        drop(listener);
        assert_eq!(connected(&[closed, good]).await.unwrap(), good);
        let error = connected(&[closed, closed]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&closed.to_string()), "{error}");
        assert_eq!(connected(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn families_take_turns_and_the_resolvers_order_stays() {
        let parse = |text: &[&str]| -> Vec<SocketAddr> { text.iter().map(|at| at.parse().unwrap()).collect() };
        let sorted = in_turns(parse(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]));
        assert_eq!(sorted, parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]));
        let one_family = parse(&["10.0.0.2:1", "10.0.0.1:1"]);
        assert_eq!(in_turns(one_family.clone()), one_family);
    }
}
