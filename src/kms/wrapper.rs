//! A KMS v2 plugin that wraps a key now and then, for whoever keeps it with what it seals. No seed, no cache and no watch
//! over the plugin: each call asks it. Keys are wrapped with the plugin's current key and opened with whichever it still has.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use super::address::Address;
use super::client_v2::{ApiV2, ClientV2};
use super::connection::Connection;
use super::v2::status::{OK, VERSIONS, wrapped};
use super::{text, wrapping};
use crate::types::{KeyName, SecretBytes};
use crate::value::{WrappedDek, check_key_id};

/// Why a plugin did not wrap or unwrap a key. Fit to be shown; never holds the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the KMS plugin at {endpoint}: {why}")]
pub struct WrapError {
    endpoint: String,
    why: String,
    is_transient: bool,
}

impl WrapError {
    /// Whether the plugin could not be asked, or could not ask its KMS: the same may work later.
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }
}

/// What a call comes to, without the plugin's name.
type Outcome<T> = Result<T, (String, bool)>;

/// A plugin, by its socket.
pub struct Wrapper {
    endpoint: String,
    client: ClientV2,
}

impl fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapper").field(&self.endpoint).finish()
    }
}

impl Wrapper {
    /// The plugin at `endpoint`, a `unix://` URL as in a configuration; each call is given `timeout`. `name` is what metrics
    /// call it. Dials nothing yet; the connection will live on the runtime that this is called in.
    ///
    /// # Errors
    /// The endpoint leads to no socket.
    pub fn new(name: &str, endpoint: &str, timeout: Duration) -> Result<Self, WrapError> {
        let address = Address::parse(endpoint);
        if !endpoint.starts_with("unix:") || address.path().as_os_str().is_empty() {
            return Err(WrapError {
                endpoint: text::shown(endpoint, None),
                why: "this names no socket; it has to be unix:///PATH, or unix:///@NAME for an abstract one".to_owned(),
                is_transient: false,
            });
        }
        Ok(Self {
            endpoint: endpoint.to_owned(),
            client: ClientV2::new(Connection::new(KeyName::new(name), address, timeout)),
        })
    }

    /// Where it listens, as it was given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The ID of the key that it wraps with now.
    ///
    /// # Errors
    /// It is not well, or cannot be asked.
    pub async fn key_id(&self) -> Result<String, WrapError> {
        key_id(&self.client).await.map_err(|error| self.error(error))
    }

    /// Has `key` wrapped, and unwrapped again before that is relied on.
    ///
    /// # Errors
    /// It was not, or comes back as something else, or is nothing that may be stored.
    pub async fn wrap(&self, key: &SecretBytes) -> Result<WrappedDek<'static>, WrapError> {
        wrap(&self.client, key).await.map_err(|error| self.error(error))
    }

    /// The key that was wrapped.
    ///
    /// # Errors
    /// The plugin does not give it.
    pub async fn unwrap(&self, wrapped: &WrappedDek<'static>) -> Result<SecretBytes, WrapError> {
        unwrap(&self.client, wrapped).await.map_err(|error| self.error(error))
    }

    fn error(&self, (why, is_transient): (String, bool)) -> WrapError {
        WrapError {
            endpoint: self.endpoint.clone(),
            why,
            is_transient,
        }
    }
}

async fn key_id<A: ApiV2>(api: &A) -> Outcome<String> {
    let failed = |why: String| Err((why, false));
    let status = api
        .status()
        .await
        .map_err(|error| (format!("Status failed: {error}"), error.is_transient()))?;
    if status.healthz != OK {
        let healthz = text::shown(&status.healthz, None);
        return Err((format!("it is not well, its healthz is {healthz:?}"), true));
    }
    if !VERSIONS.contains(&status.version.as_str()) {
        let version = text::shown(&status.version, None);
        return failed(format!("it speaks version {version:?}, and v2 is needed"));
    }
    match check_key_id(&status.key_id) {
        Ok(()) => Ok(status.key_id),
        Err(problem) => failed(format!("the key_id of its Status is of no use: {problem}")),
    }
}

async fn wrap<A: ApiV2>(api: &A, key: &SecretBytes) -> Outcome<WrappedDek<'static>> {
    let named = key_id(api).await?;
    let answer = api.encrypt(key).await;
    let wrapped = wrapped(answer.map_err(|error| (format!("Encrypt failed: {error}"), error.is_transient()))?);
    let unusable = |problem: String| (format!("what Encrypt returned is of no use: {problem}"), false);
    wrapped.validate().map_err(|problem| unusable(problem.to_string()))?;
    let annotations = wrapped.annotations.iter().map(|(_, value)| value.as_ref());
    wrapping::check(key, annotations.chain([wrapped.source.as_ref()])).map_err(|error| unusable(error.to_string()))?;
    if wrapped.key_id != named {
        // It may just have changed its key; then the next try finds the two agreed.
        return Err(("Status and Encrypt name different keys".to_owned(), true));
    }
    let again = unwrap(api, &wrapped).await?;
    if again != *key {
        return Err(unusable("Decrypt makes something else of it".to_owned()));
    }
    Ok(wrapped)
}

async fn unwrap<A: ApiV2>(api: &A, wrapped: &WrappedDek<'static>) -> Outcome<SecretBytes> {
    api.decrypt(wrapped)
        .await
        .map_err(|error| (format!("Decrypt failed: {error}"), error.is_transient()))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::kms::failure::CallError;
    use crate::pb::v2::{EncryptResponse, StatusResponse};

    /// Wraps by turning every bit, but for what it is told to do wrong.
    #[derive(Clone, Default)]
    struct Plugin {
        healthz: Option<&'static str>,
        version: Option<&'static str>,
        status_key_id: Option<&'static str>,
        ciphertext: Option<Vec<u8>>,
        plaintext: Option<Vec<u8>>,
        is_down: bool,
    }

    impl ApiV2 for Plugin {
        async fn status(&self) -> Result<StatusResponse, CallError> {
            if self.is_down {
                return Err(CallError::Status {
                    code: Code::Unavailable,
                    text: "broken".into(),
                });
            }
            Ok(StatusResponse {
                version: self.version.unwrap_or("v2").into(),
                healthz: self.healthz.unwrap_or("ok").into(),
                key_id: self.status_key_id.unwrap_or("one").into(),
            })
        }

        async fn encrypt(&self, seed: &SecretBytes) -> Result<EncryptResponse, CallError> {
            let turned = seed.expose().iter().map(|byte| !byte).collect();
            Ok(EncryptResponse {
                ciphertext: self.ciphertext.clone().unwrap_or(turned),
                key_id: "one".into(),
                annotations: [("version.example.com".to_owned(), b"1".to_vec())].into(),
            })
        }

        async fn decrypt(&self, wrapped: &WrappedDek<'static>) -> Result<SecretBytes, CallError> {
            let turned = wrapped.source.iter().map(|byte| !byte).collect();
            Ok(SecretBytes::new(self.plaintext.clone().unwrap_or(turned)))
        }
    }

    #[tokio::test]
    async fn a_key_is_wrapped_by_a_plugin_that_is_well_and_honest_and_by_no_other() {
        let key = SecretBytes::new((0..32).collect());
        let good = Plugin::default();
        let wrapped = wrap(&good, &key).await.unwrap();
        assert_eq!((&*wrapped.key_id, wrapped.annotations.len()), ("one", 1));
        assert_eq!(unwrap(&good, &wrapped).await.unwrap(), key);

        for (change, wanted, is_transient) in [
            ((|bad| bad.is_down = true) as fn(&mut Plugin), "Status failed", true),
            (|bad| bad.healthz = Some("no"), "not well", true),
            (|bad| bad.version = Some("v3"), "version \"v3\"", false),
            (|bad| bad.status_key_id = Some(""), "key_id", false),
            (|bad| bad.status_key_id = Some("two"), "different keys", true),
            (|bad| bad.ciphertext = Some(Vec::new()), "it is empty", false),
            (|bad| bad.ciphertext = Some(vec![1; 1025]), "at most 1024", false),
            (|bad| bad.ciphertext = Some((0..32).collect()), "not encrypted", false),
            (|bad| bad.plaintext = Some(vec![9; 32]), "something else", false),
        ] {
            let mut bad = good.clone();
            change(&mut bad);
            let (why, passes) = wrap(&bad, &key).await.unwrap_err();
            assert!(why.contains(wanted), "{why}");
            assert_eq!(passes, is_transient, "{why}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_leads_to_no_socket_is_refused() {
        let second = Duration::from_secs(1);
        assert!(Wrapper::new("root", "unix:///tmp/kms.sock", second).is_ok());
        for endpoint in ["", "unix://", "unix://kms.sock", "http://localhost", "/tmp/kms.sock"] {
            let error = Wrapper::new("root", endpoint, second).unwrap_err().to_string();
            assert!(error.contains("unix:///PATH"), "{error}");
        }
    }
}
