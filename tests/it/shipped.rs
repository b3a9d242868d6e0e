//! What packages are made of: the build that `version` tells, completions, man pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::proxy::BINARY;

fn run(words: &[&str]) -> String {
    let output = Command::new(BINARY).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn version_tells_the_build() {
    let json: serde_json::Value = serde_json::from_str(&run(&["version", "-o", "json"])).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    for field in ["commit", "rustc", "target"] {
        assert!(!json[field].as_str().unwrap().is_empty(), "{json}");
    }
    let text = run(&["--version"]);
    assert_eq!(text, run(&["version"]));
    let rustc = json["rustc"].as_str().unwrap();
    assert!(text.contains(&format!("rustc: {rustc}\n")), "{text}");
    let features = json["features"].as_array().unwrap();
    assert_eq!(features.is_empty(), text.contains("features: none\n"), "{text} {json}");
}

#[test]
fn each_shell_has_completions_of_every_verb() {
    for (shell, marks) in [
        ("bash", ["complete -F", "--encryption-provider-config"]),
        (
            "zsh",
            ["#compdef etcd-encryption-proxy", "--encryption-provider-config"],
        ),
        (
            "fish",
            ["complete -c etcd-encryption-proxy", "-l encryption-provider-config"],
        ),
    ] {
        let script = run(&["completion", shell]);
        for mark in marks.into_iter().chain(["secrets-encrypt", "rotate-keys", "sweep"]) {
            assert!(script.contains(mark), "{shell}: {mark}");
        }
    }
    // One that the shell itself does not take would break every login.
    let checked = Command::new("bash")
        .args(["-n", "-c", &run(&["completion", "bash"])])
        .status()
        .unwrap();
    assert!(checked.success());
}

#[test]
fn each_verb_has_a_man_page_and_none_has_a_value_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let written = Command::new(BINARY)
        .arg("man-pages")
        .arg(folder.path())
        .env("ETCD_ENCRYPTION_PROXY_ETCD_KEYFILE", "/a/path/of/mine")
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    for page in ["", "-serve", "-sweep", "-secrets-encrypt-rotate-keys", "-config-check"] {
        let path = folder.path().join(format!("etcd-encryption-proxy{page}.1"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
        assert!(!text.contains("/a/path/of/mine"), "{page}");
    }
    let hidden = folder.path().join("etcd-encryption-proxy-man-pages.1");
    assert!(!hidden.exists());
}

/// The flags of a verb, by its help.
fn flags(verb: &str) -> BTreeSet<String> {
    let help = run(&[verb, "--help"]);
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let flag = |word: &str| {
        word.strip_prefix("--")
            .map(|name| name.split(|c| !is_name(c)).next().unwrap().to_owned())
    };
    help.split_whitespace().filter_map(flag).collect()
}

/// Files below `deploy/` that give the program flags.
fn manifests(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { manifests(&path) } else { vec![path] })
        .collect()
}

#[test]
fn every_flag_that_is_shipped_is_one() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let (serve, sweep) = (flags("serve"), flags("sweep"));
    assert!(serve.contains("etcd-servers") && sweep.contains("dry-run"));
    let mut seen = 0;
    for path in manifests(&deploy) {
        let text = fs::read_to_string(&path).unwrap();
        // A template's own dashes and the flags of other programs are no arguments in a list.
        let arguments = text.lines().filter_map(|line| line.trim().strip_prefix("- --"));
        let given = arguments.map(|argument| argument.split(['=', '"']).next().unwrap().to_owned());
        let variables = text
            .lines()
            .filter_map(|line| line.strip_prefix("ETCD_ENCRYPTION_PROXY_"));
        let of_variables = variables.map(|line| line.split('=').next().unwrap().to_lowercase().replace('_', "-"));
        for flag in given.chain(of_variables).filter(|flag| !flag.starts_with("{{")) {
            let verb = if text.contains("- sweep\n") { &sweep } else { &serve };
            assert!(verb.contains(&flag), "{}: --{flag}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} flags");
}
