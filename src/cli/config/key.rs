//! `config key`: a new key, drawn from the operating system and printed once. It is kept nowhere.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::cli::common::KeyTypeName;
use crate::cli::output::print;
use crate::config::KeyType;

/// Flags of `config key`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Flags {
    /// The cipher that the key is for
    #[arg(long = "type", value_enum, value_name = "PROVIDER")]
    kind: KeyTypeName,
    /// The key's name, stored beside every value; by default the provider's and the time, as in
    /// aescbckey-2026-01-31T12:00:00Z
    #[arg(long)]
    name: Option<String>,
    /// The key's length; secretbox has 256 alone
    #[arg(long, default_value = "256", value_parser = ["128", "192", "256"])]
    bits: String,
    /// How it is printed, to standard output
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Output,
}

/// `--output`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

/// Makes the key and prints it: an element for a list of `providers`.
pub(super) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let bits: usize = flags.bits.parse().context("--bits")?;
    let kind = KeyType::from(flags.kind);
    anyhow::ensure!(
        kind != KeyType::Secretbox || bits == 256,
        "a secretbox key has 256 bits"
    );
    let name = match &flags.name {
        Some(name) => name.clone(),
        None => format!("{kind}key-{}", humantime::format_rfc3339_seconds(SystemTime::now())),
    };
    anyhow::ensure!(!name.is_empty(), "a key must have a name");
    // JSON's strings are YAML's too, whatever is in them.
    let name = serde_json::to_string(&name)?;
    let secret = drawn(bits / 8)?;
    let printed = Zeroizing::new(match flags.output {
        Output::Yaml => format!(
            "- {kind}:\n    keys:\n    - name: {name}\n      secret: {}\n",
            secret.as_str()
        ),
        Output::Json => format!(
            "{{\"{kind}\": {{\"keys\": [{{\"name\": {name}, \"secret\": \"{}\"}}]}}}}\n",
            secret.as_str()
        ),
    });
    print(&printed)?;
    Ok(ExitCode::SUCCESS)
}

/// So many random bytes of the operating system's, in base64.
fn drawn(length: usize) -> anyhow::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    SysRng
        .try_fill_bytes(&mut bytes)
        .context("the system gives no random bytes")?;
    Ok(Zeroizing::new(STANDARD.encode(&bytes)))
}
