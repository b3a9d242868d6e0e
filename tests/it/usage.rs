//! Flags and the environment as an operator gives them: what is empty, misspelt or unknown is refused by name.

use std::process::{Command, Output};

use crate::common::proxy::BINARY;

fn run(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(words).envs(variables.iter().copied());
    command.output().expect("it starts")
}

/// Fails unless it is refused as wrong usage, with all of `says`.
fn refused(words: &[&str], variables: &[(&str, &str)], says: &[&str]) {
    let output = run(words, variables);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words:?} {variables:?}: {stderr}");
    for says in says {
        assert!(
            stderr.contains(says),
            "{words:?} {variables:?} should say {says:?}: {stderr}"
        );
    }
}

#[test]
fn a_level_that_is_none_is_refused_by_name() {
    let sweep = ["sweep", "--encryption-provider-config=none"];
    for (level, says) in [
        ("warning", "\"warning\" is no log level"),
        ("", "empty"),
        ("info,debgu", "\"debgu\""),
    ] {
        let flag = format!("--log-level={level}");
        refused(&[sweep[0], sweep[1], &flag], &[], &[says, "--log-level"]);
    }
    let variable = ("ETCD_ENCRYPTION_PROXY_LOG_LEVEL", "warning");
    refused(
        &sweep,
        &[variable],
        &["ETCD_ENCRYPTION_PROXY_LOG_LEVEL", "\"warning\" is no log level"],
    );
}

#[test]
fn a_variable_that_is_empty_or_unknown_is_refused_by_name() {
    for verb in [
        &["serve"][..],
        &["sweep"],
        &["secrets-encrypt", "status"],
        &["config", "check", "x"],
    ] {
        let empty = ("ETCD_ENCRYPTION_PROXY_ETCD_SERVERS", "");
        refused(verb, &[empty], &["ETCD_ENCRYPTION_PROXY_ETCD_SERVERS is set and empty"]);
        let misspelt = ("ETCD_ENCRYPTION_PROXY_ETCD_SERVER", "http://127.0.0.1:2379");
        refused(
            verb,
            &[misspelt],
            &[
                "ETCD_ENCRYPTION_PROXY_ETCD_SERVER stands for no flag",
                "ETCD_ENCRYPTION_PROXY_ETCD_SERVERS does",
            ],
        );
    }
    let unusable = ("ETCD_ENCRYPTION_PROXY_ETCD_SERVERS", "ftp://x");
    refused(
        &["sweep", "--encryption-provider-config=none"],
        &[unusable],
        &[
            "the variable ETCD_ENCRYPTION_PROXY_ETCD_SERVERS is not usable",
            "ftp://x",
        ],
    );
}

/// Kubernetes sets these in each pod beside a Service of the program's name.
#[test]
fn variables_of_a_service_of_this_name_are_left_alone() {
    let links = [
        ("ETCD_ENCRYPTION_PROXY_SERVICE_HOST", "10.0.0.1"),
        ("ETCD_ENCRYPTION_PROXY_SERVICE_PORT", "3379"),
        ("ETCD_ENCRYPTION_PROXY_PORT", "tcp://10.0.0.1:3379"),
        ("ETCD_ENCRYPTION_PROXY_PORT_3379_TCP", "tcp://10.0.0.1:3379"),
    ];
    let output = run(&["--version"], &links);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
