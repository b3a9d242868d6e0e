//! A kube-apiserver of our own, and kubectl to talk to it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use rcgen::KeyPair;
use tempfile::TempDir;

use crate::common::etcd::free_ports;
use crate::common::process::{PATIENCE, Process};
use crate::common::tools;
use crate::rest::Rest;

/// Stands in every Secret that the tests create, and nowhere else.
pub const PLAIN_TEXT: &str = "not-for-the-disk";

/// What the tests define: a resource whose key in etcd is its group and plural.
pub const CRD: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: bears.example.test}
spec:
  group: example.test
  scope: Namespaced
  names: {plural: bears, singular: bear, kind: Bear}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          data: {type: object, additionalProperties: {type: string}}
";

/// A running kube-apiserver. Stopped when dropped.
#[derive(Debug)]
pub struct ApiServer {
    // Dropped before the folder with its log.
    process: Process,
    port: u16,
    folder: TempDir,
}

impl ApiServer {
    /// Starts one on `etcd`, with an EncryptionConfiguration or without, and waits until it is ready.
    pub fn start(etcd: &str, encryption: Option<&str>) -> Self {
        Self::start_with(etcd, encryption, &[])
    }

    /// The same with more flags.
    pub fn start_with(etcd: &str, encryption: Option<&str>, flags: &[&str]) -> Self {
        let folder = TempDir::with_prefix("kube-apiserver-").expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let key = KeyPair::generate().expect("a key pair");
        fs::write(path("service-account.key"), key.serialize_pem()).expect("a file");
        fs::write(path("service-account.pub"), key.public_key_pem()).expect("a file");
        fs::write(path("tokens.csv"), "token,admin,admin,system:masters\n").expect("a file");
        let [port] = free_ports();
        let mut command = Command::new(binary("kube-apiserver-1.20.2"));
        command
            .arg(format!("--etcd-servers={etcd}"))
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", path("certs")))
            .arg(format!("--token-auth-file={}", path("tokens.csv")))
            .arg(format!("--service-account-key-file={}", path("service-account.pub")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                path("service-account.key")
            ))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            // Nobody runs the controllers that would make what these wait for.
            .arg("--disable-admission-plugins=ServiceAccount")
            .arg("--endpoint-reconciler-type=none")
            .args(flags);
        if let Some(document) = encryption {
            fs::write(path("encryption.yaml"), document).expect("a file");
            command.arg(format!("--encryption-provider-config={}", path("encryption.yaml")));
        }
        let process = Process::spawn("kube-apiserver", command, &folder.path().join("log"));
        let mut api = Self { process, port, folder };
        api.wait_until_ready();
        api
    }

    fn wait_until_ready(&mut self) {
        let start = Instant::now();
        loop {
            assert!(
                self.process.is_running(),
                "kube-apiserver ended:\n{}",
                self.process.output()
            );
            // The default namespace appears a moment after readiness.
            if self.is_ready() && self.try_kubectl(&["get", "namespace", "default"], "").is_ok() {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "kube-apiserver does not become ready:\n{}",
                self.process.output()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until it has found its etcd again.
    pub fn ready_again(&self) {
        let start = Instant::now();
        while !self.is_ready() {
            assert!(
                start.elapsed() < PATIENCE,
                "kube-apiserver does not recover:\n{}",
                self.process.output()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_ready(&self) -> bool {
        self.try_kubectl(&["get", "--raw=/readyz"], "").is_ok()
    }

    /// Runs kubectl with something on its standard input, and gives what it printed.
    pub fn kubectl(&self, args: &[&str], input: &str) -> String {
        self.try_kubectl(args, input)
            .unwrap_or_else(|error| panic!("kubectl {args:?}: {error}"))
    }

    fn try_kubectl(&self, args: &[&str], input: &str) -> Result<String, String> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(input.as_bytes())
            .expect("kubectl reads its input");
        let output = child.wait_with_output().expect("kubectl ends");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).expect("text"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("kubectl-1.20.2"));
        command
            .arg(format!("--server=https://127.0.0.1:{}", self.port))
            .args([
                "--insecure-skip-tls-verify",
                "--token=token",
                "--namespace=default",
                "--request-timeout=60s",
            ])
            .arg(format!("--cache-dir={}", self.folder.path().join("kubectl").display()))
            .args(args)
            // Whatever cluster the machine's user has configured is none of the tests' business.
            .env("HOME", self.folder.path())
            .env_remove("KUBECONFIG");
        command
    }

    /// Its API over plain HTTP, for what kubectl takes a process each for.
    pub fn rest(&self) -> Rest {
        let command = self.command(&["proxy", "--port=0"]);
        Rest::new(Process::spawn(
            "kubectl proxy",
            command,
            &self.folder.path().join("proxy"),
        ))
    }

    /// Watches Secrets from now on.
    pub fn watch(&self, resource: &str) -> Watch {
        // A first object tells that the watch is up.
        let ready = manifest("secret", "watch-is-up", "yes");
        self.kubectl(&["apply", "--filename", "-"], &ready);
        let path = r#"jsonpath={.type} {.object.metadata.name} {.object.data.payload}{"\n"}"#;
        let command = self.command(&["get", resource, "--watch", "--output-watch-events", "--output", path]);
        let log = self.folder.path().join("watch");
        let _ = fs::remove_file(&log);
        let mut process = Process::spawn("kubectl --watch", command, &log);
        process.wait_for("the first object", |output| {
            output.contains("ADDED watch-is-up").then_some(())
        });
        self.kubectl(&["delete", "secret", "watch-is-up"], "");
        process.wait_for("its deletion", |output| {
            output.contains("DELETED watch-is-up").then_some(())
        });
        Watch { process }
    }

    /// Creates a Secret.
    pub fn create_secret(&self, name: &str, payload: &str) {
        self.kubectl(&["create", "--filename", "-"], &manifest("secret", name, payload));
    }

    /// Replaces a Secret.
    pub fn update_secret(&self, name: &str, payload: &str) {
        self.kubectl(&["replace", "--filename", "-"], &manifest("secret", name, payload));
    }

    /// What was put into a Secret.
    pub fn secret(&self, name: &str) -> String {
        self.payload("secret", name)
    }

    /// What was put into an object of any kind.
    pub fn payload(&self, kind: &str, name: &str) -> String {
        let printed = self.kubectl(&["get", kind, name, "--output=jsonpath={.data.payload}"], "");
        if kind == "secret" {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(printed)
                .expect("base64");
            String::from_utf8(bytes).expect("text")
        } else {
            printed
        }
    }

    /// Everything that the tests created and left, with all its fields.
    pub fn objects(&self) -> String {
        self.kubectl(&["get", "secrets,configmaps,crds", "--output=json"], "")
    }
}

/// A running `kubectl get --watch`.
#[derive(Debug)]
pub struct Watch {
    process: Process,
}

impl Watch {
    /// Waits until all these lines have come, in this order, others between them.
    pub fn expect(&mut self, lines: &[&str]) {
        self.process.wait_for(&format!("{lines:?}"), |output| {
            let mut seen = output.lines();
            lines.iter().all(|&line| seen.any(|other| other == line)).then_some(())
        });
    }
}

/// An object with one thing in it.
pub fn manifest(kind: &str, name: &str, payload: &str) -> String {
    let (api, kind, data) = match kind {
        "secret" => (
            "v1",
            "Secret",
            format!("payload: {}, marker: {}", base64(payload), base64(PLAIN_TEXT)),
        ),
        "configmap" => ("v1", "ConfigMap", format!("payload: '{payload}'")),
        _ => ("example.test/v1", "Bear", format!("payload: '{payload}'")),
    };
    format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\ndata: {{{data}}}\n")
}

/// Standard base64.
pub fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn binary(name: &str) -> std::path::PathBuf {
    let path = tools::cache().join(name);
    assert!(
        Path::new(&path).is_file(),
        "no {}: run tests/e2e/build-kube-apiserver.sh",
        path.display()
    );
    path
}
