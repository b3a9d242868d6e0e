//! A member that is killed, frozen, restarted, cut off, or whose host vanishes without a word: no more calls fail through proxies than at the members themselves, and
//! none waits longer.
//!
//! The table is printed for each scene. What a busy machine does to one client alone is told from what the proxy does by playing a
//! scene again, at most twice: each pair has to hold once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::common::rotation::Home;
use crate::common::tools::Version;
use crate::gocli::EVERY;
use crate::scene::{Between, Network, ONE, Pair, Scene};

/// How long a member is away.
const AWAY: Duration = Duration::from_secs(6);

/// The same for one that says nothing: its clients wait ten seconds before they believe it.
const SILENT: Duration = Duration::from_secs(14);

/// What a way through a proxy may take longer than one to the member, milliseconds.
const MORE: f64 = 500.0;

/// What luck makes of it, milliseconds, where a client has no other way: gRPC dials 1, 2.6, 5.2, 9.3 and 15.9 s after a loss, each
/// wait up to a fifth shorter or longer, so two clients may come back as far apart. What is not there at one dial is found at the
/// next, six seconds later, and that is more.
const LUCK: f64 = 3500.0;

/// How many calls a client begins within [`MORE`]: a put and a get every 50 ms.
const CALLS_MEANWHILE: u64 = 20;

/// A scene is played as often at most.
const PLAYS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Frozen,
    Restarted,
    CutOff,
    Vanished,
}

impl Fault {
    /// Acknowledged writes are lost by killing some versions (`Etcd::kill_or_stop`).
    fn version(self) -> Version {
        match self {
            Self::Killed => Version::V3_4,
            Self::Frozen | Self::Restarted | Self::CutOff | Self::Vanished => Version::V3_5,
        }
    }

    fn network(self) -> Between {
        match self {
            Self::Killed | Self::Frozen | Self::Restarted => Between::Nothing,
            Self::CutOff => Between::Links,
            Self::Vanished => Between::Namespace,
        }
    }

    async fn happen(self, scene: &mut Scene) {
        match self {
            Self::Killed => {
                scene.member().kill();
                sleep(AWAY).await;
                scene.member().spawn();
                scene.member().ready().await;
            }
            Self::Frozen => {
                scene.member().freeze(true);
                sleep(AWAY).await;
                scene.member().freeze(false);
            }
            Self::Restarted => {
                scene.member().stop();
                scene.member().spawn();
                scene.member().ready().await;
            }
            Self::CutOff | Self::Vanished => match &scene.network {
                Network::Links(links) => {
                    links[scene.victim].cut();
                    sleep(AWAY).await;
                    links[scene.victim].mend();
                }
                Network::Namespace(namespace) => {
                    namespace.silence(true);
                    sleep(SILENT).await;
                    namespace.silence(false);
                }
                Network::Loopback => panic!("no network that could be cut"),
            },
        }
    }
}

/// What does not hold of a pair.
fn complaint(pair: &Pair) -> Option<String> {
    let Pair { name, direct, proxied } = pair;
    let is_only_way = *name == ONE;
    if proxied.wrong > 0 || proxied.gets_failed > direct.gets_failed {
        return Some(format!(
            "{} wrong answers, {} gets failed",
            proxied.wrong, proxied.gets_failed
        ));
    }
    // Whether a put that was under way when a connection was lost has been carried out nobody knows, so that it has to fail. How
    // many that are is luck: as many as are begun while one takes.
    let under_way = calls_within(direct.p99.max(proxied.p99).min(MORE));
    if proxied.lost() > direct.lost() + under_way {
        return Some(format!(
            "{} puts were lost, {} at the members",
            proxied.lost(),
            direct.lost()
        ));
    }
    let (others, at_members) = (proxied.failed() - proxied.lost(), direct.failed() - direct.lost());
    // Where there is no other way, every call may fail while the member is away, and that may be longer by as much.
    if others > at_members + if is_only_way { CALLS_MEANWHILE } else { 0 } {
        return Some(format!("{others} calls failed, {at_members} at the members"));
    }
    let most = direct.longest + MORE + if is_only_way { LUCK } else { 0.0 };
    (proxied.longest > most).then(|| {
        format!(
            "a call took {:.0} ms, {:.0} at the members",
            proxied.longest, direct.longest
        )
    })
}

/// How many puts a client begins in so many milliseconds, and one more.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds of a test"
)]
fn calls_within(milliseconds: f64) -> u64 {
    milliseconds as u64 / u64::try_from(EVERY.as_millis()).expect("milliseconds") + 1
}

fn print(title: &str, pairs: &[Pair]) {
    eprintln!(
        "{title:<28} {:>22} {:>22} {:>16} {:>14}",
        "failed put+get", "longest put/get ms", "p99 ms", "calls"
    );
    for Pair { name, direct, proxied } in pairs {
        let of = |left: String, right: String| format!("{left} | {right}");
        eprintln!(
            "  {name:<26} {:>22} {:>22} {:>16} {:>14}",
            of(
                format!("{}+{}", direct.puts_failed, direct.gets_failed),
                format!("{}+{}", proxied.puts_failed, proxied.gets_failed)
            ),
            of(
                format!("{:.0}/{:.0}", direct.longest_put, direct.longest_get),
                format!("{:.0}/{:.0}", proxied.longest_put, proxied.longest_get)
            ),
            of(format!("{:.0}", direct.p99), format!("{:.0}", proxied.p99)),
            of(direct.calls.to_string(), proxied.calls.to_string()),
        );
        for (who, load) in [("members", direct), ("proxies", proxied)] {
            for (text, count) in &load.texts {
                eprintln!("    {who}: {count} × {text}");
            }
        }
    }
}

async fn hold(home: Home, fault: Fault) {
    let mut complaints: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for play in 1..=PLAYS {
        let mut scene = Scene::start(fault.version(), home, fault.network()).await;
        let pairs = scene.play(async |scene| fault.happen(scene).await).await;
        print(&format!("{fault:?}, {home:?} (members | proxies)"), &pairs);
        for pair in &pairs {
            match complaint(pair) {
                None => {
                    complaints.insert(pair.name, Vec::new());
                }
                Some(what) if play == 1 || complaints.get(pair.name).is_some_and(|before| !before.is_empty()) => {
                    complaints.entry(pair.name).or_default().push(what);
                }
                Some(_) => {}
            }
        }
        complaints.retain(|_, complaints| !complaints.is_empty());
        if complaints.is_empty() {
            return;
        }
        eprintln!("does not hold (play {play}): {complaints:#?}");
        if std::env::var_os("CLIENTS_LOGS").is_some() {
            for proxy in &scene.own {
                eprintln!("--- {}\n{}", proxy.url(), proxy.output());
            }
        }
    }
    panic!("{fault:?}, {home:?}: does not hold in {PLAYS} plays: {complaints:#?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_killed() {
    hold(Home::File, Fault::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_killed_in_managed_mode() {
    hold(Home::Etcd, Fault::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_frozen() {
    hold(Home::File, Fault::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_frozen_in_managed_mode() {
    hold(Home::Etcd, Fault::Frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_restarted() {
    hold(Home::File, Fault::Restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_restarted_in_managed_mode() {
    hold(Home::Etcd, Fault::Restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_cut_off() {
    hold(Home::File, Fault::CutOff).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli: make clients"]
async fn a_member_is_cut_off_in_managed_mode() {
    hold(Home::Etcd, Fault::CutOff).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli and root: make clients"]
async fn a_member_s_host_vanishes() {
    hold(Home::File, Fault::Vanished).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs gocli and root: make clients"]
async fn a_member_s_host_vanishes_in_managed_mode() {
    hold(Home::Etcd, Fault::Vanished).await;
}
