//! The outcome of `config check` for people.

use std::fmt::{self, Write as _};

use super::check::Report;
use crate::review::{Finding, ProviderView, RuleView, Severity};

/// All of it, in lines.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fingerprint {
            Some(fingerprint) => writeln!(out, "{}: valid, {fingerprint}", self.file)?,
            None => writeln!(out, "{}: not valid", self.file)?,
        }
        for problem in &self.problems {
            writeln!(out, "  {}", problem.text)?;
        }
        for rule in &self.rules {
            out.write_char('\n')?;
            write_rule(out, rule)?;
        }
        for finding in &self.findings {
            out.write_char('\n')?;
            write_finding(out, finding)?;
        }
        if self.valid {
            let count = |severity| {
                let of_it = self.findings.iter().filter(|finding| finding.severity == severity);
                of_it.count()
            };
            let (warnings, notes) = (count(Severity::Warning), count(Severity::Note));
            out.write_char('\n')?;
            match count(Severity::Error) {
                0 => {}
                errors => write!(out, "errors: {errors}, ")?,
            }
            writeln!(out, "warnings: {warnings}, notes: {notes}")?;
        }
        Ok(())
    }
}

fn write_rule(out: &mut fmt::Formatter<'_>, rule: &RuleView) -> fmt::Result {
    writeln!(out, "{}", rule.resource)?;
    let readers: Vec<_> = rule.providers.iter().flat_map(described).collect();
    for (index, reader) in readers.iter().enumerate() {
        let does = match index {
            0 => "writes, reads",
            _ => "reads",
        };
        writeln!(out, "  {does:<15}{reader}")?;
    }
    Ok(())
}

/// One line for each key, or for a provider that has none.
fn described(provider: &ProviderView) -> Vec<String> {
    if let Some(kms) = &provider.kms {
        let timeout = humantime::format_duration(kms.timeout);
        let cached = kms
            .cache_size
            .map_or_else(String::new, |size| format!(", cachesize {size}"));
        return vec![format!(
            "kms {} {:?} at {}, timeout {timeout}{cached}",
            kms.api_version, kms.name, kms.endpoint
        )];
    }
    if provider.keys.is_empty() {
        return vec![provider.kind.to_owned()];
    }
    let keys = provider.keys.iter();
    keys.map(|key| format!("{} key {:?}, {} bits", provider.kind, key.name, key.bits))
        .collect()
}

fn write_finding(out: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    writeln!(out, "{severity}: {}", finding.message)?;
    let at = finding.at.iter().map(String::as_str);
    writeln!(out, "  {}", at.chain([finding.check]).collect::<Vec<_>>().join(", "))
}
