//! A store, a file and members in memory. Whenever the driver calls the store, the others do something too: members load the
//! file, late or never, say so later still, write and read; and the driver may die in the call.
//!
//! At each moment every stored value must open with what every member has loaded, and with what the file says.

mod permit;
mod place;
mod store;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;

use crate::config::{EncryptionConfiguration, KeyId, Options, parse};
use crate::etcd::{CallError, KeyValue};
use crate::keyring::Keyring;
use crate::keyspace::{EtcdPrefix, KeySpace};
use crate::kms::Plugins;
use crate::members::Member;
use crate::types::{Epoch, StatePrefix, StorageKey};
use crate::value::Deks;

use permit::Permit;
pub(super) use place::{Deaf, Place};

pub(super) const STATE: &str = "/etcd-encryption-proxy/";
const OBJECTS: u32 = 4;

/// Everything.
pub(super) struct World {
    keys: RefCell<BTreeMap<Vec<u8>, KeyValue>>,
    revision: Cell<i64>,
    pub(super) compacted: Cell<i64>,
    /// Whether somebody compacts now and then.
    pub(super) compacts: Cell<bool>,
    rng: RefCell<StdRng>,
    /// The same of all worlds that are served with it.
    pub(super) file: Rc<RefCell<Loaded>>,
    /// What the file was before.
    former: Rc<RefCell<Vec<Loaded>>>,
    pub(super) members: RefCell<Vec<Process>>,
    /// Of a thousand calls so many fail.
    pub(super) trouble: Cell<u32>,
    /// Calls after which the driver dies; 0 for never.
    pub(super) dies_after: Cell<u32>,
    is_dead: Cell<bool>,
    pub(super) death: Notify,
    state: StatePrefix,
    /// Writes that are sealed and on their way.
    under_way: RefCell<Vec<Write>>,
    /// Whether the store refuses those that were sealed in another epoch.
    pub(super) has_fence: Cell<bool>,
    /// Whether a name may come to stand for other bytes: where an operator has brought that about.
    pub(super) shares_names: Cell<bool>,
    /// The bytes of each key that ever was, by name.
    named: RefCell<BTreeMap<KeyId, Vec<u8>>>,
}

/// A member's write, on its way for as long as it takes: no clock says when it arrives.
struct Write {
    whose: String,
    object: u32,
    stored: Vec<u8>,
    /// In which it was sealed.
    epoch: Epoch,
}

/// A configuration, compiled.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) config: Rc<EncryptionConfiguration>,
    keyring: Arc<Keyring>,
}

/// A member.
pub(super) struct Process {
    pub(super) name: String,
    loaded: Loaded,
    /// Whether the record says so.
    is_said: bool,
    /// Does not load anything new, and says why.
    pub(super) is_stubborn: bool,
    /// It was there all the while. If not, it came back with a file that is not the one there is, and may be unable to read.
    is_here: bool,
    /// How far it is with finding out whether it may write.
    permit: Permit,
}

impl Loaded {
    pub(super) fn of(text: &str) -> Self {
        let config = parse(text.as_bytes(), Options { reload: true }).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
        Self {
            keyring: Arc::new(Keyring::compile(&config, &keyspace, &Plugins::none()).unwrap()),
            config: Rc::new(config),
        }
    }

    fn opens(&self, key: &[u8], stored: &[u8]) -> bool {
        let chain = self.keyring.chain(key).expect("a rule");
        let mut plaintext = Vec::new();
        let opened = chain.from_storage(StorageKey(key), stored, &Deks::default(), &mut plaintext);
        opened.is_ok() && plaintext == key
    }

    fn sealed(&self, key: &[u8]) -> Vec<u8> {
        let chain = self.keyring.chain(key).expect("a rule");
        let mut stored = Vec::new();
        chain
            .to_storage(StorageKey(key), key, &Deks::default(), &mut stored)
            .unwrap();
        stored
    }
}

/// Where the object `index` lies.
pub(super) fn object(index: u32) -> Vec<u8> {
    let resource = if index.is_multiple_of(2) {
        "secrets"
    } else {
        "configmaps"
    };
    format!("/registry/{resource}/default/{index}").into_bytes()
}

impl World {
    pub(super) fn new(seed: u64, document: &str, members: usize) -> Rc<Self> {
        let file = Rc::new(RefCell::new(Loaded::of(document)));
        Self::with(seed, file, Rc::default(), members)
    }

    /// Another store that is served with the same file.
    pub(super) fn beside(&self, seed: u64, members: usize) -> Rc<Self> {
        Self::with(seed, Rc::clone(&self.file), Rc::clone(&self.former), members)
    }

    fn with(seed: u64, file: Rc<RefCell<Loaded>>, former: Rc<RefCell<Vec<Loaded>>>, members: usize) -> Rc<Self> {
        let world = Self {
            keys: RefCell::default(),
            revision: Cell::new(1),
            compacted: Cell::new(0),
            compacts: Cell::new(true),
            rng: RefCell::new(StdRng::seed_from_u64(seed)),
            file,
            former,
            members: RefCell::default(),
            trouble: Cell::new(0),
            dies_after: Cell::new(0),
            is_dead: Cell::new(false),
            death: Notify::new(),
            state: StatePrefix::new(STATE).unwrap(),
            under_way: RefCell::default(),
            has_fence: Cell::new(true),
            shares_names: Cell::new(false),
            named: RefCell::default(),
        };
        for index in 0..OBJECTS {
            let key = object(index);
            let stored = world.file.borrow().sealed(&key);
            world.put(&key, &stored);
        }
        world.remember();
        for index in 0..members {
            world.start(&format!("m{index}"));
        }
        Rc::new(world)
    }

    fn random(&self, below: u32) -> u32 {
        self.rng.borrow_mut().random_range(0..below)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> i64 {
        self.put_under(key, value, 0)
    }

    fn put_under(&self, key: &[u8], value: &[u8], lease: i64) -> i64 {
        let revision = self.revision.get() + 1;
        self.revision.set(revision);
        let mut keys = self.keys.borrow_mut();
        let create_revision = keys.get(key).map_or(revision, |kv| kv.create_revision);
        let kv = KeyValue {
            key: key.to_vec().into(),
            value: value.to_vec().into(),
            create_revision,
            mod_revision: revision,
            lease,
        };
        keys.insert(key.to_vec(), kv);
        revision
    }

    /// A process that loads the file as it is now.
    pub(super) fn start(&self, name: &str) {
        let process = Process {
            name: name.to_owned(),
            loaded: self.file.borrow().clone(),
            is_said: true,
            is_stubborn: false,
            is_here: true,
            permit: Permit::Unknown,
        };
        self.say(&process);
        self.members.borrow_mut().push(process);
    }

    /// A process that was away comes back, with the file as it was at some time.
    pub(super) fn come_back(&self, name: &str) {
        let former = self.former.borrow();
        let Some(loaded) = former.get(self.random(u32::try_from(former.len().max(1)).unwrap()) as usize) else {
            return;
        };
        let process = Process {
            name: name.to_owned(),
            loaded: loaded.clone(),
            is_said: true,
            is_stubborn: true,
            is_here: false,
            permit: Permit::Unknown,
        };
        self.say(&process);
        self.members.borrow_mut().push(process);
    }

    /// The process takes the file into use, if that is another one; what it knew of permits was of the old one.
    fn load(&self, process: &mut Process) {
        let file = self.file.borrow().clone();
        if process.loaded.config.fingerprint != file.config.fingerprint {
            process.loaded = file;
            process.is_said = false;
            process.is_here = true;
            process.permit = Permit::Unknown;
        }
    }

    /// A process dies, and its lease ends. What it has sent is on its way all the same.
    pub(super) fn end(&self, index: usize) {
        let process = self.members.borrow_mut().remove(index);
        self.keys.borrow_mut().remove(&record_key(&process.name));
    }

    /// A write that was under way gets to the store.
    fn arrive(&self) {
        let count = u32::try_from(self.under_way.borrow().len()).unwrap();
        if count == 0 {
            return;
        }
        let write = self.under_way.borrow_mut().swap_remove(self.random(count) as usize);
        if self.has_fence.get() && write.epoch != self.epoch() {
            let mut members = self.members.borrow_mut();
            let writer = members.iter_mut().find(|process| process.name == write.whose);
            if let Some(writer) = writer.filter(|writer| writer.permit == Permit::Granted(write.epoch)) {
                writer.permit = Permit::Unknown;
            }
            return;
        }
        self.put(&object(write.object), &write.stored);
    }

    /// All that was under way gets to the store, however long ago it was sealed.
    pub(super) fn arrive_all(&self) {
        while !self.under_way.borrow().is_empty() {
            self.arrive();
            self.check();
        }
    }

    fn say(&self, process: &Process) {
        let refused = process.is_stubborn.then_some("it does not want to");
        let member = Member::new(&process.name, &[], "then", &process.loaded.keyring, refused).with_fence(true);
        self.put(&record_key(&process.name), &serde_json::to_vec(&member).unwrap());
    }

    /// Somebody else does something.
    pub(super) fn others(&self) {
        let mut members = self.members.borrow_mut();
        let chosen = if members.is_empty() {
            None
        } else {
            Some(self.rng.borrow_mut().random_range(0..members.len()))
        };
        if let Some(process) = chosen.and_then(|index| members.get_mut(index)) {
            match self.random(4) {
                0 if !process.is_stubborn => self.load(process),
                1 if !process.is_said => {
                    process.is_said = true;
                    self.say(process);
                }
                1 | 2 => match process.permit.clone() {
                    Permit::Granted(epoch) => {
                        let index = self.random(OBJECTS);
                        self.under_way.borrow_mut().push(Write {
                            whose: process.name.clone(),
                            object: index,
                            stored: process.loaded.sealed(&object(index)),
                            epoch,
                        });
                    }
                    _ => self.ask(process),
                },
                _ => self.ask(process),
            }
        }
        drop(members);
        // Some are on their way for as long as a whole rotation.
        if self.random(6) == 0 {
            self.arrive();
        }
        if self.compacts.get() && self.random(5) == 0 {
            self.compacted.set(self.revision.get());
        }
        self.check();
    }

    /// What must hold at each moment.
    pub(super) fn check(&self) {
        let keys = self.keys.borrow();
        let members = self.members.borrow();
        let file = self.file.borrow();
        for index in 0..OBJECTS {
            let key = object(index);
            let stored = &keys[&key].value;
            let seen = stored
                .get(..40.min(stored.len()))
                .unwrap_or_default()
                .escape_ascii()
                .to_string();
            assert!(file.opens(&key, stored), "the file reads everything: {seen}");
            for process in members.iter().filter(|process| process.is_here) {
                assert!(
                    process.loaded.opens(&key, stored),
                    "{} reads everything: {seen}",
                    process.name
                );
            }
        }
    }

    /// No two keys ever share a name.
    fn remember(&self) {
        let file = self.file.borrow();
        let mut named = self.named.borrow_mut();
        for provider in file.config.entries.iter().flat_map(|entry| &entry.providers) {
            use crate::config::Provider::{AesCbc, AesGcm, Secretbox};
            let (AesCbc { keys } | AesGcm { keys } | Secretbox { keys }) = provider else {
                continue;
            };
            for (id, key) in provider.key_ids().zip(keys) {
                let bytes = named.entry(id).or_insert_with(|| key.secret.expose().to_vec());
                assert!(
                    self.shares_names.get() || *bytes == key.secret.expose(),
                    "one name, one key"
                );
            }
        }
    }

    /// Stores something beside the objects that only `other` opens.
    pub(super) fn spoil(&self, other: &Loaded) {
        let key = b"/registry/secrets/default/spoilt";
        self.put(key, &other.sealed(key));
    }

    /// Stores something under `key`, which no rule has to cover, sealed with what the file's first rule writes with now.
    pub(super) fn stray(&self, key: &[u8]) {
        let mut stored = Vec::new();
        {
            let file = self.file.borrow();
            let chain = file.keyring.rules()[0].chain();
            chain
                .to_storage(StorageKey(key), b"a value", &Deks::default(), &mut stored)
                .unwrap();
        }
        self.put(key, &stored);
    }

    /// The revision at which the record of rotations was last written; 0 where there is none.
    pub(super) fn noted(&self) -> i64 {
        let keys = self.keys.borrow();
        keys.get(format!("{STATE}rotation").as_bytes())
            .map_or(0, |kv| kv.mod_revision)
    }

    /// Takes it away again.
    pub(super) fn remove(&self, key: &[u8]) {
        self.keys.borrow_mut().remove(key);
    }

    /// Whoever is stubborn gives in, and what has been loaded is said.
    pub(super) fn give_in(&self) {
        for process in self.members.borrow_mut().iter_mut() {
            process.is_stubborn = false;
        }
        self.compacts.set(true);
        self.trouble.set(0);
    }

    /// Lets time pass until everybody has loaded the file, and said so.
    pub(super) fn settle(&self) {
        let is_settled = || {
            let wanted = self.file.borrow().config.fingerprint;
            let members = self.members.borrow();
            members
                .iter()
                .all(|one| one.is_said && one.loaded.config.fingerprint == wanted)
        };
        while !is_settled() {
            self.others();
        }
    }

    /// Brings a dead driver back to life, as another process.
    pub(super) fn revive(&self) {
        self.is_dead.set(false);
        self.dies_after.set(0);
        // The leases of the one that died end.
        self.keys.borrow_mut().retain(|_, kv| kv.lease == 0);
    }

    /// The driver comes nearer to its end. True if it has come.
    fn ages(&self) -> bool {
        let left = self.dies_after.get();
        if left > 0 {
            self.dies_after.set(left - 1);
            self.is_dead.set(self.is_dead.get() || left == 1);
        }
        self.is_dead.get()
    }

    async fn before(&self) -> Result<(), CallError> {
        tokio::task::yield_now().await;
        self.others();
        if self.ages() && self.random(2) == 0 {
            self.die().await;
        }
        self.maybe_lost()
    }

    async fn after<T>(&self, answer: T) -> Result<T, CallError> {
        if self.is_dead.get() {
            self.die().await;
        }
        self.maybe_lost()?;
        Ok(answer)
    }

    async fn die(&self) {
        self.is_dead.set(true);
        self.death.notify_one();
        std::future::pending::<()>().await;
    }

    fn maybe_lost(&self) -> Result<(), CallError> {
        if self.random(1000) < self.trouble.get() {
            return Err(CallError::Lost {
                rpc: "model",
                why: "the wire broke".to_owned(),
            });
        }
        Ok(())
    }
}

fn record_key(name: &str) -> Vec<u8> {
    format!("{STATE}members/{name}").into_bytes()
}
