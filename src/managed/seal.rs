//! A document sealed under a root: AES-256-GCM with a key that seals nothing else, and with everything that is said of the
//! document authenticated beside it. Knows no record and no store.

use aws_lc_rs::aead::{self, AES_256_GCM, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{OpenError, RootError};
use super::root::CONTENT_SALT;
use super::root_id::RootId;
use super::roots::{Means, Roots};
use super::stretch::Stretch;
use super::text::Binary;
use super::wrapped::Wrapped;
use crate::types::SecretBytes;
use crate::value::WrappedDek;

const TAG: usize = 16;
const KEY: usize = 32;

/// What is authenticated with a document. Each field stands behind its length, so that no two lists of fields are the same
/// bytes.
pub(super) struct Aad(Vec<u8>);

impl Aad {
    /// For a record of this role under this key of etcd.
    pub(super) fn new(role: &str, key: &[u8]) -> Self {
        Self(Vec::new())
            .bytes(b"etcd-encryption-proxy managed v1")
            .bytes(role.as_bytes())
            .bytes(key)
    }

    pub(super) fn bytes(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(&(field.len() as u64).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    pub(super) fn number(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    pub(super) fn stretch(self, stretch: &Stretch) -> Self {
        let (costs, salt) = stretch.parts();
        costs
            .into_iter()
            .fold(self, |aad, cost| aad.number(cost.into()))
            .bytes(salt)
    }
}

/// A sealed document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Sealed {
    /// Under which root.
    root: RootId,
    /// How the key comes from it.
    key: ContentKey,
    nonce: Binary,
    ciphertext: Binary,
}

/// How a sealing's own key is had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ContentKey {
    /// From a root of the file, with this salt.
    Derived(Binary),
    /// From the plugin, which has wrapped it.
    Kms(Wrapped),
}

impl Sealed {
    /// Seals `document`.
    pub(super) async fn new(means: &Means<'_>, aad: Aad, document: &[u8]) -> Result<Self, RootError> {
        let (root, key, cipher) = match means {
            Means::Key(root) => {
                let salt = random::<CONTENT_SALT>()?.to_vec();
                let cipher = root.content_key(&salt).ok_or(RootError::Derive)?;
                (root.id(), ContentKey::Derived(Binary(salt)), cipher)
            }
            Means::Kms(kms) => {
                let key = SecretBytes::new(random::<KEY>()?.to_vec());
                let wrapped = kms.wrap(&key).await?;
                let root = RootId::of_kms_key(&wrapped.key_id).ok_or(RootError::Derive)?;
                let cipher = cipher(&key).ok_or(RootError::Derive)?;
                (root, ContentKey::Kms(Wrapped::of(wrapped)), cipher)
            }
        };
        let nonce = *random::<NONCE_LEN>()?;
        // Room for the tag at once: a buffer that grows leaves its plaintext behind.
        let mut text = Zeroizing::new(Vec::with_capacity(document.len() + TAG));
        text.extend_from_slice(document);
        let aad = aead::Aad::from(aad.bytes(root.as_bytes()).0);
        let tag = cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text);
        text.extend_from_slice(tag.map_err(|_| RootError::Derive)?.as_ref());
        Ok(Self {
            root,
            key,
            nonce: Binary(nonce.to_vec()),
            ciphertext: Binary(std::mem::take(&mut text)),
        })
    }

    /// Opens it.
    pub(super) async fn open(&self, roots: &Roots, stretch: &Stretch, aad: Aad) -> Result<SecretBytes, OpenError> {
        let altered = OpenError::Altered(self.root);
        let cipher = match &self.key {
            ContentKey::Derived(salt) => match roots.key(self.root, stretch).await? {
                Some(root) => root.content_key(&salt.0).ok_or(RootError::Derive)?,
                None => return Err(self.no_root(roots, stretch).await),
            },
            ContentKey::Kms(wrapped) => match roots.kms() {
                Some(kms) => {
                    let wrapped: WrappedDek<'static> = wrapped.dek();
                    if RootId::of_kms_key(&wrapped.key_id) != Some(self.root) {
                        return Err(altered);
                    }
                    let key = kms.unwrap(&wrapped).await.map_err(RootError::Kms)?;
                    let Some(cipher) = cipher(&key) else {
                        return Err(altered);
                    };
                    cipher
                }
                None => return Err(OpenError::NoKms(self.root)),
            },
        };
        let Ok(nonce) = Nonce::try_assume_unique_for_key(&self.nonce.0) else {
            return Err(altered);
        };
        let aad = aead::Aad::from(aad.bytes(self.root.as_bytes()).0);
        let mut text = Zeroizing::new(self.ciphertext.0.clone());
        let Ok(length) = cipher.open_in_place(nonce, aad, &mut text).map(|text| text.len()) else {
            return Err(altered);
        };
        text.truncate(length);
        Ok(SecretBytes::new(std::mem::take(&mut text)))
    }

    async fn no_root(&self, roots: &Roots, stretch: &Stretch) -> OpenError {
        let has = roots.of_file(stretch).await;
        has.map_or_else(OpenError::Root, |has| OpenError::NoRoot { wants: self.root, has })
    }

    /// What it is sealed under.
    pub(super) fn root(&self) -> RootId {
        self.root
    }

    /// Whether that is a plugin's key.
    pub(super) fn is_kms(&self) -> bool {
        matches!(self.key, ContentKey::Kms(_))
    }

    /// Whether its parts are as long as they must be; else the field and what is wrong.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let long = |field, found: &Binary, wanted: usize| match found.0.len() {
            length if length == wanted => Ok(()),
            length => Err((field, format!("it has {length} bytes, and must have {wanted}"))),
        };
        match &self.key {
            ContentKey::Derived(salt) => long("sealed.key.derived", salt, CONTENT_SALT)?,
            ContentKey::Kms(wrapped) => wrapped.check().map_err(|why| ("sealed.key.kms", why))?,
        }
        long("sealed.nonce", &self.nonce, NONCE_LEN)?;
        if self.ciphertext.0.len() <= TAG {
            return Err(("sealed.ciphertext", "it holds nothing".to_owned()));
        }
        Ok(())
    }
}

/// A key that seals one document; `None` if it has not 32 bytes.
fn cipher(key: &SecretBytes) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.expose()).ok().map(LessSafeKey::new)
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, RootError> {
    let mut bytes = Zeroizing::new([0; N]);
    SysRng.try_fill_bytes(&mut *bytes).map_err(|_| RootError::Random)?;
    Ok(bytes)
}
