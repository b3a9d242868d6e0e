//! Leases of the proxy's own records, told by their ID: a client chooses IDs as it likes, and etcd's own begin with bits of
//! a member's ID. So no table of them is needed to keep others from ending one.

/// The upper half of every such ID. etcd's are 63 bits, so the first one is 0.
const MARK: i64 = 0x6565_7001;

/// The ID of a lease of the proxy's own; `random` tells it from others.
pub fn own_lease(random: u32) -> i64 {
    MARK << 32 | i64::from(random)
}

/// Whether `id` is such an ID.
pub fn is_own_lease(id: i64) -> bool {
    id >> 32 == MARK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_leases_are_positive_and_known_by_their_upper_half() {
        for random in [0, 1, u32::MAX] {
            assert!(own_lease(random) > 0);
            assert!(is_own_lease(own_lease(random)));
        }
        for other in [0, 1, -1, i64::MAX, i64::MIN, own_lease(0) - 1, own_lease(u32::MAX) + 1] {
            assert!(!is_own_lease(other), "{other}");
        }
    }
}
