//! What a file is that is no snapshot of etcd's, by its first bytes: what operators have beside their snapshots is named, with what
//! to do with it.

/// As much of a file as tells what it is.
pub(super) const ENOUGH: usize = 512;

/// What a file is, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) what: &'static str,
    pub(super) way_on: &'static str,
}

const UNPACK: &str = "unpack it, and inspect what is in it";
const SQLITE_WAY: &str = "start what keeps its store in it (k3s, kine) and give its etcd endpoint to `sweep --dry-run --etcd-servers=URL`, \
                          which counts the same by what that serves";

/// Tells it by the beginning of a file of `length` bytes; `None` where it may be a snapshot.
pub(super) fn kind(start: &[u8], length: u64) -> Option<Kind> {
    let packed = |what| Kind { what, way_on: UNPACK };
    let known: [(&[u8], Kind); 9] = [
        (b"\x1f\x8b", packed("compressed by gzip")),
        (
            b"PK\x03\x04",
            packed("a zip archive (k3s compresses its snapshots into such)"),
        ),
        (b"\x28\xb5\x2f\xfd", packed("compressed by zstd")),
        (b"\xfd7zXZ\0", packed("compressed by xz")),
        (b"BZh", packed("compressed by bzip2")),
        (b"\x04\x22\x4d\x18", packed("compressed by lz4")),
        (
            b"SQLite format 3\0",
            Kind {
                what: "a SQLite database, as k3s and kine keep their store in",
                way_on: SQLITE_WAY,
            },
        ),
        (b"\x37\x7f\x06\x82", SQLITE_LOG),
        (b"\x37\x7f\x06\x83", SQLITE_LOG),
    ];
    if let Some((_, kind)) = known.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(*kind);
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(packed("a tar archive"));
    }
    if is_wal(start) {
        return Some(Kind {
            what: "a write-ahead log of etcd (member/wal/*.wal), which holds requests and not the store",
            way_on: "inspect the database beside it, a copy of member/snap/db, or what `etcdctl snapshot save` writes",
        });
    }
    is_raft_snapshot(start, length).then_some(Kind {
        what: "a snapshot of etcd's raft state (member/snap/*.snap), which holds members and not the store",
        way_on: "inspect the file called db beside it, or what `etcdctl snapshot save` writes",
    })
}

const SQLITE_LOG: Kind = Kind {
    what: "a write-ahead log of SQLite",
    way_on: SQLITE_WAY,
};

/// A length of eight bytes, the last of which is for padding, and a record of type 4, a checksum, with which each such file begins.
/// Source: etcd's public `server/storage/wal`.
fn is_wal(start: &[u8]) -> bool {
    let short = matches!(start.first(), Some(1..=32)) && start.get(1..7) == Some(&[0; 6]);
    let padding = start.get(7).is_some_and(|byte| byte & 0x7f < 8);
    short && padding && start.get(8..11) == Some(&[0x08, 0x04, 0x10])
}

/// A checksum, and bytes that reach to the end of the file. Source: etcd's public `snap/snappb/snap.proto`.
fn is_raft_snapshot(start: &[u8], length: u64) -> bool {
    let number = |at: usize| -> Option<(u64, usize)> {
        let mut value = 0u64;
        for (index, byte) in start.get(at..)?.iter().take(5).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Some((value, at + index + 1));
            }
        }
        None
    };
    let end = || -> Option<u64> {
        let (_, at) = (start.first() == Some(&0x08)).then(|| number(1)).flatten()?;
        let (bytes, behind) = (start.get(at) == Some(&0x12)).then(|| number(at + 1)).flatten()?;
        bytes.checked_add(u64::try_from(behind).ok()?)
    };
    length > 0 && end() == Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_by_how_it_begins() {
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (start, what) in [
            (&b"\x1f\x8b\x08"[..], "gzip"),
            (b"PK\x03\x04..", "zip"),
            (b"SQLite format 3\0\x10\0", "SQLite"),
            (b"\x37\x7f\x06\x82", "log of SQLite"),
            (&tar, "tar"),
            (b"\x04\0\0\0\0\0\0\x84\x08\x04\x10\0\0\0\0\0", "member/wal"),
            (b"\x08\x07\x12\x03abc", "member/snap"),
        ] {
            let kind = kind(start, start.len() as u64).expect(what);
            assert!(
                kind.what.contains(what) || kind.way_on.contains(what),
                "{what}: {kind:?}"
            );
        }
        // A page of bbolt: its number, flags, count; and nothing at all.
        for start in [
            &[0; 32][..],
            &[0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0],
            b"",
            b"\x08\x07\x12\x03ab",
        ] {
            assert_eq!(kind(start, start.len() as u64), None, "{start:?}");
        }
    }
}
