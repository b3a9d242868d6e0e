//! An input as a series of choices: a fuzzer that mutates bytes then mutates choices.

/// Choices, taken from the front of an input. What lies beyond its end is zeros, so every input is a whole series.
pub(super) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether all choices from here on are zeros.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// True for one byte only of 256.
    pub(super) fn rarely(&mut self) -> bool {
        self.byte() == 0xa5
    }

    /// One of 0 to `choices` - 1.
    pub(super) fn below(&mut self, choices: usize) -> usize {
        usize::from(self.byte()) % choices
    }

    pub(super) fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// Mostly small; otherwise one of those at which something changes.
    pub(super) fn number(&mut self) -> i64 {
        match self.byte() {
            byte @ 0..0xf0 => i64::from(byte % 16),
            0xf0 => i64::MAX,
            0xf1 => i64::MIN,
            0xf2 => i64::from(u32::MAX),
            0xf3..0xf8 => -1,
            _ => i64::from(self.byte()) << 8 | i64::from(self.byte()),
        }
    }

    /// At most `most` bytes, which are no more than 255.
    pub(super) fn bytes(&mut self, most: u8) -> &'a [u8] {
        let len = usize::from(self.byte()) % (usize::from(most) + 1);
        self.take(len)
    }

    /// Bytes behind their own number, for parts of any length.
    pub(super) fn block(&mut self) -> &'a [u8] {
        let len = u16::from_le_bytes([self.byte(), self.byte()]);
        self.take(len.into())
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// An input that begins with these choices and has these blocks.
pub(super) fn input(choices: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
    let mut input = choices.to_vec();
    for block in blocks {
        let len = u16::try_from(block.len()).expect("seeds are short");
        input.extend_from_slice(&len.to_le_bytes());
        input.extend_from_slice(block);
    }
    input
}
