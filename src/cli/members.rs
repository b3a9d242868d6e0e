//! Flags of what a serving process does on etcd for itself: its record among the members, and the sweep in the background.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::common::positive;
use super::switch::SWITCH;
use crate::app::{Background, host};
use crate::rotation::Policy;
use crate::sweep::Limits;

/// The flags.
#[derive(Debug, Args)]
pub(super) struct MembersFlags {
    /// What operators call this process, where members are named; the host's name by default
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_NAME",
        value_name = "NAME",
        value_parser = name,
        help_heading = "Members"
    )]
    name: Option<String>,
    /// Keep a record of this process in etcd, under --state-prefix: which configuration it has loaded. Sweeps of others wait
    /// until all have loaded the same. Without it nothing of the proxy's own is written, and --sweep has to be off
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_MEMBER_RECORD",
        default_value_t = true,
        value_name = SWITCH,
        help_heading = "Members"
    )]
    member_record: bool,
    /// Encrypt stored values anew, in the background, when the configuration or the key ID of a KMS has made them stale: one
    /// member does it for all, once all have loaded the same configuration. It never decrypts what a rule with identity first
    /// would store in the clear; the verb `sweep` does
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_SWEEP",
        value_enum,
        default_value = "auto",
        help_heading = "Members"
    )]
    sweep: SweepFlag,
    /// At most so many keys a second, read or written by that sweep
    #[arg(long, env = "ETCD_ENCRYPTION_PROXY_SWEEP_RATE", value_name = "KEYS", value_parser = positive, help_heading = "Members")]
    sweep_rate: Option<f64>,
    /// At most so many bytes of stored values a second, read or written by that sweep
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_SWEEP_RATE_BYTES",
        value_name = "BYTES",
        value_parser = positive,
        help_heading = "Members"
    )]
    sweep_rate_bytes: Option<f64>,
    /// Rotate keys when the one that writes is so old: 2160h is 90 days. For the keyring in etcd only
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ROTATE_EVERY",
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        help_heading = "Members"
    )]
    rotate_every: Option<Duration>,
    /// Rotate keys when all members together have sealed so many values with the one that writes. For the keyring in etcd
    /// only
    #[arg(
        long,
        env = "ETCD_ENCRYPTION_PROXY_ROTATE_AFTER_WRITES",
        value_name = "WRITES",
        help_heading = "Members"
    )]
    rotate_after_writes: Option<NonZeroU64>,
}

/// `--sweep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SweepFlag {
    Auto,
    Off,
}

impl MembersFlags {
    /// What they say.
    pub(super) fn settings(self) -> anyhow::Result<Background> {
        Ok(match (self.member_record, self.sweep) {
            (true, sweep) => Background::On {
                name: self.name.unwrap_or_else(host),
                sweep: (sweep == SweepFlag::Auto).then_some(Limits {
                    keys_per_second: self.sweep_rate,
                    bytes_per_second: self.sweep_rate_bytes,
                    ..Limits::default()
                }),
                rotation: Policy {
                    every: self.rotate_every,
                    after_writes: self.rotate_after_writes.map(NonZeroU64::get),
                },
            },
            (false, SweepFlag::Off) => Background::Off,
            (false, SweepFlag::Auto) => anyhow::bail!(
                "--member-record=false needs --sweep=off: a sweep is coordinated through the members' records"
            ),
        })
    }
}

/// A name that can be shown in a line of text.
fn name(text: &str) -> Result<String, String> {
    const MAX: usize = 253;
    let is_plain = text.chars().all(|c| c.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX || !is_plain {
        return Err(format!("1 to {MAX} printable ASCII characters without spaces"));
    }
    Ok(text.to_owned())
}
