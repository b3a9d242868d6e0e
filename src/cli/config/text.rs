//! The outcome of `config check` for people.

use std::fmt::{self, Write as _};

use super::check::Report;
use crate::review::{Finding, ProviderView, RuleView, Severity};

/// All of it, in lines.
pub(super) fn of(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    match &report.fingerprint {
        Some(fingerprint) => writeln!(out, "{}: valid, {fingerprint}", report.file)?,
        None => writeln!(out, "{}: not valid", report.file)?,
    }
    for problem in &report.problems {
        writeln!(out, "  {}", problem.text)?;
    }
    for rule in &report.rules {
        out.push('\n');
        write_rule(out, rule)?;
    }
    for finding in &report.findings {
        out.push('\n');
        write_finding(out, finding)?;
    }
    if report.valid {
        let warnings = report
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .count();
        let notes = report.findings.len() - warnings;
        writeln!(out, "\nwarnings: {warnings}, notes: {notes}")?;
    }
    Ok(())
}

fn write_rule(out: &mut String, rule: &RuleView) -> fmt::Result {
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

fn write_finding(out: &mut String, finding: &Finding) -> fmt::Result {
    let severity = match finding.severity {
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    writeln!(out, "{severity}: {}", finding.message)?;
    let at = finding.at.iter().map(String::as_str);
    writeln!(out, "  {}", at.chain([finding.check]).collect::<Vec<_>>().join(", "))
}
