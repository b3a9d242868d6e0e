//! From a configuration back to a document that kube-apiserver reads: YAML (or JSON), in ASCII. Comments and the ways in which
//! something can be spelt are not kept; what it says is.

use std::fmt::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::decode::Syntax;
use super::draft::Draft;
use super::go::GoDuration;
use super::model::{Entry, Key, Kms, KmsApiVersion, Provider};
use super::render_json;
use super::scalar::{Meaning, resolve};

impl Draft {
    /// The document as YAML, with a line of `comment` on top. It lies in one allocation, which is wiped when dropped.
    pub fn render(&self, comment: &str) -> Zeroizing<String> {
        self.render_as(Syntax::Yaml, comment)
    }

    /// The same in a syntax. JSON has no comments: there the document ends with white space that is another one for each
    /// `comment`.
    pub fn render_as(&self, syntax: Syntax, comment: &str) -> Zeroizing<String> {
        let mut length = Length(0);
        // Neither of the two can fail.
        let _ = self.write_as(syntax, comment, &mut length);
        let mut text = Zeroizing::new(String::with_capacity(length.0));
        let _ = self.write_as(syntax, comment, &mut *text);
        text
    }

    fn write_as(&self, syntax: Syntax, comment: &str, to: &mut impl Write) -> fmt::Result {
        match syntax {
            Syntax::Yaml => self.write(comment, to),
            Syntax::Json => render_json::write(&self.entries, comment, to),
        }
    }

    fn write(&self, comment: &str, to: &mut impl Write) -> fmt::Result {
        writeln!(to, "# {}", comment.escape_default())?;
        to.write_str("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n")?;
        self.entries.iter().try_for_each(|entry| write_entry(entry, to))
    }
}

/// Counts what is written, so that no buffer has to grow and leave keys where it was.
struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

fn write_entry(entry: &Entry, to: &mut impl Write) -> fmt::Result {
    to.write_str("- resources:\n")?;
    for resource in &entry.resources {
        writeln!(to, "  - {}", Scalar(&resource.to_string()))?;
    }
    to.write_str("  providers:\n")?;
    for provider in &entry.providers {
        match provider {
            Provider::Identity => to.write_str("  - identity: {}\n")?,
            Provider::Kms(kms) => write_kms(kms, to)?,
            Provider::AesCbc { keys } => write_keys("aescbc", keys, to)?,
            Provider::AesGcm { keys } => write_keys("aesgcm", keys, to)?,
            Provider::Secretbox { keys } => write_keys("secretbox", keys, to)?,
        }
    }
    Ok(())
}

fn write_keys(provider: &str, keys: &[Key], to: &mut impl Write) -> fmt::Result {
    writeln!(to, "  - {provider}:\n      keys:")?;
    for key in keys {
        let secret = Zeroizing::new(STANDARD.encode(key.secret.expose()));
        // Always in quotes: base64 may look like a number.
        writeln!(
            to,
            "      - name: {}\n        secret: \"{}\"",
            Scalar(key.name.as_str()),
            secret.as_str()
        )?;
    }
    Ok(())
}

fn write_kms(kms: &Kms, to: &mut impl Write) -> fmt::Result {
    let version = match kms.api_version {
        KmsApiVersion::V1 => "v1",
        KmsApiVersion::V2 => "v2",
    };
    let nanoseconds = i64::try_from(kms.timeout.as_nanos()).unwrap_or(i64::MAX);
    writeln!(to, "  - kms:\n      apiVersion: {version}")?;
    writeln!(to, "      name: {}", Scalar(kms.name.as_str()))?;
    if let Some(size) = kms.cache_size {
        writeln!(to, "      cachesize: {size}")?;
    }
    writeln!(to, "      endpoint: {}", Scalar(&kms.endpoint))?;
    writeln!(to, "      timeout: {}", Scalar(&GoDuration(nanoseconds).to_string()))
}

/// A string: as it is where nobody could take it for anything else, or in quotes with all escaped that is not ASCII.
struct Scalar<'a>(&'a str);

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/');
        let begins = self.0.starts_with(|first: char| first.is_ascii_alphabetic());
        if begins && self.0.bytes().all(is_plain) && resolve(self.0) == Meaning::Text {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => f.write_char(character)?,
                _ if u32::from(character) <= 0xffff => write!(f, "\\u{:04x}", u32::from(character))?,
                _ => write!(f, "\\U{:08x}", u32::from(character))?,
            }
        }
        f.write_char('"')
    }
}
