//! `config check` and `config key` as an operator runs them: what is printed, and how they end.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::common::config;
use crate::common::proxy::BINARY;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";

/// A bit of everything, and a KMS plugin that nobody could dial.
const DOUBTFUL: &str = "resources:
- resources: [secrets, configmaps]
  providers:
  - aesgcm:
      keys:
      - {name: new, secret: A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=}
      - {name: old, secret: A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=}
  - kms: {name: azure, endpoint: 'unix:///nowhere/kms.sock'}
- resources: [secret]
  providers:
  - aescbc: {keys: [{name: k1, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}
- resources: [secrets]
  providers:
  - kms: {apiVersion: v2, name: vault, endpoint: 'unix:///nowhere/v2.sock', timeout: 1m30s}
- resources: ['*.*']
  providers:
  - identity: {}
";

const SOUND: &str = "resources:
- resources: [secrets]
  providers:
  - secretbox: {keys: [{name: a, secret: A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=}]}
  - identity: {}
";

struct Files(TempDir);

impl Files {
    fn new(documents: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, document) in documents {
            let path = folder.path().join(name);
            fs::write(&path, format!("{HEAD}{document}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self(folder)
    }

    /// `config …` in the folder of the files.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.arg("config").args(words).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// What a run prints, and its exit code.
    fn printed(&self, words: &[&str]) -> (String, Option<i32>) {
        let output = self.run(words);
        assert!(output.stderr.is_empty(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }
}

#[test]
fn a_valid_document_is_explained_and_its_doubts_are_told() {
    let files = Files::new(&[("doubtful.yaml", DOUBTFUL)]);
    let (text, code) = files.printed(&["check", "doubtful.yaml"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("check_text", text);
    let (json, code) = files.printed(&["check", "doubtful.yaml", "-o", "json"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("check_json", json);
}

#[test]
fn a_document_that_serve_would_refuse_is_refused_with_the_same_words() {
    let broken = SOUND
        .replace("secretbox", "aescbc")
        .replace("A/j5", "A!j5")
        .replace("[secrets]", "[Secrets]");
    let files = Files::new(&[("broken.yaml", &broken)]);
    let (text, code) = files.printed(&["check", "broken.yaml"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!("refused_text", text);
    let (json, code) = files.printed(&["check", "broken.yaml", "--output=json"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!("refused_json", json);
    let (_, said) = crate::common::proxy::Setup::new("http://127.0.0.1:1", format!("{HEAD}{broken}")).refused();
    for line in text.lines().skip(1) {
        assert!(said.contains(line.trim()), "{said}");
    }
}

#[test]
fn a_step_between_documents_is_judged() {
    let renamed = SOUND.replace("name: a", "name: z");
    let files = Files::new(&[("old.yaml", SOUND), ("new.yaml", &renamed)]);
    let (text, code) = files.printed(&["check", "new.yaml", "--previous=old.yaml", "--strict"]);
    assert_eq!(code, Some(3));
    insta::assert_snapshot!("step_text", text);
    assert_eq!(files.printed(&["check", "new.yaml", "--strict"]).1, Some(0));
}

/// As the proxy that runs with the one of before would refuse it.
#[test]
fn other_bytes_under_the_name_of_a_key_are_an_error() {
    let other = SOUND.replace("A/j5", "B/j5");
    let old = "  - secretbox: {keys: [{name: a, secret: A/j5CnrWGB83ylcPkuUhm/6TSyrQtsNJtDPwPHNOj4Q=}]}\n";
    let both = other.replace("  - identity", &format!("{old}  - identity"));
    let files = Files::new(&[("old.yaml", SOUND), ("other.yaml", &other), ("both.yaml", &both)]);
    let (text, code) = files.printed(&["check", "other.yaml", "--previous=old.yaml"]);
    assert_eq!(code, Some(1), "{text}");
    for part in [
        "error: secrets: secretbox key \"a\" has other bytes",
        "a second secretbox provider",
        "errors: 1, ",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    for (file, previous) in [
        ("both.yaml", "old.yaml"),
        ("other.yaml", "both.yaml"),
        ("other.yaml", "other.yaml"),
    ] {
        let previous = format!("--previous={previous}");
        let (text, code) = files.printed(&["check", file, &previous]);
        assert_eq!(code, Some(0), "{file} {previous}: {text}");
    }
}

#[test]
fn rules_for_reloaded_documents_hold_unless_it_is_not_to_be_reloaded() {
    let twins = "resources:
- resources: [secrets]
  providers:
  - kms: {name: k, endpoint: 'unix:///a'}
- resources: [configmaps]
  providers:
  - kms: {name: k, endpoint: 'unix:///b'}
";
    let files = Files::new(&[("twins.yaml", twins)]);
    assert_eq!(files.printed(&["check", "twins.yaml"]).1, Some(1));
    let unreloaded = "--encryption-provider-config-automatic-reload=false";
    assert_eq!(files.printed(&["check", "twins.yaml", unreloaded]).1, Some(0));
}

#[test]
fn a_document_comes_from_standard_input_too_and_one_that_is_not_there_is_an_error() {
    let mut command = Command::new(BINARY);
    command
        .args(["config", "check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(config::secrets().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("-: valid, sha256:")
    );

    let missing = Files::new(&[]).run(&["check", "nowhere.yaml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(missing.stdout.is_empty());
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("nowhere.yaml\" cannot be read")
    );
}

#[test]
fn a_document_that_others_can_read_is_one_to_warn_of() {
    let files = Files::new(&[("open.yaml", SOUND)]);
    fs::set_permissions(files.0.path().join("open.yaml"), fs::Permissions::from_mode(0o644)).unwrap();
    let (text, code) = files.printed(&["check", "open.yaml", "--strict"]);
    assert_eq!(code, Some(3));
    assert!(text.contains("exposed-file"), "{text}");
}

#[test]
fn a_made_key_can_be_pasted_and_is_never_the_same() {
    let mut seen = Vec::new();
    for (kind, bits) in [
        ("aescbc", 128),
        ("aescbc", 192),
        ("aescbc", 256),
        ("aesgcm", 256),
        ("secretbox", 256),
    ] {
        let bits_flag = format!("--bits={bits}");
        let (fragment, code) = Files::new(&[]).printed(&["key", "--type", kind, &bits_flag]);
        assert_eq!(code, Some(0));
        assert!(
            fragment.starts_with(&format!("- {kind}:\n    keys:\n    - name: \"{kind}key-20")),
            "{fragment}"
        );
        let indented = fragment.replace('\n', "\n  ");
        let document = format!("resources:\n- resources: [secrets]\n  providers:\n  {indented}- identity: {{}}\n");
        let (checked, code) = Files::new(&[("new.yaml", &document)]).printed(&["check", "new.yaml"]);
        assert_eq!(code, Some(0), "{checked}");
        assert!(
            checked.contains(&format!("{bits} bits")) && !checked.contains("weak-key"),
            "{checked}"
        );
        let secret = fragment.split("secret: ").nth(1).unwrap().to_owned();
        assert!(!seen.contains(&secret));
        seen.push(secret);
    }
    let json = Files::new(&[])
        .printed(&["key", "--type=aesgcm", "--name=a \"b\": c", "-o", "json"])
        .0;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["aesgcm"]["keys"][0]["name"], "a \"b\": c");
    let refused = Files::new(&[]).run(&["key", "--type=secretbox", "--bits=128"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty());
}
