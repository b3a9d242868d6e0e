//! What packages are made of: the build that `version` tells, completions, man pages.

use std::fs;
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
