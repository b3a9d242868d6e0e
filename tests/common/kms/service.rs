//! What the plugin answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use rand::RngExt as _;
use tonic::{Request, Response, Status};

use super::pb::{v1beta1, v2};
use super::{Behaviour, Shared};

/// KMS v1.
#[derive(Debug)]
pub(super) struct V1(pub(super) Arc<Shared>);

/// KMS v2.
#[derive(Debug)]
pub(super) struct V2(pub(super) Arc<Shared>);

/// Nonce's length, bytes; before it stands the version of the key.
const NONCE: usize = 12;

/// One version of the plugin's key. It outlives restarts.
fn kek(version: u8) -> LessSafeKey {
    let key = digest(&SHA256, format!("kek {version}").as_bytes());
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("a key"))
}

fn wrap(version: u8, plaintext: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE] = rand::rng().random();
    let mut sealed = plaintext.to_vec();
    kek(version)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
        .expect("AES-GCM");
    [&[version], nonce.as_slice(), &sealed].concat()
}

fn unwrap(wrapped: &[u8]) -> Result<Vec<u8>, Status> {
    let refused = || Status::invalid_argument("not wrapped by this plugin");
    let (version, rest) = wrapped.split_first().ok_or_else(refused)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(refused)?;
    let mut sealed = sealed.to_vec();
    let opened = kek(*version).open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut sealed);
    Ok(opened.map_err(|_| refused())?.to_vec())
}

/// A call that is under way.
struct Call<'a>(&'a Shared);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.counts.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// Counts a call, makes it wait, and fails it if that is what is wanted.
    async fn begin(&self, counter: &AtomicUsize, given: &[u8]) -> Result<(Behaviour, Call<'_>), Status> {
        let under_way = self.counts.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        let call = Call(self);
        self.counts.most.fetch_max(under_way, Ordering::SeqCst);
        counter.fetch_add(1, Ordering::SeqCst);
        let behaviour = self.behaviour.lock().expect("a lock").clone();
        if !behaviour.delay.is_zero() {
            tokio::time::sleep(behaviour.delay).await;
        }
        match behaviour.error {
            // As careless as a plugin can be.
            Some(code) => Err(Status::new(code, format!("cannot do it for {}\n", hex::encode(given)))),
            None => Ok((behaviour, call)),
        }
    }
}

impl Shared {
    /// Refuses a Decrypt that is one too many in this second.
    fn throttle(&self, behaviour: &Behaviour) -> Result<(), Status> {
        let Some(most) = behaviour.decrypts_a_second else {
            return Ok(());
        };
        let mut second = self.second.lock().expect("a lock");
        let (since, count) = second
            .filter(|(since, _)| since.elapsed().as_secs() == 0)
            .unwrap_or((Instant::now(), 0));
        if count >= most {
            return Err(Status::resource_exhausted("too many calls in this second"));
        }
        *second = Some((since, count + 1));
        Ok(())
    }
}

impl Behaviour {
    fn wrapped(&self, plaintext: &[u8]) -> Vec<u8> {
        if self.in_clear {
            return plaintext.to_vec();
        }
        self.ciphertext.clone().unwrap_or_else(|| wrap(self.key, plaintext))
    }

    fn unwrapped(&self, wrapped: &[u8]) -> Result<Vec<u8>, Status> {
        if let Some(code) = self.decrypt_error {
            return Err(Status::new(code, "the key is not to be had"));
        }
        if wrapped.first().is_some_and(|version| *version < self.oldest) {
            return Err(Status::not_found("that version of the key is gone"));
        }
        self.plaintext.clone().map_or_else(|| unwrap(wrapped), Ok)
    }

    fn key_id(&self, instead: Option<&String>) -> String {
        instead.cloned().unwrap_or_else(|| format!("key-{}", self.key))
    }
}

#[tonic::async_trait]
impl v1beta1::key_management_service_server::KeyManagementService for V1 {
    async fn version(
        &self,
        request: Request<v1beta1::VersionRequest>,
    ) -> Result<Response<v1beta1::VersionResponse>, Status> {
        assert_eq!(request.get_ref().version, "v1beta1");
        let (behaviour, _call) = self.0.begin(&self.0.counts.version, b"").await?;
        Ok(Response::new(v1beta1::VersionResponse {
            version: behaviour.version.unwrap_or_else(|| "v1beta1".to_owned()),
            runtime_name: "test".to_owned(),
            runtime_version: "1".to_owned(),
        }))
    }

    async fn encrypt(
        &self,
        request: Request<v1beta1::EncryptRequest>,
    ) -> Result<Response<v1beta1::EncryptResponse>, Status> {
        let plain = &request.get_ref().plain;
        let (behaviour, _call) = self.0.begin(&self.0.counts.encrypt, plain).await?;
        self.0.given.lock().expect("a lock").push(plain.clone());
        Ok(Response::new(v1beta1::EncryptResponse {
            cipher: behaviour.wrapped(plain),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<v1beta1::DecryptRequest>,
    ) -> Result<Response<v1beta1::DecryptResponse>, Status> {
        let cipher = &request.get_ref().cipher;
        let (behaviour, _call) = self.0.begin(&self.0.counts.decrypt, cipher).await?;
        self.0.throttle(&behaviour)?;
        Ok(Response::new(v1beta1::DecryptResponse {
            plain: behaviour.unwrapped(cipher)?,
        }))
    }
}

#[tonic::async_trait]
impl v2::key_management_service_server::KeyManagementService for V2 {
    async fn status(&self, _request: Request<v2::StatusRequest>) -> Result<Response<v2::StatusResponse>, Status> {
        let (behaviour, _call) = self.0.begin(&self.0.counts.status, b"").await?;
        Ok(Response::new(v2::StatusResponse {
            key_id: behaviour.key_id(behaviour.status_key_id.as_ref()),
            version: behaviour.version.unwrap_or_else(|| "v2".to_owned()),
            healthz: behaviour.healthz.unwrap_or_else(|| "ok".to_owned()),
        }))
    }

    async fn encrypt(&self, request: Request<v2::EncryptRequest>) -> Result<Response<v2::EncryptResponse>, Status> {
        let request = request.get_ref();
        assert!(!request.uid.is_empty());
        let (behaviour, _call) = self.0.begin(&self.0.counts.encrypt, &request.plaintext).await?;
        self.0.given.lock().expect("a lock").push(request.plaintext.clone());
        Ok(Response::new(v2::EncryptResponse {
            ciphertext: behaviour.wrapped(&request.plaintext),
            key_id: behaviour.key_id(behaviour.encrypt_key_id.as_ref()),
            annotations: behaviour.annotations.into_iter().collect::<HashMap<_, _>>(),
        }))
    }

    async fn decrypt(&self, request: Request<v2::DecryptRequest>) -> Result<Response<v2::DecryptResponse>, Status> {
        let request = request.get_ref();
        assert!(!request.uid.is_empty() && !request.key_id.is_empty());
        let (behaviour, _call) = self.0.begin(&self.0.counts.decrypt, &request.ciphertext).await?;
        self.0.throttle(&behaviour)?;
        Ok(Response::new(v2::DecryptResponse {
            plaintext: behaviour.unwrapped(&request.ciphertext)?,
        }))
    }
}
