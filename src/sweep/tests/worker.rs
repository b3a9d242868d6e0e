//! Workers of several members over one store: who sweeps, when, and when not.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::model::Model;
use super::world::{KEY_NEW, KEY_OLD, aescbc, identity, scope, sealed_by};
use crate::etcd::{Store as _, epoch};
use crate::keyring::{Keyring, Permit, Writing};
use crate::members::{Member, MemberId, Presence, Witness};
use crate::sweep::{Activity, Finding, InUse, Limits, Scope, Worker, WorkerStatus};
use crate::types::{BootInstant, Epoch, StatePrefix};

const KEYS: u32 = 300;

impl InUse for &Process {
    fn writing(&self) -> Arc<Writing> {
        let epoch = self.epoch.borrow().clone();
        Arc::new(Writing {
            keyring: Arc::clone(&self.keyring.borrow()),
            permit: epoch.map_or(Permit::Unknown, |epoch| Permit::Fenced { epoch, nests: false }),
            since: SystemTime::now(),
        })
    }

    fn is_over(&self, epoch: &Epoch) {
        if self.epoch.borrow().as_ref() == Some(epoch) {
            self.epoch.replace(None);
        }
    }
}

/// A process that serves: its record, and its worker.
struct Process {
    name: String,
    id: MemberId,
    keyring: RefCell<Arc<Keyring>>,
    /// In which it may write; the tests' sweeps replace it.
    epoch: RefCell<Option<Epoch>>,
    replaced: watch::Sender<()>,
    stop: watch::Sender<bool>,
    limits: Limits,
    status: Arc<WorkerStatus>,
}

impl Process {
    fn new(name: &str, scope: &Scope) -> Self {
        Self {
            name: name.to_owned(),
            id: MemberId::new(),
            keyring: RefCell::new(Arc::clone(&scope.keyring)),
            epoch: RefCell::new(None),
            replaced: watch::Sender::new(()),
            stop: watch::Sender::new(false),
            limits: Limits::default(),
            status: Arc::default(),
        }
    }

    fn load(&self, scope: &Scope) {
        *self.keyring.borrow_mut() = Arc::clone(&scope.keyring);
        self.replaced.send_replace(());
    }

    /// Until it is stopped. As if killed where the future is dropped.
    async fn run(&self, model: &Model) {
        let state = StatePrefix::new(StatePrefix::DEFAULT).unwrap();
        let presence = Presence {
            id: self.id,
            describe: || Member::new(&self.name, &[], "", &self.keyring.borrow(), None),
            changed: self.replaced.subscribe(),
            witness: Nobody,
            leave: self.stop.subscribe(),
        };
        let worker = Worker {
            keyring: self,
            id: self.id,
            rotating: [state.as_bytes(), b"driver"].concat(),
            state: state.clone(),
            limits: self.limits,
            status: Arc::clone(&self.status),
            replaced: self.replaced.subscribe(),
            stop: self.stop.subscribe(),
        };
        let permits = async {
            loop {
                if self.epoch.borrow().is_none()
                    && let Ok(epoch) = epoch::read(&model, &state).await
                {
                    self.epoch.replace(Some(epoch));
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(presence.keep(&model, &state), worker.run(&model)) } => {}
            () = permits => {}
        }
    }

    async fn until(&self, wanted: impl Fn(&Activity) -> bool) {
        let found = async {
            while !wanted(&self.status.activity()) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let found = timeout(Duration::from_secs(3_600), found).await;
        assert!(found.is_ok(), "{}: {:?}", self.name, self.status.activity());
    }

    async fn until_clean(&self) {
        self.until(|activity| *activity == Activity::Done(Finding::Clean)).await;
    }
}

/// Nobody asks how the record stands.
struct Nobody;

impl<S> Witness<S> for Nobody {
    async fn renew(&self) {}

    async fn stands(&self, _: &S, _: BootInstant, _: Duration) -> Result<(), crate::etcd::CallError> {
        Ok(())
    }

    fn falls(&self) {}
}

fn old() -> Scope {
    scope(&[&aescbc("old", KEY_OLD)])
}

fn new() -> Scope {
    scope(&[&aescbc("new", KEY_NEW), &aescbc("old", KEY_OLD)])
}

/// A store with values under the old key.
fn filled(seed: u64) -> Model {
    let model = Model::new(seed, &[&aescbc("new", KEY_NEW), &aescbc("old", KEY_OLD), &identity()]);
    model.latency.set(3);
    let former = old();
    for index in 0..KEYS {
        let key = key(index);
        model.put(&key, &sealed_by(&former, &key, b"value"), 0);
    }
    model
}

fn key(index: u32) -> Vec<u8> {
    format!("/registry/secrets/default/{index:04}").into_bytes()
}

/// How many secrets there are under the key `name`.
fn under(model: &Model, name: &str) -> usize {
    let prefix = format!("k8s:enc:aescbc:v1:{name}:");
    let now = model.now();
    let secrets = now.values().filter(|kv| kv.value.starts_with(prefix.as_bytes()));
    secrets.count()
}

#[tokio::test(start_paused = true)]
async fn one_of_all_sweeps_once_all_have_loaded_the_same() {
    for seed in 0..8 {
        let model = filled(seed);
        model.trouble.set(u32::try_from(seed).unwrap() * 5);
        model.may_rewrite.set(false);
        let (old, new) = (old(), new());
        let processes = ["a", "b", "c"].map(|name| Process::new(name, &old));
        let script = async {
            for process in &processes {
                process.until_clean().await;
            }
            assert_eq!(model.rewrites.get(), 0, "there was nothing to write");
            for (index, process) in processes.iter().enumerate() {
                sleep(Duration::from_millis(u64::from(model.random(20_000)))).await;
                model.may_rewrite.set(index == processes.len() - 1);
                process.load(&new);
            }
            while under(&model, "new") < KEYS as usize {
                sleep(Duration::from_secs(1)).await;
            }
            // What they do next is of the new configuration for certain.
            sleep(Duration::from_secs(120)).await;
            for process in &processes {
                process.until_clean().await;
            }
            for process in &processes {
                process.stop.send_replace(true);
            }
        };
        tokio::join!(script, join_all(processes.iter().map(|process| process.run(&model))));
        assert_eq!(
            (under(&model, "new"), model.rewrites.get()),
            (KEYS as usize, KEYS),
            "seed {seed}"
        );
        // Where taking it away failed, its lease ends by itself.
        model.trouble.set(0);
        sleep(Duration::from_secs(20)).await;
        (&model).get(b"").await.unwrap();
        let left: Vec<_> = model
            .now()
            .into_keys()
            .filter(|key| key.windows(9).any(|part| part == b"/members/"))
            .collect();
        assert_eq!(left, Vec::<Vec<u8>>::new(), "who leaves takes its record away");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_began_another_ends() {
    let model = filled(1);
    let (old, new) = (old(), new());
    let (first, second) = (Process::new("first", &new), Process::new("second", &new));
    // Alone until half of the values are written.
    tokio::select! {
        () = first.run(&model) => {}
        () = async { while model.rewrites.get() < KEYS / 2 { sleep(Duration::from_millis(1)).await } } => {}
    }
    // One that is alive with the old configuration is waited for, even if it came later.
    let late = Process::new("late", &old);
    let done_before = model.rewrites.get();
    let script = async {
        second
            .until(|activity| matches!(activity, Activity::Waiting(why) if why.contains("late")))
            .await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(model.rewrites.get(), done_before);
        late.stop.send_replace(true);
        second.until_clean().await;
        second.stop.send_replace(true);
    };
    tokio::join!(script, second.run(&model), late.run(&model));
    assert_eq!(under(&model, "new"), KEYS as usize);
    assert!(model.rewrites.get() <= KEYS, "nothing was written twice");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_comes_with_another_configuration_interrupts_the_sweep() {
    let model = filled(2);
    model.latency.set(400);
    let (old, new) = (old(), new());
    let (sweeping, late) = (Process::new("sweeping", &new), Process::new("late", &old));
    let script = async {
        while model.rewrites.get() < KEYS / 10 {
            sleep(Duration::from_millis(1)).await;
        }
        let come = async {
            sweeping
                .until(|activity| matches!(activity, Activity::Waiting(why) if why.contains("late")))
                .await;
            let rewritten = model.rewrites.get();
            assert!(rewritten < KEYS, "the test is too slow to interrupt anything");
            sleep(Duration::from_secs(30)).await;
            assert_eq!(model.rewrites.get(), rewritten);
            late.load(&new);
            sweeping.until_clean().await;
            late.stop.send_replace(true);
            sweeping.stop.send_replace(true);
        };
        tokio::join!(come, late.run(&model));
    };
    tokio::join!(script, sweeping.run(&model));
    assert_eq!(under(&model, "new"), KEYS as usize);
}

#[tokio::test(start_paused = true)]
async fn who_starts_later_finds_the_work_done() {
    let model = filled(3);
    let new = new();
    let alone = async |name: &str| {
        let process = Process::new(name, &new);
        let script = async {
            process.until_clean().await;
            process.stop.send_replace(true);
        };
        tokio::join!(script, process.run(&model));
    };
    alone("first").await;
    let (read, rewrites) = (model.read.get(), model.rewrites.get());
    alone("second").await;
    assert!(model.read.get() - read < 50, "the store was not read again");
    assert_eq!(model.rewrites.get(), rewrites);
}

#[tokio::test(start_paused = true)]
async fn stale_values_of_a_stranger_are_swept_again() {
    let model = filled(4);
    let (old, new) = (old(), new());
    let process = Process::new("a", &new);
    let script = async {
        // Something that is no member goes on writing with the old key, behind the sweep.
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            model.put(&key(0), &sealed_by(&old, &key(0), b"value"), 0);
            sleep(Duration::from_millis(20)).await;
        }
        process.until(|activity| *activity == Activity::Left(1)).await;
        process.until_clean().await;
        process.stop.send_replace(true);
    };
    tokio::join!(script, process.run(&model));
    assert_eq!(under(&model, "old"), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_laid_bare_in_the_background() {
    let model = filled(5);
    let process = Process::new("a", &scope(&[&identity(), &aescbc("old", KEY_OLD)]));
    let script = async {
        process.until(|activity| *activity == Activity::Idle).await;
        sleep(Duration::from_secs(300)).await;
        process.stop.send_replace(true);
    };
    tokio::join!(script, process.run(&model));
    assert_eq!((under(&model, "old"), model.rewrites.get()), (KEYS as usize, 0));
}

/// Rolled back by itself, and forward again: what it wrote meanwhile is under the old key, and the proof is of before.
#[tokio::test(start_paused = true)]
async fn a_proof_does_not_hold_once_a_member_has_written_with_something_else() {
    let model = filled(6);
    let (old, new) = (old(), new());
    let (first, second) = (Process::new("first", &new), Process::new("second", &new));
    let script = async {
        first.until_clean().await;
        second.until_clean().await;
        second.load(&old);
        sleep(Duration::from_secs(30)).await;
        model.put(&key(0), &sealed_by(&old, &key(0), b"value"), 0);
        let is_waiting = |activity: &Activity| matches!(activity, Activity::Waiting(why) if why.contains("second"));
        assert!(is_waiting(&first.status.activity()), "{:?}", first.status.activity());
        // Whoever saw it need not live on.
        first.stop.send_replace(true);
        sleep(Duration::from_secs(30)).await;
        second.load(&new);
        sleep(Duration::from_secs(60)).await;
        second.until_clean().await;
        assert_eq!(under(&model, "old"), 0, "said to be clean");
        second.stop.send_replace(true);
    };
    tokio::join!(script, first.run(&model), second.run(&model));
}

/// Whoever comes with another configuration meanwhile would not be seen.
#[tokio::test(start_paused = true)]
async fn nothing_is_written_for_long_while_the_members_are_not_known() {
    let model = filled(7);
    let mut process = Process::new("a", &new());
    process.limits.keys_per_second = Some(5.0);
    let script = async {
        while model.rewrites.get() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        model.hides_members.set(true);
        sleep(Duration::from_secs(20)).await;
        let rewritten = model.rewrites.get();
        assert!(rewritten < KEYS, "the test is too slow to interrupt anything");
        sleep(Duration::from_secs(300)).await;
        assert_eq!(model.rewrites.get(), rewritten);
        assert!(matches!(process.status.activity(), Activity::Failing(_)));
        model.hides_members.set(false);
        process.until_clean().await;
        process.stop.send_replace(true);
    };
    tokio::join!(script, process.run(&model));
    assert_eq!((under(&model, "new"), model.rewrites.get()), (KEYS as usize, KEYS));
}

/// Whatever stands before or in it.
#[tokio::test(start_paused = true)]
async fn a_record_that_is_larger_than_a_page_hides_nobody() {
    let model = filled(8);
    // Behind every ID of a process.
    let large = [StatePrefix::DEFAULT.as_bytes(), b"members/x"].concat();
    model.put(&large, &vec![b' '; 9 << 20], 0);
    let process = Process::new("a", &new());
    let script = async {
        process
            .until(|activity| matches!(activity, Activity::Waiting(why) if why.contains("the member x cannot be read")))
            .await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(model.rewrites.get(), 0);
        model.delete(&large);
        process.until_clean().await;
        process.stop.send_replace(true);
    };
    tokio::join!(script, process.run(&model));
}

/// The first half was looked at before somebody wrote there with the old key.
#[tokio::test(start_paused = true)]
async fn half_a_proof_does_not_hold_either() {
    let model = filled(9);
    let (old, new) = (old(), new());
    let mut process = Process::new("a", &new);
    process.limits.keys_per_second = Some(5.0);
    let late = Process::new("late", &old);
    let is_half = || {
        let now = model.now();
        let mut records = now.iter().filter(|(key, _)| key.ends_with(b"sweep/checkpoint"));
        let text = records
            .next()
            .map(|(_, kv)| String::from_utf8_lossy(&kv.value).into_owned());
        text.is_some_and(|text| text.contains("\"stage\":\"prove\",\"position\":\"2f"))
    };
    let script = async {
        while !is_half() {
            sleep(Duration::from_millis(100)).await;
        }
        let come = async {
            process.until(|activity| matches!(activity, Activity::Waiting(_))).await;
            model.put(&key(0), &sealed_by(&old, &key(0), b"value"), 0);
            sleep(Duration::from_secs(30)).await;
            late.load(&new);
            process.until_clean().await;
            assert_eq!(under(&model, "old"), 0, "said to be clean");
            late.stop.send_replace(true);
            process.stop.send_replace(true);
        };
        tokio::join!(come, late.run(&model));
    };
    tokio::join!(script, process.run(&model));
}
