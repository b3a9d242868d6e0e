//! Target: which keys a rule covers, and what ranges of keys have to do with rules and prefixes.

use etcd_encryption_proxy::{
    keyspace::{Place, Scope},
    types::{GroupResource, KeyRange, Reach, StatePrefix, prefix_end},
};

use super::{
    generate,
    source::{Source, input},
    world::{KEYS, World},
};

/// A key, a range and a prefix; the keys either made from choices or bytes as they are.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let world = World::pick(&mut source);
    let [key, start, end, prefix] = [(); 4].map(|()| {
        if source.flag() {
            generate::key(&mut source)
        } else {
            source.block().to_vec()
        }
    });
    let range = KeyRange::new(&start, &end);
    covered(&key, range, world);
    meets(&key, range, &prefix);
    if let Some(state) = StatePrefix::new(prefix) {
        reach(&state, range, [&key, &start, &end]);
    }
    reach(&world.state, range, [&key, &start, &end]);
}

/// A range that holds a covered key is known to.
fn covered(key: &[u8], range: KeyRange<'_>, world: &World) {
    let keyspace = world.keyring.keyspace();
    let place = keyspace.classify(key);
    let is_covered = world.keyring.chain(key).is_some();
    let itself = KeyRange::One(key);
    assert!(!is_covered || world.keyring.may_cover(&itself));
    assert!(!is_covered || !range.contains(key) || world.keyring.may_cover(&range));
    let is_spanned = |scope: Scope<'_>| keyspace.spans_of(scope).iter().any(|span| span.meets(&itself));
    let is_below_a_prefix = keyspace
        .prefixes()
        .iter()
        .any(|prefix| key.starts_with(prefix.as_bytes()));
    match place {
        Place::Resource { group, resource } => {
            assert!(!resource.is_empty());
            assert!(is_spanned(Scope::Resource(&GroupResource::new(group, resource))));
            assert!(is_spanned(Scope::Group(group)));
            assert!(is_spanned(Scope::Everything));
        }
        Place::Unlisted => assert!(is_spanned(Scope::Everything)),
        Place::NeverEncrypted => assert!(!is_covered && is_below_a_prefix),
        Place::Outside => assert!(!is_covered && !is_below_a_prefix),
    }
}

/// A range meets a prefix just where some key of the prefix lies in it.
fn meets(key: &[u8], range: KeyRange<'_>, prefix: &[u8]) {
    let start = match range {
        KeyRange::One(start) | KeyRange::From(start) | KeyRange::Between(start, _) => start,
    };
    // The first key that could be in both.
    let first = start.max(prefix);
    let is_met = range.contains(first) && first.starts_with(prefix);
    assert_eq!(range.meets_prefix(prefix), is_met);
    assert!(is_met || !range.contains(key) || !key.starts_with(prefix));
    match prefix_end(prefix) {
        Some(end) => assert_eq!(key.starts_with(prefix), prefix <= key && key < end.as_slice()),
        None => assert!(prefix.iter().all(|&byte| byte == 0xff)),
    }
}

/// What is left of a range holds every key of it but those of the prefix, each once.
fn reach(state: &StatePrefix, range: KeyRange<'_>, keys: [&[u8]; 3]) {
    let prefix = state.as_bytes();
    let end = prefix_end(prefix).expect("a state prefix has an end");
    let probes = keys.into_iter().chain([prefix, &end]).chain(KEYS);
    for probe in probes.flat_map(|key| [key.to_vec(), [key, &[0]].concat(), [key, &[0xff]].concat()]) {
        let is_allowed = range.contains(&probe) && !state.contains(&probe);
        let holds = |part: Option<(&[u8], &[u8])>| {
            part.is_some_and(|(key, end)| {
                assert!(!end.is_empty());
                KeyRange::new(key, end).contains(&probe)
            })
        };
        match state.reach(range) {
            Reach::Clear => assert_eq!(is_allowed, range.contains(&probe)),
            Reach::Inside => assert!(!is_allowed),
            Reach::Around { before, behind } => {
                assert!(before.is_some() || behind.is_some());
                assert_eq!(holds(before) || holds(behind), is_allowed);
                assert!(!(holds(before) && holds(behind)));
            }
        }
    }
}

/// Every key that the worlds know, in ranges about it.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, key) in (0u8..).zip(KEYS) {
        let end = [key, b"\xff"].concat();
        for blocks in [
            [key, key, b"", key],
            [key, b"\0", b"\0", b"/registry/"],
            [key, key, &end, b"/"],
        ] {
            let mut seed = vec![index];
            for block in blocks {
                seed.extend(input(&[0], &[block]));
            }
            seeds.push(seed);
        }
    }
    seeds
}
