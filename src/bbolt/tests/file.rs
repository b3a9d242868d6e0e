//! Writes databases as bbolt does, for tests and the fuzzer, which has this file as a module too: it needs nothing but std.
#![allow(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "public for the fuzzer; small numbers, and a panic fails a test"
)]

/// Keys and values, in the order of keys.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// How a database is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a page.
    pub page_size: u32,
    /// Entries of a leaf, and children of a branch, at most; at least 2.
    pub fan_out: usize,
    /// Whether buckets lie within the root bucket's leaf.
    pub inline: bool,
}

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Pages before the first one that a tree has: two metas and a free list.
pub const FIRST: usize = 3;

/// A database with these buckets, their names in order.
pub fn database(shape: Shape, buckets: &[(&[u8], Pairs)]) -> Vec<u8> {
    let mut writer = Writer {
        shape,
        pages: Vec::new(),
    };
    let entries: Pairs = buckets
        .iter()
        .map(|(name, pairs)| {
            let root = if shape.inline { 0 } else { writer.tree(pairs) };
            let mut value = [root.to_le_bytes(), [0; 8]].concat();
            if shape.inline {
                value.extend(page(0, LEAF, 0, &leaf(pairs, 0), pairs.len()));
            }
            (name.to_vec(), value)
        })
        .collect();
    let root = writer.push(LEAF, &leaf(&entries, 1), entries.len());
    with_metas(shape.page_size, root, &writer.pages)
}

/// `pages`, the first of them number [`FIRST`], behind valid metas.
pub fn with_metas(page_size: u32, root: u64, pages: &[u8]) -> Vec<u8> {
    let size = page_size as usize;
    let count = FIRST + pages.len().div_ceil(size);
    let mut out = Vec::new();
    for transaction in 0..2u64 {
        let mut meta = Vec::new();
        for number in [0xED0C_DAED, 2, page_size, 0] {
            meta.extend(number.to_le_bytes());
        }
        for number in [root, 0, 2, count as u64, transaction] {
            meta.extend(number.to_le_bytes());
        }
        let sum = meta.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        meta.extend(sum.to_le_bytes());
        out.extend(page(transaction, 4, 0, &meta, 0));
        out.resize((transaction as usize + 1) * size, 0);
    }
    out.extend(page(2, 0x10, 0, &[], 0));
    out.resize(FIRST * size, 0);
    out.extend(pages);
    out.resize(count * size, 0);
    out
}

struct Writer {
    shape: Shape,
    pages: Vec<u8>,
}

impl Writer {
    fn push(&mut self, kind: u16, body: &[u8], count: usize) -> u64 {
        let size = self.shape.page_size as usize;
        let number = (FIRST + self.pages.len() / size) as u64;
        let overflow = (16 + body.len()).div_ceil(size) - 1;
        self.pages.extend(page(number, kind, overflow as u32, body, count));
        self.pages.resize(self.pages.len().div_ceil(size) * size, 0);
        number
    }

    fn tree(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) -> u64 {
        if pairs.is_empty() {
            return self.push(LEAF, &[], 0);
        }
        let fan_out = self.shape.fan_out;
        let mut level: Vec<(Vec<u8>, u64)> = pairs
            .chunks(fan_out)
            .map(|chunk| (chunk[0].0.clone(), self.push(LEAF, &leaf(chunk, 0), chunk.len())))
            .collect();
        while level.len() > 1 {
            level = level
                .chunks(fan_out)
                .map(|chunk| (chunk[0].0.clone(), self.push(BRANCH, &branch(chunk), chunk.len())))
                .collect();
        }
        level[0].1
    }
}

fn page(number: u64, kind: u16, overflow: u32, body: &[u8], count: usize) -> Vec<u8> {
    let mut out = number.to_le_bytes().to_vec();
    out.extend(kind.to_le_bytes());
    out.extend((count as u16).to_le_bytes());
    out.extend(overflow.to_le_bytes());
    out.extend(body);
    out
}

fn leaf(pairs: &[(Vec<u8>, Vec<u8>)], flags: u32) -> Vec<u8> {
    let (mut heads, mut data) = (Vec::new(), Vec::new());
    for (index, (key, value)) in pairs.iter().enumerate() {
        let place = (pairs.len() - index) * 16 + data.len();
        for number in [flags, place as u32, key.len() as u32, value.len() as u32] {
            heads.extend(number.to_le_bytes());
        }
        data.extend([&key[..], value].concat());
    }
    [heads, data].concat()
}

fn branch(children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let (mut heads, mut data) = (Vec::new(), Vec::new());
    for (index, (key, number)) in children.iter().enumerate() {
        let place = (children.len() - index) * 16 + data.len();
        for number in [place as u32, key.len() as u32] {
            heads.extend(number.to_le_bytes());
        }
        heads.extend(number.to_le_bytes());
        data.extend(key);
    }
    [heads, data].concat()
}
