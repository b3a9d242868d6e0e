//! Calls of a KMS v1 plugin. Keeps nothing but that its version was asked for.

use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;

use super::connection::{Connection, MAX_MESSAGE};
use super::failure::CallError;
use super::text;
use crate::pb::v1beta1::key_management_service_client::KeyManagementServiceClient;
use crate::pb::v1beta1::{DecryptRequest, EncryptRequest, VersionRequest};
use crate::types::SecretBytes;

/// The version of the protocol, in every message of it.
const VERSION: &str = "v1beta1";

/// What a v1 plugin does.
pub(super) trait ApiV1: Send + Sync + 'static {
    /// Longest wait for one answer.
    fn timeout(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Whether somebody listens at its socket. Asks nothing of it.
    fn is_there(&self) -> impl Future<Output = bool> + Send {
        async { true }
    }

    /// Wraps `key`.
    fn encrypt(&self, key: &SecretBytes) -> impl Future<Output = Result<Vec<u8>, CallError>> + Send;

    /// Unwraps what [`ApiV1::encrypt`] returned.
    fn decrypt(&self, wrapped: &[u8]) -> impl Future<Output = Result<SecretBytes, CallError>> + Send;
}

/// A plugin at the other end of a socket.
pub(super) struct ClientV1 {
    connection: Connection,
    version: OnceCell<()>,
}

impl ClientV1 {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            version: OnceCell::new(),
        }
    }

    /// Asks for the version before anything else, once; a call that fails leaves it to the next.
    async fn check_version(&self, deadline: Instant) -> Result<(), CallError> {
        let ask = self.version.get_or_try_init(|| async {
            let method = "/v1beta1.KeyManagementService/Version";
            let request = VersionRequest {
                version: VERSION.to_owned(),
            };
            let answer = self
                .connection
                .call(method, deadline, None, |channel| {
                    let request = request.clone();
                    async move { client(channel).version(request).await }
                })
                .await?;
            if answer.version == VERSION {
                return Ok(());
            }
            Err(CallError::Version {
                found: text::shown(&answer.version, None),
                wanted: VERSION,
            })
        });
        // Whoever waits for another's question waits no longer than for its own.
        match timeout_at(deadline, ask).await {
            Ok(answered) => answered.copied(),
            Err(_) => Err(CallError::Deadline(self.connection.timeout())),
        }
    }
}

impl ApiV1 for ClientV1 {
    fn timeout(&self) -> Duration {
        self.connection.timeout()
    }

    async fn is_there(&self) -> bool {
        self.connection.is_there().await
    }

    async fn encrypt(&self, key: &SecretBytes) -> Result<Vec<u8>, CallError> {
        let deadline = self.connection.deadline();
        self.check_version(deadline).await?;
        let method = "/v1beta1.KeyManagementService/Encrypt";
        let send = |channel| {
            let request = EncryptRequest {
                version: VERSION.to_owned(),
                plain: key.expose().to_vec(),
            };
            async move { client(channel).encrypt(request).await }
        };
        let answer = self.connection.call(method, deadline, Some(key.expose()), send).await?;
        Ok(answer.cipher)
    }

    async fn decrypt(&self, wrapped: &[u8]) -> Result<SecretBytes, CallError> {
        let deadline = self.connection.deadline();
        self.check_version(deadline).await?;
        let method = "/v1beta1.KeyManagementService/Decrypt";
        let send = |channel| {
            let request = DecryptRequest {
                version: VERSION.to_owned(),
                cipher: wrapped.to_vec(),
            };
            async move { client(channel).decrypt(request).await }
        };
        let answer = self.connection.call(method, deadline, None, send).await?;
        Ok(SecretBytes::new(answer.plain))
    }
}

fn client(channel: Channel) -> KeyManagementServiceClient<Channel> {
    KeyManagementServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}
