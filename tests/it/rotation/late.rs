//! Writes that reach etcd only after a rotation has ended, sealed under the key that it removed: from the socket of a frozen
//! member, by TCP's retransmission after a partition, out of a relay that kept a connection's bytes.
//!
//! Each case holds the bytes, rotates to the end, delivers them, and waits until every writer has its answer and etcd stands
//! still. `LATE_RUNS` repeats each.

mod burst;
mod way;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use self::burst::{Burst, CREATES, PUTS, VALUE, created, padded, replaced};
use self::way::Way;
use super::SIZE;
use crate::common::client::Client;
use crate::common::pb::etcdserverpb::RangeRequest;
use crate::common::process::PATIENCE;
use crate::common::rotation::{Home, Shared};
use crate::common::sweep::{IDENTITY, K1, document, fill};

const KEYS: usize = 100;

/// Waits until `holds`, and fails the test where that takes too long.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A write that is under way in etcd shows itself, if it does, while this waits: for the secrets' latest revision to be the same
/// twenty times on end.
async fn stands_still(direct: &Client) {
    let (mut last, mut times) = (-1, 0);
    until("an etcd that stands still", async || {
        sleep(Duration::from_millis(30)).await;
        let stored = secrets(direct).await;
        let now = stored.values().map(|(revision, _)| *revision).max().unwrap_or(0);
        times = if now == last { times + 1 } else { 0 };
        last = now;
        times >= 20
    })
    .await;
}

/// Revision and value of each secret, as `client` sees it. On a busy machine etcd may just have no leader.
async fn secrets(client: &Client) -> BTreeMap<String, (i64, Vec<u8>)> {
    let mut found = None;
    until("an answer with every secret", async || {
        let mut kv = client.kv();
        let answer = kv.range(RangeRequest {
            key: b"/registry/secrets/".to_vec(),
            range_end: b"/registry/secrets0".to_vec(),
            ..RangeRequest::default()
        });
        found = match answer.await {
            Ok(answer) => Some(answer.into_inner()),
            Err(status) if status.code() == tonic::Code::Unavailable => None,
            Err(status) => panic!("a range: {status}"),
        };
        found.is_some()
    })
    .await;
    let pairs = found.expect("an answer").kvs.into_iter().map(|kv| {
        let name = String::from_utf8(kv.key).expect("a name");
        (name, (kv.mod_revision, kv.value))
    });
    pairs.collect()
}

/// One run.
async fn late(way: Way, home: Home) {
    let direct = way.direct().await;
    fill(&direct, KEYS, SIZE).await;
    let shared = Shared::at(home, &way.endpoints(), &document(&[K1, IDENTITY]));
    let near = shared.member("near");
    let mut far = way.start(&shared);
    let (by_near, by_far) = (near.client().await, way.client(&far).await);
    for number in 0..PUTS {
        by_far.put(replaced(number), padded("before", number)).await;
    }

    way.hold(&direct).await;
    let begun = Instant::now();
    way.ripens(&direct).await;
    let burst = Burst::begin(&by_far);
    let all = ((CREATES + PUTS) * VALUE) as u64;
    until("the whole burst in the hands of the network", async || {
        way.held(&mut far) >= all
    })
    .await;
    shared
        .succeed(&["rotate-keys", "--compact"], "keys rotated, reencryption finished")
        .await;
    // Acknowledged after the rotation's end, over values that a late write might still replace.
    let mut after = BTreeMap::new();
    for number in (0..PUTS).step_by(2) {
        let had_ended = burst.has_ended(&replaced(number));
        by_near.put(replaced(number), padded("after", number)).await;
        after.insert(replaced(number), had_ended);
    }
    eprintln!("held for {:.1} s", begun.elapsed().as_secs_f64());
    way.release();
    let acknowledged = burst.end().await;
    way.delivered(&mut far).await;
    stands_still(&direct).await;

    let mut wrong = Vec::new();
    let stored = secrets(&direct).await;
    let keys = shared.keys();
    for (name, (_, value)) in &stored {
        let opens = keys
            .iter()
            .any(|key| value.starts_with(format!("k8s:enc:aescbc:v1:{key}:").as_bytes()));
        if !opens {
            let head: String = value.escape_ascii().to_string().chars().take(60).collect();
            wrong.push(format!("{name}: needs a key that is gone: {head}"));
        }
    }
    for client in [&by_near, &by_far] {
        let read = secrets(client).await;
        let value = |name: &str| read.get(name).map(|(_, value)| value.clone());
        for number in 0..CREATES {
            let name = created(number);
            match value(&name) {
                None if acknowledged.contains(&name) => wrong.push(format!("{name}: acknowledged, and not there")),
                Some(value) if value != padded("late", number) => wrong.push(format!("{name}: is something else")),
                None | Some(_) => {}
            }
        }
        for number in 0..PUTS {
            let name = replaced(number);
            let late = || padded("late", number);
            // Linearizability allows a write without an answer at any later time. The fence does not: what was sealed before
            // the rotation is refused, and nobody is left to send a call again that has ended.
            let allowed = match after.get(&name) {
                Some(true) => vec![padded("after", number)],
                Some(false) => vec![padded("after", number), late()],
                None if acknowledged.contains(&name) => vec![late()],
                None => vec![padded("before", number), late()],
            };
            if !value(&name).is_some_and(|value| allowed.contains(&value)) {
                wrong.push(format!("{name}: does not hold what was acknowledged last"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} after {} acknowledged late writes:\n{}",
        wrong.len(),
        stored.len(),
        acknowledged.len(),
        wrong.join("\n")
    );
    // Whoever was cut off writes again.
    until("a write through the one that was held", async || {
        by_far
            .kv()
            .put(burst::put("/registry/secrets/default/again", b"again"))
            .await
            .is_ok()
    })
    .await;
    let status: Value = shared.status().await;
    assert_eq!(status["stage"], "reencrypt_finished");
}

fn runs() -> usize {
    std::env::var("LATE_RUNS").map_or(1, |runs| runs.parse().expect("a number"))
}

macro_rules! cases {
    ($($name:ident: $way:expr, $home:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for run in 0..runs() {
                eprintln!("run {run}");
                late($way, $home).await;
            }
        }
    )*};
}

cases! {
    a_follower_that_was_frozen_applies_nothing_under_a_key_that_is_gone: Way::frozen().await, Home::File;
    a_follower_that_was_frozen_applies_nothing_under_a_keyring_s_key_that_is_gone: Way::frozen().await, Home::Etcd;
    a_partition_delivers_nothing_under_a_key_that_is_gone: Way::dropped().await, Home::File;
    a_partition_delivers_nothing_under_a_keyring_s_key_that_is_gone: Way::dropped().await, Home::Etcd;
    a_relay_delivers_nothing_under_a_key_that_is_gone: Way::relayed().await, Home::File;
    a_relay_delivers_nothing_under_a_keyring_s_key_that_is_gone: Way::relayed().await, Home::Etcd;
}
