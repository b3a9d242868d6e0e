//! The run: scenes in file and managed mode in turn, each with fresh processes and two rounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use super::aimed;
use super::clock::Library;
use super::edited::Edit;
use super::faults;
use super::history::History;
use super::operator::Operator;
use super::plan::{self, PROXIES, Plan};
use super::reader::Checker;
use super::restored::Snapshot;
use super::settings::{Settings, name};
use super::summary::{Round, Summary};
use super::verdict;
use super::world::World;
use super::writers::Writers;
use crate::common::netns::Namespace;
use crate::common::rotation::Home;

/// Of one scene.
const ROUNDS: usize = 2;
/// How long random faults go on in a round: longer than a member's record lives, short enough for a history that can be judged.
const FAULTS: Duration = Duration::from_secs(22);

/// Everything.
pub async fn run(settings: &Settings) -> Summary {
    let start = Instant::now();
    let has_namespaces = Namespace::can_be_had();
    let built = TempDir::with_prefix("torture-clock-").expect("a temporary folder");
    let clocks = Library::build(built.path());
    let mut summary = Summary {
        again: settings.again(),
        lacks_checker: settings.checker.is_none(),
        lacks_namespaces: !has_namespaces,
        lacks_clocks: clocks.as_ref().err().cloned(),
        ..Summary::default()
    };
    eprintln!("torture: {}", summary.again);
    let modes = settings.mode.map_or(vec![Home::File, Home::Etcd], |mode| vec![mode]);
    let mut number = 0;
    for scene in 0.. {
        let home = modes[scene % modes.len()];
        let is_over = || start.elapsed() >= settings.length;
        if scene >= modes.len() && is_over() {
            break;
        }
        let mut play = Scene::start(settings, scene, home, has_namespaces, clocks.as_ref().ok().cloned()).await;
        let mut snapshot = None;
        for _ in 0..ROUNDS {
            let round = play.round(settings, number, start, &mut summary).await;
            number += 1;
            let has_loss = round.verdict.has_loss();
            summary.rounds.push(round);
            // What is lost stays lost: another round of this scene would find it again.
            if has_loss {
                break;
            }
            if snapshot.is_none() {
                snapshot = Some(Snapshot::take(&mut play.world, &play.standing).await);
            }
            if is_over() {
                break;
            }
        }
        let has_loss = summary.rounds.last().is_some_and(|round| round.verdict.has_loss());
        if let Some(snapshot) = snapshot.filter(|_| !has_loss) {
            let restored = snapshot.put_back(&mut play.world, &play.operator, home).await;
            eprintln!(
                "scene {scene}: a snapshot of {} values was put back: {} wrong",
                restored.values,
                restored.wrong.len()
            );
            restored
                .wrong
                .iter()
                .take(5)
                .for_each(|wrong| eprintln!("  FAILED: {wrong}"));
            let is_whole = restored.wrong.is_empty();
            summary.restored.push(restored);
            if home == Home::File && is_whole {
                let edit = Edit::of(settings.seed, scene);
                let edited = edit.carry_out(&play.world, &play.operator, &snapshot.standing).await;
                eprintln!(
                    "scene {scene}: the file was edited by hand ({edit:?}): {} wrong",
                    edited.wrong.len()
                );
                edited
                    .wrong
                    .iter()
                    .take(5)
                    .for_each(|wrong| eprintln!("  FAILED: {wrong}"));
                summary.edited.push(edited);
            }
        }
        summary.take(&play.operator);
        summary.take(&play.colleague);
        if has_loss && settings.until_loss {
            break;
        }
    }
    summary.took = start.elapsed();
    summary
}

impl Summary {
    fn take(&mut self, operator: &Operator) {
        for (command, count) in operator.ends() {
            *self.commands.entry(command).or_default() += count;
        }
    }
}

/// Processes that stay for some rounds.
struct Scene {
    world: World,
    operator: Operator,
    /// Runs other commands at the same time.
    colleague: Operator,
    checker: Option<Checker>,
    home: Home,
    /// What earlier rounds left.
    standing: BTreeMap<String, Option<String>>,
}

impl Scene {
    async fn start(
        settings: &Settings,
        scene: usize,
        home: Home,
        has_namespaces: bool,
        clocks: Option<Library>,
    ) -> Self {
        let version = plan::version(settings.seed, scene);
        let world = World::start(home, version, has_namespaces, clocks, settings.other.clone()).await;
        eprintln!("scene {scene}: {} mode, etcd {version:?}", name(home));
        Self {
            operator: Operator::new(
                Arc::clone(&world.shared),
                world.folder(),
                "command",
                world.clock("command-clock"),
            ),
            // Whose clock is true.
            colleague: Operator::new(Arc::clone(&world.shared), world.folder(), "other-command", None),
            world,
            checker: settings.checker.clone().map(|program| Checker { program }),
            home,
            standing: BTreeMap::new(),
        }
    }

    async fn round(&mut self, settings: &Settings, number: usize, start: Instant, summary: &mut Summary) -> Round {
        let plan = Plan::draw(settings.seed, number, FAULTS, self.world.means());
        let plan = if settings.calm { plan.calmed() } else { plan };
        let title = format!("round {number} ({} mode)", name(self.home));
        eprintln!("{title}, at {:.0} s:\n{plan}", start.elapsed().as_secs_f64());
        let prefix = format!("/registry/secrets/r{number}/");
        let history = History::begin();
        let sockets: Vec<_> = (0..PROXIES).map(|proxy| self.world.socket(proxy)).collect();
        let writers = Writers::start(&sockets, &format!("{prefix}k-"), &history, plan.writers).await;

        let aimed = aimed::hold_across_a_drop(&self.world, &self.operator, &history, &prefix, &plan).await;
        eprintln!(
            "  aimed: {} for {:.1} s; rotate-keys {:?}",
            plan.aim.name(),
            aimed.1.as_secs_f64(),
            aimed.0
        );
        *summary.faults.entry(plan.aim.name()).or_default() += 1;

        self.operator.stop(false);
        self.colleague.stop(false);
        let begun = Instant::now();
        let work = [
            tokio::spawn(self.operator.clone().work(plan.commands.clone())),
            tokio::spawn(self.colleague.clone().work(plan.others.clone())),
        ];
        faults::carry_out(&mut self.world, &self.operator, &plan.faults).await;
        for fault in &plan.faults {
            *summary.faults.entry(fault.kind.name()).or_default() += 1;
        }
        // The operator goes on for as long in a round with few faults, or none.
        sleep(FAULTS.saturating_sub(begun.elapsed())).await;
        self.operator.stop(true);
        self.colleague.stop(true);
        self.operator.signal("CONT");
        let ended = self.world.heal().await;
        for work in work {
            work.await.expect("the operator ends");
        }
        writers.end().await;
        let settled = self.operator.settle().await;

        let (world, operator, checker) = (&self.world, &self.operator, self.checker.as_ref());
        let mut verdict = verdict::judge(world, operator, &history, checker, &mut self.standing, self.home).await;
        verdict.other.extend(settled.err().into_iter().chain(ended));
        let round = Round {
            name: title,
            at: start.elapsed(),
            verdict,
        };
        let failed: Vec<_> = round.checks().into_iter().filter(|(_, passed)| !passed).collect();
        eprintln!(
            "  judged at {:.0} s: {} checks failed",
            round.at.as_secs_f64(),
            failed.len()
        );
        // Now, too: a run that is ended from outside says no more.
        for (check, _) in failed {
            eprintln!("  FAILED: {check}");
        }
        eprint!("{}", round.verdict);
        round
    }
}
