//! `migrate`: its flags, and what they say of the provider that is to write.

use std::time::Duration;

use clap::{Args, ValueEnum as _};

use super::{KeyTypeName, RunFlags, SweepFlags};
use crate::config::{Kms, KmsApiVersion, Target};
use crate::types::KeyName;

/// Flags of `migrate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MigrateFlags {
    #[command(flatten)]
    pub(super) run: RunFlags,
    /// What is to write: kms:v2:NAME=unix:///SOCKET or kms:v1:NAME=unix:///SOCKET, a plugin that every member reaches at that socket;
    /// aescbc, aesgcm or secretbox, with a new key; or identity, for values in the clear
    #[arg(long, value_name = "PROVIDER", value_parser = target, help_heading = "Migration")]
    to: Target,
    /// Longest wait for one call of the KMS plugin, `timeout` of its provider
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration,
          help_heading = "Migration")]
    kms_timeout: Duration,
    /// How many keys of a KMS v1 plugin are kept in memory, `cachesize` of its provider; below 0 for none [default: 1000]
    #[arg(long, value_name = "KEYS", allow_negative_numbers = true, help_heading = "Migration")]
    kms_cachesize: Option<i32>,
    #[command(flatten)]
    pub(super) sweep: SweepFlags,
}

impl MigrateFlags {
    /// What is to write, with what the other flags say of it.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        let Target::Kms(kms) = &self.to else {
            anyhow::ensure!(
                self.kms_cachesize.is_none(),
                "--kms-cachesize is for --to kms:v1:NAME=unix:///SOCKET"
            );
            return Ok(self.to.clone());
        };
        let cache_size = self.kms_cachesize.or(kms.cache_size);
        let timeout = self.kms_timeout;
        let to = Target::Kms(Kms {
            cache_size,
            timeout,
            ..kms.clone()
        });
        to.check()?;
        Ok(to)
    }
}

/// `kms:v2:NAME=unix:///SOCKET`, or the name of a provider.
fn target(given: &str) -> Result<Target, String> {
    let Some(plugin) = given.strip_prefix("kms:") else {
        return match given {
            "identity" => Ok(Target::Identity),
            _ => KeyTypeName::from_str(given, false)
                .map(|name| Target::Keys(name.into()))
                .map_err(|_| EXPECTED.to_owned()),
        };
    };
    let (version, named) = plugin.split_once(':').ok_or(EXPECTED)?;
    // A name may hold nearly anything.
    let (name, path) = named.split_once("=unix:").ok_or(EXPECTED)?;
    let (api_version, cache_size) = match version {
        "v1" => (KmsApiVersion::V1, Some(1_000)),
        "v2" => (KmsApiVersion::V2, None),
        _ => return Err(EXPECTED.to_owned()),
    };
    let to = Target::Kms(Kms {
        api_version,
        name: KeyName::new(name),
        cache_size,
        endpoint: format!("unix:{path}"),
        timeout: Duration::from_secs(3),
    });
    to.check().map_err(|error| error.to_string())?;
    Ok(to)
}

const EXPECTED: &str =
    "expected kms:v2:NAME=unix:///SOCKET, kms:v1:NAME=unix:///SOCKET, aescbc, aesgcm, secretbox or identity";
