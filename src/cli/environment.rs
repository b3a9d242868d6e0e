//! Variables of the environment that stand for flags: one that is empty, or that no flag has, is refused by name. What is
//! misspelt would be ignored otherwise, and what it was to switch on be off.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue};
use thiserror::Error;

/// What every one of them begins with.
pub(super) const PREFIX: &str = "ETCD_ENCRYPTION_PROXY_";

/// So many letters may differ from a name that is suggested.
const NEAR: usize = 4;

/// A variable that says nothing.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Fault {
    #[error("the variable {0} is set and empty: give it a value, or unset it")]
    Empty(String),
    #[error("the variable {name} stands for no flag of this program{}: correct it, or unset it", suggestion(.near.as_deref()))]
    Unknown { name: String, near: Option<String> },
}

fn suggestion(near: Option<&str>) -> String {
    near.map(|near| format!(" ({near} does)")).unwrap_or_default()
}

/// Looks at `given`, the environment, by the flags of `command` and all its verbs.
pub(super) fn check(command: &Command, given: impl Iterator<Item = (OsString, OsString)>) -> Result<(), Fault> {
    let known = known(command);
    for (name, value) in given {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        if known.contains(name) {
            if value.is_empty() {
                return Err(Fault::Empty(name.to_owned()));
            }
        } else if !is_service_link(name) {
            let near = known.iter().map(|other| (distance(name, other), other));
            let near = near.min().filter(|(distance, _)| *distance <= NEAR);
            return Err(Fault::Unknown {
                name: name.to_owned(),
                near: near.map(|(_, other)| other.clone()),
            });
        }
    }
    Ok(())
}

/// The variable that gave the value which `error` is about, where no flag did.
pub(super) fn source(error: &clap::Error, args: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = arg.split([' ', '=', '[']).next()?;
    let name = format!("{PREFIX}{}", flag.strip_prefix("--")?.to_uppercase().replace('-', "_"));
    let is_flag = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some(flag));
    (std::env::var_os(&name).is_some() && !args.iter().any(is_flag)).then_some(name)
}

fn known(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    let mut known: BTreeSet<_> = own.map(str::to_owned).collect();
    for verb in command.get_subcommands() {
        known.extend(self::known(verb));
    }
    known
}

/// Whether Kubernetes sets it for a Service that has the program's name, in every pod beside it.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || rest
            .strip_prefix("PORT_")
            .is_some_and(|port| port.starts_with(|char: char| char.is_ascii_digit()))
}

/// How many letters have to be added, removed or replaced to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.bytes().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (above, wanted) in row.iter().skip(1).zip(other.bytes()) {
            let replaced = diagonal + usize::from(letter != wanted);
            left = replaced.min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn checked(name: &str, value: &str) -> Result<(), Fault> {
        check(&Cli::command(), std::iter::once((name.into(), value.into())))
    }

    #[test]
    fn a_variable_that_no_flag_has_is_refused_and_the_nearest_named() {
        let fault = checked("ETCD_ENCRYPTION_PROXY_ETCD_SERVER", "http://127.0.0.1:2379").unwrap_err();
        assert!(
            fault.to_string().contains("(ETCD_ENCRYPTION_PROXY_ETCD_SERVERS does)"),
            "{fault}"
        );
        let fault = checked("ETCD_ENCRYPTION_PROXY_FROBNICATION_LEVEL", "x").unwrap_err();
        assert!(matches!(&fault, Fault::Unknown { near: None, .. }), "{fault}");
    }

    #[test]
    fn an_empty_variable_is_refused_by_name() {
        let fault = checked("ETCD_ENCRYPTION_PROXY_LOG_LEVEL", "").unwrap_err();
        assert_eq!(fault, Fault::Empty("ETCD_ENCRYPTION_PROXY_LOG_LEVEL".to_owned()));
    }

    #[test]
    fn what_is_a_flag_s_or_anybody_else_s_is_taken() {
        for name in [
            "ETCD_ENCRYPTION_PROXY_ETCD_SERVERS",
            "ETCD_ENCRYPTION_PROXY_ALSO_ETCD_SERVERS",
            "PATH",
            // Of a Service called etcd-encryption-proxy.
            "ETCD_ENCRYPTION_PROXY_SERVICE_HOST",
            "ETCD_ENCRYPTION_PROXY_SERVICE_PORT_CLIENT",
            "ETCD_ENCRYPTION_PROXY_PORT",
            "ETCD_ENCRYPTION_PROXY_PORT_3379_TCP_ADDR",
        ] {
            assert_eq!(checked(name, "x"), Ok(()), "{name}");
        }
    }

    #[test]
    fn letters_that_differ_are_counted() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
