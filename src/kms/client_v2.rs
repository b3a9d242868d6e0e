//! Calls of a KMS v2 plugin. Keeps nothing.

use std::time::Duration;

use rand::RngExt as _;
use tonic::transport::Channel;

use super::connection::{Connection, MAX_MESSAGE};
use super::failure::CallError;
use crate::pb::v2::key_management_service_client::KeyManagementServiceClient;
use crate::pb::v2::{DecryptRequest, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse};
use crate::types::SecretBytes;
use crate::value::WrappedDek;

/// What a v2 plugin does.
pub(super) trait ApiV2: Send + Sync + 'static {
    /// Longest wait for one answer.
    fn timeout(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Whether somebody listens at its socket. Asks nothing of it.
    fn is_there(&self) -> impl Future<Output = bool> + Send {
        async { true }
    }

    /// Says how it is, and which key it wraps with.
    fn status(&self) -> impl Future<Output = Result<StatusResponse, CallError>> + Send;

    /// Wraps `seed`.
    fn encrypt(&self, seed: &SecretBytes) -> impl Future<Output = Result<EncryptResponse, CallError>> + Send;

    /// Unwraps what [`ApiV2::encrypt`] returned.
    fn decrypt(&self, wrapped: &WrappedDek<'static>) -> impl Future<Output = Result<SecretBytes, CallError>> + Send;
}

/// A plugin at the other end of a socket.
pub(super) struct ClientV2(Connection);

impl ClientV2 {
    pub(super) fn new(connection: Connection) -> Self {
        Self(connection)
    }
}

impl ApiV2 for ClientV2 {
    fn timeout(&self) -> Duration {
        self.0.timeout()
    }

    async fn is_there(&self) -> bool {
        self.0.is_there().await
    }

    async fn status(&self) -> Result<StatusResponse, CallError> {
        let method = "/v2.KeyManagementService/Status";
        let send = |channel| async move { client(channel).status(StatusRequest {}).await };
        self.0.call(method, self.0.deadline(), None, send).await
    }

    async fn encrypt(&self, seed: &SecretBytes) -> Result<EncryptResponse, CallError> {
        let method = "/v2.KeyManagementService/Encrypt";
        let uid = uid();
        let call = |channel| {
            let request = EncryptRequest {
                plaintext: seed.expose().to_vec(),
                uid: uid.clone(),
            };
            async move { client(channel).encrypt(request).await }
        };
        self.0.call(method, self.0.deadline(), Some(seed.expose()), call).await
    }

    async fn decrypt(&self, wrapped: &WrappedDek<'static>) -> Result<SecretBytes, CallError> {
        let method = "/v2.KeyManagementService/Decrypt";
        let uid = uid();
        let send = |channel| {
            let annotations = wrapped.annotations.iter();
            let request = DecryptRequest {
                ciphertext: wrapped.source.to_vec(),
                uid: uid.clone(),
                key_id: wrapped.key_id.to_string(),
                annotations: annotations
                    .map(|(key, value)| (key.to_string(), value.to_vec()))
                    .collect(),
            };
            async move { client(channel).decrypt(request).await }
        };
        let answer = self.0.call(method, self.0.deadline(), None, send).await?;
        Ok(SecretBytes::new(answer.plaintext))
    }
}

fn client(channel: Channel) -> KeyManagementServiceClient<Channel> {
    KeyManagementServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE)
}

/// A random UUID (RFC 9562, version 4): the name of one call in the plugin's log and in its KMS's.
fn uid() -> String {
    let random: u128 = rand::rng().random();
    let marked = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{marked:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_a_random_uuid() {
        let one = uid();
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4', "{one}");
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
        assert_ne!(one, uid());
    }
}
