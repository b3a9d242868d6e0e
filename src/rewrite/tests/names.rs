//! Locks and elections stay clear of encrypted prefixes and of the proxy's own records.

use super::world::World;
use crate::{
    rewrite::{ElectionRpc, LockRpc, Refusal, election_request, lock_request},
    wire::put_bytes,
};

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, bytes);
    out
}

#[test]
fn names_are_judged_by_all_that_lies_below_them() {
    let world = World::new();
    let requests = |name: &[u8]| {
        let ctx = world.ctx();
        let leader = field(1, &[field(1, name), field(2, b"elsewhere")].concat());
        [
            lock_request(LockRpc::Lock, &field(1, name), &ctx),
            election_request(ElectionRpc::Campaign, &field(1, name), &ctx),
            election_request(ElectionRpc::Leader, &field(1, name), &ctx),
            election_request(ElectionRpc::Observe, &field(1, name), &ctx),
            election_request(ElectionRpc::Proclaim, &leader, &ctx),
            election_request(ElectionRpc::Resign, &leader, &ctx),
        ]
    };
    for name in ["my-lock", "/locks/a", "/registry/pods/x", "/registry/secretsx", ""] {
        // The empty name is the prefix "/", which holds everything.
        let fine = !name.is_empty();
        assert!(
            requests(name.as_bytes()).iter().all(|result| result.is_ok() == fine),
            "{name}"
        );
    }
    for name in ["/registry", "/registry/secrets", "/registry/secrets/ns/a"] {
        let refused = |result: &Result<(), Refusal>| matches!(result, Err(Refusal::EncryptedName { .. }));
        assert!(requests(name.as_bytes()).iter().all(refused), "{name}");
    }
    for name in ["/etcd-encryption-proxy", "/etcd-encryption-proxy/sweep"] {
        let refused = |result: &Result<(), Refusal>| *result == Err(Refusal::StatePrefix);
        assert!(requests(name.as_bytes()).iter().all(refused), "{name}");
    }
}

#[test]
fn a_key_that_is_told_outright_is_judged_by_itself() {
    let world = World::new();
    let ctx = world.ctx();
    let leader = |key: &[u8]| field(1, &[field(1, b"elsewhere"), field(2, key)].concat());
    for (key, fine) in [
        ("a/1", true),
        ("/registry/secrets/ns/a", false),
        ("/etcd-encryption-proxy/x", false),
    ] {
        assert_eq!(
            lock_request(LockRpc::Unlock, &field(1, key.as_bytes()), &ctx).is_ok(),
            fine
        );
        for rpc in [ElectionRpc::Proclaim, ElectionRpc::Resign] {
            assert_eq!(election_request(rpc, &leader(key.as_bytes()), &ctx).is_ok(), fine);
        }
    }
}

#[test]
fn a_second_name_or_leader_is_refused() {
    let world = World::new();
    let ctx = world.ctx();
    let twice = [field(1, b"a"), field(1, b"/registry/secrets")].concat();
    assert!(lock_request(LockRpc::Lock, &twice, &ctx).is_err());
    assert!(lock_request(LockRpc::Unlock, &twice, &ctx).is_err());
    assert!(election_request(ElectionRpc::Campaign, &twice, &ctx).is_err());
    let twice = [field(1, &field(2, b"a")), field(1, &field(2, b"/registry/secrets/a/b"))].concat();
    assert!(election_request(ElectionRpc::Proclaim, &twice, &ctx).is_err());
}
