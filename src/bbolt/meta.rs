//! The two pages that say where everything else is.

use super::Flaw;

/// Where the meta begins in its page, behind the page's header.
const AT: usize = 16;
/// How much of a page's beginning holds all of it.
pub(super) const LEN: usize = AT + 64;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// Sizes of pages that are read. bbolt takes the operating system's: 4 KiB on most, up to 64 KiB.
pub(super) const PAGE_SIZES: [u32; 7] = [1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16];

/// A valid meta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Bytes of a page.
    pub(super) page_size: u32,
    /// Where the root bucket begins.
    pub(super) root: u64,
    /// Numbers of pages are below this.
    pub(super) pages: u64,
    /// The transaction that wrote it.
    pub(super) transaction: u64,
}

impl Meta {
    /// Reads the beginning of a page.
    pub(super) fn parse(page: &[u8; LEN]) -> Result<Self, Flaw> {
        let (_, mut rest) = page.split_at(AT);
        let magic = u32(&mut rest);
        if magic == MAGIC.swap_bytes() {
            return Err(Flaw::BigEndian);
        }
        if magic != MAGIC {
            return Err(Flaw::Magic);
        }
        let version = u32(&mut rest);
        let page_size = u32(&mut rest);
        let _flags = u32(&mut rest);
        let root = u64(&mut rest);
        let _sequence = u64(&mut rest);
        let _freelist = u64(&mut rest);
        let pages = u64(&mut rest);
        let transaction = u64(&mut rest);
        if version != VERSION {
            return Err(Flaw::Version(version));
        }
        let summed = page.get(AT..LEN - 8).unwrap_or_default();
        if u64(&mut rest) != fnv1a(summed) {
            return Err(Flaw::Checksum);
        }
        if !PAGE_SIZES.contains(&page_size) {
            return Err(Flaw::PageSize(page_size));
        }
        Ok(Self {
            page_size,
            root,
            pages,
            transaction,
        })
    }
}

/// FNV-1a, 64 bits.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes
        .iter()
        .fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// The next number; 0 where there are not enough bytes, which whoever calls this has made sure of.
pub(super) fn u16(bytes: &mut &[u8]) -> u16 {
    u16::from_le_bytes(take(bytes))
}

/// See the one before.
pub(super) fn u32(bytes: &mut &[u8]) -> u32 {
    u32::from_le_bytes(take(bytes))
}

/// See the one before.
pub(super) fn u64(bytes: &mut &[u8]) -> u64 {
    u64::from_le_bytes(take(bytes))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    match bytes.split_first_chunk() {
        Some((taken, rest)) => {
            *bytes = rest;
            *taken
        }
        None => [0; N],
    }
}
