//! What must hold of an answer that was opened, by what prost makes of it before and after.

use etcd_encryption_proxy::{
    rewrite::{Context, OnUndecryptable, OpenFailure, OpenJob, Progress},
    value::is_sealed,
};

use super::{
    pb::mvccpb::{Event, KeyValue},
    sent::drain,
    world::World,
};

/// How a long answer is dealt with.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// Bytes opened in a step.
    pub(super) budget: usize,
    /// Longest chunk handed out.
    pub(super) chunk: usize,
}

/// The whole of what the client gets.
pub(super) fn run(mut job: OpenJob, ctx: &Context<'_>, pace: Pace) -> Result<Vec<u8>, OpenFailure> {
    loop {
        match job.step(ctx, pace.budget)? {
            Progress::More(rest) => job = rest,
            Progress::Waiting(_) => unreachable!("no KMS"),
            Progress::Done(opened) => return Ok(drain(opened.message, pace.chunk).to_vec()),
        }
    }
}

/// A call that has to fail over one of its values.
pub(super) struct Fails;

/// How stored values become those that a client gets.
#[derive(Clone, Copy)]
pub(super) struct Opening<'w> {
    pub(super) world: &'w World,
    pub(super) policy: OnUndecryptable,
}

impl Opening<'_> {
    /// With `may_fail`, a value that does not open may fail the call.
    pub(super) fn kv(self, kv: KeyValue, may_fail: bool) -> Result<KeyValue, Fails> {
        let value = match self.world.opened(&kv.key, &kv.value) {
            Ok(value) => value,
            Err(_) if is_sealed(&kv.value) => {
                if may_fail && self.policy == OnUndecryptable::Fail {
                    return Err(Fails);
                }
                kv.value
            }
            Err(_) if may_fail => return Err(Fails),
            Err(_) => Vec::new(),
        };
        Ok(KeyValue { value, ..kv })
    }

    pub(super) fn kvs(self, kvs: Vec<KeyValue>, may_fail: bool) -> Result<Vec<KeyValue>, Fails> {
        kvs.into_iter().map(|kv| self.kv(kv, may_fail)).collect()
    }

    pub(super) fn event(self, event: Event) -> Result<Event, Fails> {
        let is_delete = event.r#type == 1;
        Ok(Event {
            r#type: event.r#type,
            kv: match event.kv {
                Some(kv) if !is_delete => Some(self.kv(kv, true)?),
                kv => kv,
            },
            prev_kv: event.prev_kv.map(|kv| self.kv(kv, false)).transpose()?,
        })
    }
}

/// Compares what the proxy made of an answer with what is `expected`, which is `None` where prost could not read it.
pub(super) fn check<M: prost::Message + Default + PartialEq + std::fmt::Debug>(
    opened: Result<Vec<u8>, OpenFailure>,
    expected: Option<Result<M, Fails>>,
) {
    match (opened, expected) {
        (Ok(opened), Some(Ok(expected))) => {
            let opened = M::decode(&*opened).expect("a message stays one");
            assert_eq!(opened, expected);
        }
        (Ok(_), Some(Err(Fails))) => panic!("a value that does not open was passed on"),
        (Err(OpenFailure::Value { .. }), Some(Ok(_))) => panic!("every value opens, or may be passed on"),
        // The proxy is stricter than prost, and where prost fails there is nothing to compare with.
        (Err(_), _) | (Ok(_), None) => {}
    }
}
