//! One plugin's socket: dialed when it is needed, dialed again when it is lost, and waited for within the time that the
//! configuration gives a call. Knows no message.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};

use super::address::Address;
use super::failure::CallError;
use super::{metrics, text};
use crate::files::explained;
use crate::types::KeyName;

/// What a plugin is called in `:authority`. A socket's path there, which is what some clients send, is refused by servers
/// that check it.
const ORIGIN: &str = "http://localhost";

/// Longest message taken from a plugin, bytes. The longest that is of use is a v2 Encrypt's: 32 KiB of annotations and
/// two fields of 1 KiB.
pub(super) const MAX_MESSAGE: usize = 1024 * 1024;

/// What begins the text of tonic's own status for a channel that takes no call.
const NOT_READY: &str = "Service was not ready";

/// Waits between tries to reach a plugin double from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// The way to one plugin.
pub(super) struct Connection {
    provider: KeyName,
    address: Arc<Address>,
    timeout: Duration,
    /// Replaced after a call that nothing came back for.
    channel: ArcSwap<Channel>,
}

impl Connection {
    /// Dials nothing yet. Runs on the runtime that this is called in.
    pub(super) fn new(provider: KeyName, address: Address, timeout: Duration) -> Self {
        let address = Arc::new(address);
        Self {
            provider,
            channel: ArcSwap::from_pointee(channel(&address)),
            address,
            timeout,
        }
    }

    /// Longest wait for one call.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether somebody takes connections there. Nothing is sent.
    pub(super) async fn is_there(&self) -> bool {
        UnixStream::connect(self.address.path()).await.is_ok()
    }

    /// When a call that begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Makes one call, `method` by its full path. It is sent again for as long as no connection carries it and `deadline`
    /// has not passed, so that a plugin that is being restarted is waited for; a call that was lost on its way is sent
    /// again as well: wrapping and unwrapping a key twice does no harm. What the plugin answers is final.
    ///
    /// `secret` must not turn up in the error.
    pub(super) async fn call<T, F>(
        &self,
        method: &'static str,
        deadline: Instant,
        secret: Option<&[u8]>,
        send: impl Fn(Channel) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let begin = Instant::now();
        let outcome = self.attempts(deadline, secret, send).await;
        let code = outcome.as_ref().map_or_else(CallError::code, |_| tonic::Code::Ok);
        metrics::call(&self.provider, method, code, begin.elapsed());
        outcome
    }

    async fn attempts<T, F>(
        &self,
        deadline: Instant,
        secret: Option<&[u8]>,
        send: impl Fn(Channel) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut why = None;
        loop {
            let channel = self.channel.load_full();
            match timeout_at(deadline, send(Channel::clone(&channel))).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => match lost(&status) {
                    Some(cause) => why = Some(cause),
                    None if status.message().starts_with(NOT_READY) => {
                        // The channel itself has ended, and would say so for ever.
                        self.leave(&channel);
                        why = Some(status.message().to_owned());
                    }
                    None => {
                        return Err(CallError::Status {
                            code: status.code(),
                            text: text::shown(status.message(), secret),
                        });
                    }
                },
                Err(_) => {
                    // It may hang for a reason that lies in the connection: whoever listens there now is another one.
                    self.leave(&channel);
                    return Err(match why {
                        Some(why) => self.not_reachable(&why),
                        None => CallError::Deadline(self.timeout),
                    });
                }
            }
            let next = Instant::now() + pause;
            if next >= deadline {
                sleep_until(deadline).await;
                return Err(self.not_reachable(&why.unwrap_or_default()));
            }
            sleep_until(next).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Has the next call dial anew, unless somebody else has seen to that.
    fn leave(&self, channel: &Arc<Channel>) {
        let fresh = Arc::new(self::channel(&self.address));
        let _ = self.channel.compare_and_swap(channel, fresh);
    }

    fn not_reachable(&self, why: &str) -> CallError {
        CallError::NotReachable {
            endpoint: self.address.to_string(),
            why: text::shown(why, None),
        }
    }
}

fn channel(address: &Arc<Address>) -> Channel {
    let address = Arc::clone(address);
    let connector = tower::service_fn(move |_: Uri| {
        let address = Arc::clone(&address);
        async move {
            let connected = UnixStream::connect(address.path()).await;
            connected
                .map(TokioIo::new)
                .map_err(|error| explained(address.path(), error))
        }
    });
    Endpoint::from_static(ORIGIN).connect_with_connector_lazy(connector)
}

/// What broke under a call that the plugin has not answered; `None` if the status is its answer.
fn lost(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    // The innermost cause is what the system or the peer did; those around it say "transport error".
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}
