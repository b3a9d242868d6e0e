//! Target: everything that is rewritten or checked and is no unary call of the KV service: `RangeStream`, Watch, locks and
//! elections, the keys of a lease.

use bytes::Bytes;
use etcd_encryption_proxy::{
    rewrite::{
        ElectionRpc, LockRpc, OnUndecryptable, OpenFailure, Refusal, WatchSession, election_request,
        lease_time_to_live_response, lock_request, range_stream_request,
    },
    types::{KeyRange, Reach},
};
use prost::Message;

use super::{
    generate,
    opened::{self, Opening, Pace},
    pb::{
        etcdserverpb::{
            LeaseTimeToLiveResponse, RangeRequest, RangeStreamResponse, WatchCreateRequest, WatchRequest,
            WatchResponse, watch_request::RequestUnion,
        },
        mvccpb::{Event, KeyValue},
        v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest},
        v3lockpb::{LockRequest, UnlockRequest},
    },
    sent,
    source::{Source, input},
    world::{KEYS, World, policy},
};

const PACE: Pace = Pace { budget: 64, chunk: 64 };

/// Messages of one watch stream, at most this many in each direction.
const WATCH_MESSAGES: usize = 4;

/// One kind of message or stream.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let world = World::pick(&mut source);
    let opening = Opening {
        world,
        policy: policy(&mut source),
    };
    match source.below(5) {
        0 => range_stream(source, opening),
        1 => watch(source, opening),
        2 => lease(source, world),
        3 => lock(source, world),
        _ => election(source, world),
    }
}

/// A message made from choices, or bytes as they are.
fn message<M: Message>(source: &mut Source<'_>, make: impl FnOnce(&mut Source<'_>) -> M) -> Bytes {
    if source.flag() {
        make(source).encode_to_vec().into()
    } else {
        Bytes::copy_from_slice(source.block())
    }
}

fn range_stream(mut source: Source<'_>, opening: Opening<'_>) {
    let Opening { world, policy } = opening;
    let ctx = world.ctx(policy);
    let asked = message(&mut source, generate::range);
    let Ok(request) = range_stream_request(asked.clone(), &ctx) else {
        return;
    };
    assert_eq!(sent::drain(request.message, 64), asked);
    let Ok(asked) = RangeRequest::decode(asked) else { return };
    let range = KeyRange::new(&asked.key, &asked.range_end);
    assert_eq!(world.state.reach(range), Reach::Clear);
    for _ in 0..2 {
        let answer = message(&mut source, |source| RangeStreamResponse {
            range_response: Some(generate::range_response(source, world)),
        });
        let opened = request.responses.open(answer.clone());
        let opened = opened.and_then(|job| opened::run(job, &ctx, PACE));
        let expected = RangeStreamResponse::decode(answer).ok().map(|mut answer| {
            if let Some(range) = &mut answer.range_response
                && !asked.keys_only
                && !asked.count_only
            {
                range.kvs = opening.kvs(std::mem::take(&mut range.kvs), true)?;
            }
            Ok(answer)
        });
        opened::check(opened, expected);
    }
}

/// What a client's watch stream has been told.
#[derive(Default)]
struct Told {
    spans_own: bool,
    /// Watches that wait for the rest of a fragmented response.
    waiting: Vec<i64>,
}

fn watch(mut source: Source<'_>, opening: Opening<'_>) {
    let ctx = opening.world.ctx(opening.policy);
    let mut session = WatchSession::new();
    let mut told = Told::default();
    for _ in 0..source.below(WATCH_MESSAGES) {
        let asked = message(&mut source, watch_request);
        let Ok(sent) = session.request(asked.clone(), &ctx) else {
            continue;
        };
        let sent = sent::drain(sent, 64);
        // etcd ends a stream over what it cannot decode.
        let Ok(mut expected) = WatchRequest::decode(asked.clone()) else {
            return assert!(WatchRequest::decode(sent).is_err());
        };
        match &mut expected.request_union {
            // What etcd takes it for.
            Some(RequestUnion::CreateRequest(create)) if create.key.is_empty() => {
                create.key = vec![0];
                assert_eq!(WatchRequest::decode(sent), Ok(expected.clone()));
            }
            _ => assert_eq!(sent, asked),
        }
        if let Some(RequestUnion::CreateRequest(asked)) = expected.request_union {
            match opening.world.state.reach(KeyRange::new(&asked.key, &asked.range_end)) {
                Reach::Clear => {}
                Reach::Around { .. } => told.spans_own = true,
                Reach::Inside => panic!("a watch of the proxy's own records was accepted"),
            }
        }
    }
    while !source.is_empty() {
        let answer = message(&mut source, |source| generate::watch_response(source, opening.world));
        match session.response(answer.clone(), &ctx) {
            Ok(Some(job)) => {
                let opened = opened::run(job, &ctx, PACE);
                let is_over = opened.is_err();
                let Ok(answer) = WatchResponse::decode(answer) else {
                    return;
                };
                passed_on(answer, opened, &mut told, opening);
                if is_over {
                    return;
                }
            }
            Ok(None) => left_out(&answer, &told, opening.world),
            // The stream ends here.
            Err(_) => return,
        }
    }
}

fn watch_request(source: &mut Source<'_>) -> WatchRequest {
    let mut range = generate::delete_range(source);
    if source.flag() {
        // Everything.
        (range.key, range.range_end) = (vec![0], vec![0]);
    }
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            prev_kv: source.flag(),
            watch_id: source.number(),
            fragment: source.flag(),
            ..WatchCreateRequest::default()
        })),
    }
}

fn passed_on(mut answer: WatchResponse, opened: Result<Vec<u8>, OpenFailure>, told: &mut Told, opening: Opening<'_>) {
    if told.spans_own {
        let had_events = !answer.events.is_empty();
        answer.events.retain(|event| {
            let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
            !opening.world.state.contains(key)
        });
        let has_other_news = answer.created || answer.canceled || answer.compact_revision != 0;
        let is_emptied = had_events && answer.events.is_empty() && !has_other_news;
        let ends_series = !answer.fragment && told.waiting.contains(&answer.watch_id);
        assert!(
            !is_emptied || ends_series,
            "it would be taken for a progress notification"
        );
        told.waiting.retain(|&id| id != answer.watch_id);
        if answer.fragment {
            told.waiting.push(answer.watch_id);
        }
    }
    let events = std::mem::take(&mut answer.events);
    let events: Result<_, _> = events.into_iter().map(|event| opening.event(event)).collect();
    opened::check(opened, Some(events.map(|events| WatchResponse { events, ..answer })));
}

/// Only a response with nothing but events of the proxy's own records may be left out, and not the last fragment of
/// several, for which a client waits.
fn left_out(answer: &[u8], told: &Told, world: &World) {
    assert!(told.spans_own);
    let Ok(answer) = WatchResponse::decode(answer) else {
        return;
    };
    let is_own = |kv: &KeyValue| world.state.contains(&kv.key);
    assert!(!answer.events.is_empty());
    assert!(answer.events.iter().all(|event| event.kv.as_ref().is_some_and(is_own)));
    assert!(!answer.created && !answer.canceled && answer.compact_revision == 0);
    assert!(answer.fragment || !told.waiting.contains(&answer.watch_id));
}

fn lease(mut source: Source<'_>, world: &World) {
    let answer = message(&mut source, |source| LeaseTimeToLiveResponse {
        keys: (0..source.below(5)).map(|_| generate::key(source)).collect(),
        ttl: source.number(),
        ..LeaseTimeToLiveResponse::default()
    });
    let Ok(opened) = lease_time_to_live_response(answer.clone(), &world.state) else {
        return;
    };
    let opened = sent::drain(opened, 64);
    let Ok(mut expected) = LeaseTimeToLiveResponse::decode(answer) else {
        return;
    };
    expected.keys.retain(|key| !world.state.contains(key));
    let opened = LeaseTimeToLiveResponse::decode(opened).expect("a message stays one");
    assert_eq!(opened, expected);
}

/// What etcd would read or write of its own accord was let through.
fn check_name(name: &[u8], world: &World) {
    let below = [name, b"/"].concat();
    for key in KEYS
        .iter()
        .map(|key| key.to_vec())
        .chain([below.clone(), [&below[..], b"x"].concat()])
    {
        if key.starts_with(&below) {
            check_key(&key, world);
        }
    }
}

fn check_key(key: &[u8], world: &World) {
    assert!(!world.state.contains(key), "a record of the proxy's own can be reached");
    assert!(world.keyring.chain(key).is_none(), "a sealed value can be reached");
}

fn lock(mut source: Source<'_>, world: &World) {
    let ctx = world.ctx(OnUndecryptable::Fail);
    let key = generate::key(&mut source);
    let raw = source.flag();
    if source.flag() {
        let asked = LockRequest { name: key, lease: 1 };
        let asked = if raw {
            source.block().to_vec()
        } else {
            asked.encode_to_vec()
        };
        if lock_request(LockRpc::Lock, &asked, &ctx).is_ok()
            && let Ok(asked) = LockRequest::decode(&*asked)
        {
            check_name(&asked.name, world);
        }
    } else {
        let asked = UnlockRequest { key };
        let asked = if raw {
            source.block().to_vec()
        } else {
            asked.encode_to_vec()
        };
        if lock_request(LockRpc::Unlock, &asked, &ctx).is_ok()
            && let Ok(asked) = UnlockRequest::decode(&*asked)
        {
            check_key(&asked.key, world);
        }
    }
}

fn election(mut source: Source<'_>, world: &World) {
    let ctx = world.ctx(OnUndecryptable::Fail);
    let rpc = *source.pick(&[
        ElectionRpc::Campaign,
        ElectionRpc::Proclaim,
        ElectionRpc::Leader,
        ElectionRpc::Observe,
        ElectionRpc::Resign,
    ]);
    let (name, key) = (generate::key(&mut source), generate::key(&mut source));
    let leader = || {
        Some(LeaderKey {
            name: name.clone(),
            key: key.clone(),
            ..LeaderKey::default()
        })
    };
    let is_made = source.flag();
    let asked = if is_made {
        match rpc {
            ElectionRpc::Campaign => CampaignRequest {
                name,
                ..CampaignRequest::default()
            }
            .encode_to_vec(),
            ElectionRpc::Proclaim => ProclaimRequest {
                leader: leader(),
                value: name,
            }
            .encode_to_vec(),
            ElectionRpc::Leader | ElectionRpc::Observe => LeaderRequest { name }.encode_to_vec(),
            ElectionRpc::Resign => ResignRequest { leader: leader() }.encode_to_vec(),
        }
    } else {
        source.block().to_vec()
    };
    if let Err(refusal) = election_request(rpc, &asked, &ctx) {
        assert!(
            !is_made || !matches!(refusal, Refusal::Malformed(_)),
            "a sound message was refused"
        );
        return;
    }
    let leader = match rpc {
        ElectionRpc::Campaign => {
            return CampaignRequest::decode(&*asked).map_or((), |asked| check_name(&asked.name, world));
        }
        ElectionRpc::Leader | ElectionRpc::Observe => {
            return LeaderRequest::decode(&*asked).map_or((), |asked| check_name(&asked.name, world));
        }
        ElectionRpc::Proclaim => ProclaimRequest::decode(&*asked).ok().and_then(|asked| asked.leader),
        ElectionRpc::Resign => ResignRequest::decode(&*asked).ok().and_then(|asked| asked.leader),
    };
    if let Some(leader) = leader {
        check_name(&leader.name, world);
        check_key(&leader.key, world);
    }
}

/// Every kind in every world, from choices; and watches as bytes.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, world) in (0u8..4).zip(World::all()) {
        for kind in 0..5u8 {
            for salt in 0..6u8 {
                let mut seed = vec![index, salt, kind];
                seed.extend((0..200u8).map(|at| at.wrapping_mul(salt * 2 + 43).wrapping_add(salt * 5 + 1)));
                seeds.push(seed);
            }
        }
        let choices: Vec<u8> = (0..200u8).map(|at| at.wrapping_mul(91).wrapping_add(7)).collect();
        let mut source = Source::new(&choices);
        // A watch of everything.
        let asked = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: vec![0],
                range_end: vec![0],
                ..WatchCreateRequest::default()
            })),
        };
        let asked = input(&[index, 0, 1, 1, 0], &[&asked.encode_to_vec()]);
        // Fragments, some of them of the proxy's own records alone; as many as an end needs.
        for series in [0b1111_u8, 0b0100, 0b0010, 0b1010] {
            let mut seed = asked.clone();
            for at in 0..4 {
                let answer = WatchResponse {
                    fragment: at < 2,
                    events: vec![Event {
                        kv: Some(KeyValue {
                            key: if series >> at & 1 == 1 {
                                world.state.as_bytes().to_vec()
                            } else {
                                KEYS[3].to_vec()
                            },
                            ..generate::stored(&mut source, world)
                        }),
                        ..Event::default()
                    }],
                    ..WatchResponse::default()
                };
                seed.extend(input(&[0], &[&answer.encode_to_vec()]));
            }
            seeds.push(seed);
        }
        let mut seed = asked;
        for _ in 0..3 {
            let answer = generate::watch_response(&mut source, world).encode_to_vec();
            seed.extend(input(&[0], &[&answer]));
        }
        seeds.push(seed);
    }
    seeds
}
