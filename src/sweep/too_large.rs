//! Why a value that etcd holds cannot be stored there again: under another key's name, and in a transaction, its request is
//! longer than etcd takes. Only arithmetic.

use crate::etcd::{Guard, KeyValue, replace_len};

/// `--max-request-bytes` of etcd, unless it is set.
const DEFAULT_LIMIT: usize = 1_572_864;

/// What etcd's own record of a request adds before it is measured: its header with an ID, and the request's tag and length.
const ENVELOPE: usize = 16;

/// That the request in which `value` would take the place of what `kv` holds is too long, by how much, and what can be done.
pub(super) fn too_large(kv: &KeyValue, value: &[u8], fence: Guard<'_>) -> String {
    let bytes = replace_len(&kv.key, kv.mod_revision, value, kv.lease, fence) + ENVELOPE;
    let over = match bytes.checked_sub(DEFAULT_LIMIT) {
        Some(over) if over > 0 => format!(", {over} over etcd's default"),
        _ => String::new(),
    };
    format!(
        "it would exceed etcd's request limit when stored anew: {bytes} bytes{over}. Raise --max-request-bytes of etcd, or have it \
         stored smaller or deleted"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_by_how_much() {
        let kv = |value: usize| KeyValue {
            key: b"/registry/secrets/default/abcd".as_slice().into(),
            value: vec![0; value].into(),
            create_revision: 1,
            mod_revision: 1_000,
            lease: 0,
        };
        let why = too_large(&kv(1), &vec![0; DEFAULT_LIMIT], Guard::mod_revision(b"epoch", 0));
        let over = why.split(" bytes, ").nth(1).and_then(|rest| rest.split(' ').next());
        let over: usize = over.and_then(|over| over.parse().ok()).expect(&why);
        // The key three times, and the tags and lengths of the messages around it.
        assert!((30 * 3..300).contains(&over), "{why}");
        // A limit that somebody has lowered.
        let why = too_large(&kv(1), b"short", Guard::mod_revision(b"epoch", 0));
        assert!(!why.contains("over etcd's default"), "{why}");
    }
}
