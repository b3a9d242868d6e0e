//! The rules and defaults for KMS providers. No plugin is looked for.

use std::{collections::HashSet, time::Duration};

use crate::{
    config::{
        error::Problems,
        go::{GoDuration, quote, scheme},
        model::{Kms, KmsApiVersion},
        path::Path,
        schema::{KmsFields, Located, Text},
    },
    types::KeyName,
};

/// kube-apiserver's default: 3 s.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// kube-apiserver's default, for v1 alone.
const DEFAULT_CACHE_SIZE: i32 = 1_000;

/// The provider, unless it has problems. Its name joins `names` either way.
pub(super) fn validate_kms<'d>(
    fields: &KmsFields<'d>,
    path: Path<'_>,
    names: &mut HashSet<&'d str>,
    reload: bool,
    problems: &mut Problems,
) -> Option<Kms> {
    let before = problems.len();
    let is_v1 = matches!(fields.api_version.value, "" | "v1");
    validate_name(fields.name, is_v1, path.field("name"), names, reload, problems);
    names.insert(fields.name.value);
    let timeout = validate_timeout(fields.timeout, path.field("timeout"), problems);
    validate_endpoint(fields.endpoint, path.field("endpoint"), problems);
    let cache_size = validate_cache_size(fields.cache_size, is_v1, path.field("cachesize"), problems);
    let api_version = validate_api_version(fields.api_version, path.field("apiVersion"), problems);
    if problems.len() > before {
        return None;
    }
    Some(Kms {
        api_version: api_version?,
        name: KeyName::new(fields.name.value),
        cache_size,
        endpoint: fields.endpoint.value.to_owned(),
        timeout: timeout?,
    })
}

/// A name is compared with those before it only where it is not v1, or all names have to differ: a v1 provider may thus
/// share the name of a v2 provider before it, but not the other way round.
fn validate_name(
    name: Text<'_>,
    is_v1: bool,
    path: Path<'_>,
    names: &HashSet<&str>,
    reload: bool,
    problems: &mut Problems,
) {
    let text = name.value;
    if text.is_empty() {
        problems.push(name.at, || path.required("name is a mandatory field for a provider"));
    }
    if !is_v1 && text.contains(':') {
        let detail = format_args!("invalid KMS provider name {text}, must not contain ':'");
        problems.push(name.at, || path.invalid(quote(text), detail));
    }
    if (reload || !is_v1) && names.contains(text) {
        let detail = format_args!("duplicate KMS provider name {text}, names must be unique");
        problems.push(name.at, || path.invalid(quote(text), detail));
    }
}

fn validate_timeout(timeout: Option<Located<GoDuration>>, path: Path<'_>, problems: &mut Problems) -> Option<Duration> {
    let Some(Located { at, value }) = timeout else {
        return Some(DEFAULT_TIMEOUT);
    };
    let nanoseconds = u64::try_from(value.0).unwrap_or_default();
    if nanoseconds == 0 {
        problems.push(at, || path.invalid(value, "timeout should be a positive value"));
        return None;
    }
    Some(Duration::from_nanos(nanoseconds))
}

fn validate_endpoint(endpoint: Text<'_>, path: Path<'_>, problems: &mut Problems) {
    let text = endpoint.value;
    if text.is_empty() {
        let detail = "endpoint is a mandatory field for a kms";
        problems.push(endpoint.at, || path.invalid("\"\"", detail));
        return;
    }
    match scheme(text).as_deref() {
        Ok("unix") => {}
        Ok(other) => problems.push(endpoint.at, || {
            let other = quote(other);
            let detail = format_args!("unsupported scheme {other} for KMS provider, only unix is supported");
            path.invalid(quote(text), detail)
        }),
        Err(reason) => problems.push(endpoint.at, || {
            let detail = format_args!("invalid endpoint for kms provider, error: {reason}");
            path.invalid(quote(text), detail)
        }),
    }
}

fn validate_cache_size(
    cache_size: Option<Located<i32>>,
    is_v1: bool,
    path: Path<'_>,
    problems: &mut Problems,
) -> Option<i32> {
    let Some(Located { at, value }) = cache_size else {
        return is_v1.then_some(DEFAULT_CACHE_SIZE);
    };
    if !is_v1 {
        problems.push(at, || path.invalid(value, "cachesize is not supported in v2"));
    } else if value == 0 {
        let detail = "cachesize should be a positive value, or negative to disable";
        problems.push(at, || path.invalid(value, detail));
    }
    Some(value)
}

fn validate_api_version(version: Text<'_>, path: Path<'_>, problems: &mut Problems) -> Option<KmsApiVersion> {
    match version.value {
        "" | "v1" => Some(KmsApiVersion::V1),
        "v2" => Some(KmsApiVersion::V2),
        other => {
            // The word, not the value, stands in kube-apiserver's message.
            let detail = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
            problems.push(version.at, || path.invalid(quote(other), detail));
            None
        }
    }
}
