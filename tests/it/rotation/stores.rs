//! One file before two etcd clusters, as with kube-apiserver's `--etcd-servers-overrides`: a rotation of one is refused while it
//! has not been told of the other, and carried out on both when it has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Instant;

use crate::common::client::Client;
use crate::common::etcd::Etcd;
use crate::common::process::PATIENCE;
use crate::common::proxy::{Proxy, Setup};
use crate::common::rotation::{Outcome, Shared};
use crate::common::tools::Version;

const EVENTS: usize = 100;
const SECRETS: usize = 5;

const ALDER: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
    - resources: [secrets, events]\n  providers:\n  \
    - aescbc: {keys: [{name: alder, secret: QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=}]}\n  \
    - identity: {}\n";

const ROTATE: [&str; 2] = ["rotate-keys", "--compact"];
const ROTATED: &str = "keys rotated, reencryption finished";

/// Two stores, one file, a proxy before each.
struct Scene {
    first: Etcd,
    second: Etcd,
    shared: Shared,
    a: Proxy,
    b: Option<Proxy>,
}

impl Scene {
    /// The second store's proxy never sweeps.
    async fn new() -> Self {
        let (first, second) = tokio::join!(Etcd::start(Version::share()), Etcd::start(Version::V3_4));
        let shared = Shared::new(&first, ALDER);
        let a = shared.member("a");
        let b = shared
            .setup_by_way_of(&second.endpoint(), "b")
            .flag("--sweep=off")
            .start();
        let scene = Self {
            first,
            second,
            shared,
            a,
            b: Some(b),
        };
        let (to_a, to_b) = (scene.a.client().await, scene.b().client().await);
        for index in 0..SECRETS {
            to_a.put(secret(index), value(index)).await;
        }
        for index in 0..EVENTS {
            to_b.put(event(index), value(index)).await;
        }
        scene
    }

    fn b(&self) -> &Proxy {
        self.b.as_ref().expect("it runs")
    }

    fn also(&self) -> String {
        format!("--also-etcd-servers={}", self.second.endpoint())
    }

    /// What both proxies read is what was written, and each stored value is under `key`.
    async fn expect_all_under(&self, key: &str) {
        let (to_a, to_b) = (self.a.client().await, self.b().client().await);
        let (first, second) = (self.first.client().await, self.second.client().await);
        for index in 0..SECRETS {
            expect(&to_a, &first, &secret(index), index, key).await;
        }
        for index in 0..EVENTS {
            expect(&to_b, &second, &event(index), index, key).await;
        }
    }

    fn mark_of_second(&self) -> PathBuf {
        let folder = self.shared.path().with_file_name(".shared.yaml.stores");
        let marks = fs::read_dir(folder)
            .expect("marks")
            .map(|mark| mark.expect("a mark").path());
        let mut of_second = marks.filter(|mark| {
            let text = fs::read_to_string(mark).expect("a mark");
            text.contains(&self.second.endpoint())
        });
        of_second.next().expect("a mark of the second store")
    }
}

async fn expect(proxy: &Client, direct: &Client, name: &str, index: usize, key: &str) {
    assert_eq!(proxy.value(name).await, value(index), "{name}");
    let stored = direct.value(name).await;
    let prefix = format!("k8s:enc:aescbc:v1:{key}:");
    assert!(
        stored.starts_with(prefix.as_bytes()),
        "{name}: {}",
        stored.escape_ascii()
    );
}

fn secret(index: usize) -> String {
    format!("/registry/secrets/default/{index}")
}

fn event(index: usize) -> String {
    format!("/registry/events/default/{index}")
}

fn value(index: usize) -> Vec<u8> {
    format!("value {index}").into_bytes()
}

fn expect_refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(8), "{outcome:#?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?}: {outcome:#?}");
    }
}

#[tokio::test]
async fn a_rotation_is_refused_until_it_is_told_of_the_other_etcd_and_then_rotates_both() {
    let scene = Scene::new().await;
    let before = scene.shared.text();
    let (endpoint, also) = (scene.second.endpoint(), scene.also());
    for verb in [
        "prepare",
        "rotate",
        "reencrypt",
        "rotate-keys",
        "enable",
        "disable",
        "abort",
    ] {
        let outcome = scene.shared.run(&[verb]).await;
        expect_refused(
            &outcome,
            &["marked by b, process ", &also, "a process that runs uses it"],
        );
    }
    let outcome = scene.shared.run(&["rotate-keys", "--dry-run"]).await;
    expect_refused(&outcome, &[&also]);
    assert_eq!(scene.shared.text(), before);
    let status = scene.shared.status().await;
    assert_eq!(status["stage"], "start");
    assert_eq!(status["stores"][1]["servers"], endpoint.as_str(), "{status}");
    assert_eq!(status["stores"][1]["isNamed"], false);
    assert_eq!(status["members"][0]["serves"]["id"], status["stores"][0]["id"]);
    assert!(
        status["blocked"][0].as_str().expect("a reason").contains(&also),
        "{status}"
    );
    scene.expect_all_under("alder").await;

    let twice = format!("--also-etcd-servers={}", scene.first.endpoint());
    let outcome = scene.shared.run(&["rotate-keys", &twice, &also]).await;
    assert_eq!(outcome.code, Some(1), "{outcome:#?}");
    assert!(outcome.stderr.contains("is the etcd of --etcd-servers"), "{outcome:#?}");

    let outcome = scene.shared.succeed(&[&ROTATE[..], &[&also]].concat(), ROTATED).await;
    assert!(outcome.stdout.contains("removed aescbc key \"alder\""), "{outcome:#?}");
    let keys = scene.shared.keys();
    assert_eq!(keys.len(), 1, "{}", scene.shared.text());
    scene.expect_all_under(&keys[0]).await;
}

#[tokio::test]
async fn a_store_whose_proxies_are_down_is_not_forgotten_until_its_mark_is_removed() {
    let mut scene = Scene::new().await;
    let mark = scene.mark_of_second();
    scene.b.take().expect("it runs").process().kill();
    let start = Instant::now();
    loop {
        // The kernel drops its lock when it has ended.
        let outcome = scene.shared.run(&ROTATE).await;
        expect_refused(&outcome, &["marked by b, process ", &mark.display().to_string()]);
        if outcome.stderr.contains("no process that runs on this machine uses it") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{outcome:#?}");
    }
    assert_eq!(scene.shared.text(), ALDER);
    fs::remove_file(mark).expect("the mark");
    scene.shared.succeed(&ROTATE, ROTATED).await;
    assert_eq!(scene.shared.keys().len(), 1);
}

#[tokio::test]
async fn a_member_of_the_other_etcd_that_has_not_loaded_is_waited_for() {
    let scene = Scene::new().await;
    // Has a file of its own, which nobody brings up to date.
    let own = Shared::new(&scene.second, &scene.shared.text());
    let stuck = own.setup_by_way_of(&scene.second.endpoint(), "stuck").start();
    let also = scene.also();
    let words = [&ROTATE[..], &[&also, "--timeout=2s"]].concat();
    let outcome = scene.shared.run(&words).await;
    assert_eq!(outcome.code, Some(4), "{outcome:#?}");
    assert!(outcome.stderr.contains("stuck (http://127.0.0.1:"), "{outcome:#?}");
    assert_eq!(scene.shared.keys()[0], "alder");
    drop(stuck);
    // The other one cannot be made the first half-way.
    let first = scene.first.endpoint();
    let words = ["rotate-keys", "--also-etcd-servers", &first];
    let turned = Shared::on(&scene.second.endpoint(), &scene.shared.text());
    let outcome = turned.run(&words).await;
    assert_eq!(outcome.code, Some(3), "{outcome:#?}");
    assert!(outcome.stderr.contains(&scene.first.endpoint()), "{outcome:#?}");

    scene
        .shared
        .succeed(&[&ROTATE[..], &[&scene.also()]].concat(), ROTATED)
        .await;
    scene.expect_all_under(&scene.shared.keys()[0]).await;
}

#[tokio::test]
async fn who_can_leave_no_mark_is_seen_by_its_lock() {
    let (first, second) = tokio::join!(Etcd::start(Version::share()), Etcd::start(Version::share()));
    first.client().await.put(event(1), "plain").await;
    let shared = Shared::new(&first, ALDER);
    // By way of what looks like a volume of Kubernetes', where no mark would stay.
    let folder = shared.path().parent().expect("a folder").to_owned();
    let volume = folder.join("volume");
    fs::create_dir(&volume).expect("a folder");
    symlink(&folder, volume.join("..data")).expect("a link");
    symlink("..data/shared.yaml", volume.join("shared.yaml")).expect("a link");
    let mut b = Setup::sharing(second.endpoint(), &volume.join("shared.yaml"))
        .member("b")
        .start();
    assert!(!folder.join(".shared.yaml.stores").exists());
    let outcome = shared.run(&ROTATE).await;
    expect_refused(&outcome, &["by a process on this machine", "--also-etcd-servers=URL"]);
    assert_eq!(shared.text(), ALDER);
    let client = b.client().await;
    client.put(event(0), value(0)).await;
    let also = format!("--also-etcd-servers={}", second.endpoint());
    shared.succeed(&[&ROTATE[..], &[&also]].concat(), ROTATED).await;
    expect(&client, &second.client().await, &event(0), 0, &shared.keys()[0]).await;
    // The lock is of the file that is there now, and goes with the process.
    expect_refused(&shared.run(&ROTATE).await, &["by a process on this machine"]);
    b.process().signal("TERM");
    b.process().wait();
    assert_eq!(shared.run(&["rotate-keys", "--dry-run"]).await.code, Some(0));
}
