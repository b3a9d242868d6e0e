//! From a passphrase to a root: Argon2id (RFC 9106, version 1.3). What it costs is written into each record, so that it can
//! be raised one day, and is held to bounds when it is read back: below them a record could have a member make of its
//! passphrase something that is cheap to guess at, above them it could take the machine's memory.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::text::Binary;
use crate::types::SecretBytes;

/// Bytes of a salt: what RFC 9106 recommends.
const SALT: usize = 16;

/// The second recommended parameters of RFC 9106, section 4: for where memory is short.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// What a record may ask for at most: four times the memory, and a few seconds.
const MAX_MEMORY_KIB: u32 = 4 * MEMORY_KIB;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

/// How passphrases become roots in one cluster: the salt is made with the keyring's record and stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Stretch {
    algorithm: Name,
    salt: Binary,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The only algorithm and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Name {
    #[serde(rename = "argon2id-19")]
    Argon2id19,
}

impl Stretch {
    /// With a salt of its own. `None` where the system gives no random bytes.
    pub(super) fn fresh() -> Option<Self> {
        let mut salt = vec![0; SALT];
        SysRng.try_fill_bytes(&mut salt).ok()?;
        Some(Self {
            algorithm: Name::Argon2id19,
            salt: Binary(salt),
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
        })
    }

    /// Whether a record may ask for this; else the field and what it must be.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let between = |field, value, least, most| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err((field, format!("it is {value}, and must be {least} to {most}")))
        };
        if self.salt.0.len() != SALT {
            let why = format!("it has {} bytes, and must have {SALT}", self.salt.0.len());
            return Err(("stretch.salt", why));
        }
        between("stretch.memoryKib", self.memory_kib, MEMORY_KIB, MAX_MEMORY_KIB)?;
        between("stretch.passes", self.passes, PASSES, MAX_PASSES)?;
        between("stretch.lanes", self.lanes, 1, MAX_LANES)
    }

    /// The root key of a passphrase; `None` where the memory for it is not to be had. Takes some tenths of a second, and
    /// blocks.
    pub(super) fn root_of(&self, passphrase: &[u8]) -> Option<SecretBytes> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, None).ok()?;
        stretched(params, passphrase, &self.salt.0)
    }

    /// All of it, for what authenticates it.
    pub(super) fn parts(&self) -> ([u32; 3], &[u8]) {
        ([self.memory_kib, self.passes, self.lanes], &self.salt.0)
    }
}

/// Argon2id over memory that is wiped.
fn stretched(params: Params, passphrase: &[u8], salt: &[u8]) -> Option<SecretBytes> {
    let count = params.block_count();
    let mut memory = Zeroizing::new(Vec::new());
    memory.try_reserve_exact(count).ok()?;
    memory.resize(count, Block::new());
    let mut root = Zeroizing::new(vec![0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, &mut root, memory.as_mut_slice())
        .ok()?;
    Some(SecretBytes::new(std::mem::take(&mut root)))
}

#[cfg(test)]
mod tests {
    use argon2::{AssociatedData, ParamsBuilder};

    use super::*;

    /// RFC 9106, section 5.3.
    #[test]
    fn argon2id_gives_the_tag_of_the_rfc() {
        let mut params = ParamsBuilder::new();
        params.m_cost(32).t_cost(3).p_cost(4).output_len(32);
        params.data(AssociatedData::new(&[4; 12]).unwrap());
        let params = params.build().unwrap();
        let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let mut tag = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
        assert_eq!(
            hex::encode(tag),
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
        );
    }

    /// Made with the reference implementation's `argon2` program: `-id -v 13 -m 16 -t 3 -p 4 -l 32 -r`.
    #[test]
    fn a_passphrase_becomes_the_root_that_it_was_before() {
        let stretch = Stretch {
            salt: Binary(b"0123456789abcdef".to_vec()),
            ..Stretch::fresh().unwrap()
        };
        let root = stretch.root_of(b"correct horse battery staple").unwrap();
        assert_eq!(
            hex::encode(root.expose()),
            "efb51f9a76584f6dd6a4f7942a1a2f6ae5a6e4ec5142ff674dfd5d27eb45e446"
        );
    }

    #[test]
    fn what_a_record_asks_for_has_bounds() {
        let good = Stretch::fresh().unwrap();
        assert_eq!(good.check(), Ok(()));
        assert_ne!(good, Stretch::fresh().unwrap());
        for (field, bad) in [
            (
                "memoryKib",
                Stretch {
                    memory_kib: MAX_MEMORY_KIB + 1,
                    ..good.clone()
                },
            ),
            (
                "memoryKib",
                Stretch {
                    memory_kib: 8,
                    ..good.clone()
                },
            ),
            (
                "passes",
                Stretch {
                    passes: u32::MAX,
                    ..good.clone()
                },
            ),
            (
                "passes",
                Stretch {
                    passes: 0,
                    ..good.clone()
                },
            ),
            (
                "lanes",
                Stretch {
                    lanes: 0,
                    ..good.clone()
                },
            ),
            (
                "salt",
                Stretch {
                    salt: Binary(vec![1; 15]),
                    ..good.clone()
                },
            ),
        ] {
            assert_eq!(bad.check().unwrap_err().0, format!("stretch.{field}"));
        }
        let other = serde_json::to_string(&good)
            .unwrap()
            .replace("argon2id-19", "argon2d-19");
        assert!(serde_json::from_str::<Stretch>(&other).is_err());
    }
}
