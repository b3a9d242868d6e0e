//! What an operator sees: every metric is described and labelled as the code says, Prometheus' own linter likes the scrape,
//! and the dashboard and alerts in `deploy/` name only what there is.

mod promql;
mod scene;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use etcd_encryption_proxy::app::families;
use etcd_encryption_proxy::telemetry::{Family, Kind};
use serde_json::Value;
use tokio::time::sleep;

use crate::common::http;
use crate::common::process::Process;
use crate::common::tools::prometheus_tool;
use scene::Scene;

/// Families that a proxy shows only once something has gone wrong, been changed or come twice, or with an audit log or traces;
/// [`Scene`] has none of that.
const NEED_AN_EVENT: [&str; 15] = [
    "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
    "apiserver_encryption_config_controller_automatic_reloads_total",
    "apiserver_envelope_encryption_dek_cache_inter_arrival_time_seconds",
    "apiserver_envelope_encryption_invalid_key_id_from_status_total",
    "apiserver_storage_data_key_generation_failures_total",
    "apiserver_storage_envelope_transformation_cache_misses_total",
    "etcd_encryption_proxy_audit_events_lost_total",
    "etcd_encryption_proxy_audit_events_total",
    "etcd_encryption_proxy_certificate_reloads_total",
    "etcd_encryption_proxy_kms_key_id_changes_total",
    "etcd_encryption_proxy_kms_seeds",
    "etcd_encryption_proxy_retired_key_reads_total",
    "etcd_encryption_proxy_spans_dropped_total",
    "etcd_encryption_proxy_spans_exported_total",
    "etcd_encryption_proxy_upstream_failovers_total",
];

#[tokio::test]
async fn what_is_exported_is_what_is_described() {
    let scene = Scene::start().await;
    let mut seen = BTreeSet::new();
    for proxy in [&scene.proxy, &scene.sweeper] {
        seen.extend(described(&proxy.metrics().await));
    }
    let all: BTreeSet<_> = families().map(|family| family.name).collect();
    let unseen: Vec<_> = all.difference(&seen).copied().collect();
    assert_eq!(unseen, NEED_AN_EVENT);
    Scene::check_values(&scene.proxy.metrics().await);
}

/// The families that `text` has samples of, each of which has to be as the code describes it.
fn described(text: &str) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for sample in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, labels) = promql::sample(sample);
        let Some(family) = family_of(&name) else {
            wrong.push(format!("described nowhere: {sample}"));
            continue;
        };
        if labels != label_set(family, name.ends_with("_bucket")) {
            wrong.push(format!("other labels than {:?}: {sample}", family.labels));
        }
        seen.insert(family.name);
    }
    for name in &seen {
        let family = family_of(name).unwrap();
        for line in [
            format!("# HELP {name} {}", family.help),
            format!("# TYPE {name} {}", family.kind.as_str()),
        ] {
            if text.lines().filter(|found| *found == line).count() != 1 {
                wrong.push(format!("not there, or not once: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n\n{text}", wrong.join("\n"));
    lint(text);
    seen
}

#[tokio::test]
async fn health_names_each_check_and_tells_what_is_loaded() {
    let scene = Scene::start().await;
    let url = scene.proxy.metrics_url();
    let verbose = http::get(&url, "/readyz?verbose").await.unwrap();
    assert_eq!(verbose.status, 200, "{verbose:?}");
    insta::assert_snapshot!("readyz_verbose", redacted(&verbose.body));
    for (path, status, body) in [
        ("/livez", 200, "ok"),
        ("/healthz?exclude=etcd", 200, "ok"),
        ("/healthz/kms-providers", 200, "ok: 2 well"),
        ("/livez/kms-providers", 404, "404 page not found\n"),
    ] {
        let answer = http::get(&url, path).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
    }
    assert_eq!(http::post(&url, "/readyz", "").await.unwrap().status, 405);
}

#[test]
fn the_families_are_these() {
    let mut all: Vec<_> = families().collect();
    all.sort_by_key(|family| family.name);
    let mut text = String::new();
    for Family {
        name,
        kind,
        help,
        labels,
    } in all
    {
        let _ = writeln!(text, "{name}{{{}}} {}\n    {help}", labels.join(","), kind.as_str());
    }
    insta::assert_snapshot!("families", text);
}

#[test]
fn dashboard_and_rules_name_only_what_there_is() {
    let recorded = promql::records(&read("prometheus/rules.yaml"));
    assert_eq!(recorded.len(), 3, "{recorded:?}");
    let mut expressions = panels()
        .into_iter()
        .map(|(_, expression)| expression)
        .collect::<Vec<_>>();
    expressions.extend(promql::expressions(&read("prometheus/rules.yaml")));
    expressions.extend(promql::expressions(&read("prometheus/alerts.yaml")));
    assert!(expressions.len() > 60, "{}", expressions.len());
    let mut wrong = Vec::new();
    for expression in &expressions {
        for use_ in promql::uses(expression) {
            let known = if let Some((_, labels)) = recorded.iter().find(|(name, _)| *name == use_.name) {
                labels.clone()
            } else if let Some(family) = family_of(&use_.name) {
                label_set(family, use_.name.ends_with("_bucket"))
            } else {
                wrong.push(format!("there is no {} in {expression}", use_.name));
                continue;
            };
            // Prometheus itself says where a sample is from.
            let is_unknown = |label: &&String| *label != "instance" && !known.contains(*label);
            for label in use_.labels.iter().filter(is_unknown) {
                wrong.push(format!("{} has no label {label}: {expression}", use_.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_alerts_do_what_their_tests_say() {
    run(promtool().args(["check", "rules", "rules.yaml", "alerts.yaml"]));
    run(promtool().args(["test", "rules", "alerts_test.yaml", "alerts_slow_test.yaml"]));
}

/// Runs a real Prometheus against a proxy at work, and has it answer every query of the dashboard: `make dashboard`.
#[tokio::test]
#[ignore = "takes half a minute, for Prometheus has to scrape some times"]
async fn every_panel_has_data() {
    let mut scene = Scene::start().await;
    scene.make_events().await;
    let folder = tempfile::tempdir().unwrap();
    let targets = [&scene.proxy, &scene.sweeper].map(|proxy| proxy.metrics_url().replace("http://", ""));
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{rules}/rules.yaml', '{rules}/alerts.yaml']\n\
         scrape_configs: [{{job_name: proxy, static_configs: [{{targets: ['{one}', '{other}']}}]}}]\n",
        rules = deploy().join("prometheus").display(),
        one = targets[0],
        other = targets[1],
    );
    let file = folder.path().join("prometheus.yaml");
    std::fs::write(&file, config).unwrap();
    let [port] = crate::common::etcd::free_ports::<1>();
    let mut command = Command::new(prometheus_tool("prometheus"));
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let server = Process::spawn("prometheus", command, &folder.path().join("log"));
    let url = format!("http://127.0.0.1:{port}");
    let mut empty = Vec::new();
    for _ in 0..30 {
        scene.traffic().await;
        sleep(Duration::from_secs(1)).await;
        empty = panels();
        empty.retain(|(_, expression)| query(&url, expression).is_none());
        if empty.is_empty() {
            break;
        }
    }
    assert!(empty.is_empty(), "{empty:#?}\n{}", server.output());
    for (title, expression) in panels() {
        println!("{title}: {expression}\n{}", query(&url, &expression).unwrap());
    }
}

/// What Prometheus answers; `None` if that is nothing.
fn query(url: &str, expression: &str) -> Option<String> {
    let output = promtool().args(["query", "instant", url, expression]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.success() && !text.trim().is_empty()).then_some(text)
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(deploy().join(file)).unwrap()
}

/// The title and each query of every panel, as Prometheus gets them from Grafana.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("grafana/etcd-encryption-proxy.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
            found.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    found
}

/// The family that a series of this name belongs to.
fn family_of(name: &str) -> Option<&'static Family> {
    families().find(|family| match family.kind {
        Kind::Counter | Kind::Gauge => family.name == name,
        Kind::Histogram(_) => ["", "_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| name.strip_suffix(suffix) == Some(family.name)),
    })
}

fn label_set(family: &Family, is_bucket: bool) -> BTreeSet<String> {
    let le = is_bucket.then_some(&"le");
    family.labels.iter().chain(le).map(ToString::to_string).collect()
}

fn promtool() -> Command {
    let mut command = Command::new(prometheus_tool("promtool"));
    command.current_dir(deploy().join("prometheus"));
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// `promtool check metrics`, but for what it says of names that are kube-apiserver's.
fn lint(text: &str) {
    let mut child = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, text.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let ours: Vec<_> = said.lines().filter(|line| !line.starts_with("apiserver_")).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
}

/// Without what differs from run to run.
fn redacted(text: &str) -> String {
    let word = |word: &str| {
        if word.len() == 20 && word.ends_with('Z') && word.contains('T') {
            "TIME".to_owned()
        } else if word.starts_with("sha256:") {
            "sha256:HASH".to_owned()
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
