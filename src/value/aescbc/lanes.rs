//! CBC chains of several values, encrypted side by side. A block waits for the one before it in its own chain only, and a
//! processor's AES units take several blocks at once: eight chains cost little more than one. Makes no IV and no padding.

use std::slice::IterMut;

use cbc::cipher::common::BlockSizeUser;
use cbc::cipher::consts::U16;
use cbc::cipher::{Array, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt};

use super::BLOCK;

/// How many chains are under way at once: what the AES units can have in their pipelines.
const LANES: usize = 8;

type Block = Array<u8, U16>;

/// Encrypts each body in place, which is an IV and whole blocks of text behind it.
pub(super) fn encrypt<C: BlockCipherEncrypt<BlockSize = U16>>(aes: &C, bodies: Vec<&mut [u8]>) {
    aes.encrypt_with_backend(Chains(bodies));
}

/// All chains, for the implementation of AES that this processor has. It is called once: to choose it and to get at its round
/// keys for every eight blocks takes longer than to encrypt them.
struct Chains<'a>(Vec<&'a mut [u8]>);

/// One chain, and how far it is.
struct Lane<'a> {
    previous: Block,
    rest: IterMut<'a, Block>,
}

impl BlockSizeUser for Chains<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chains<'_> {
    // Elsewhere than in its caller, which is compiled for this processor's instructions, none of them could be used.
    #[expect(clippy::inline_always, reason = "it is several times as fast")]
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut waiting = self.0.into_iter().filter_map(|body| {
            let (iv, text) = body.split_first_chunk_mut::<BLOCK>()?;
            let (blocks, _) = Array::slice_as_chunks_mut(text);
            Some(Lane {
                previous: (*iv).into(),
                rest: blocks.iter_mut(),
            })
        });
        let mut lanes: Vec<Lane<'_>> = waiting.by_ref().take(LANES).collect();
        while !lanes.is_empty() {
            // No lane ends before that, so nothing has to be asked in between.
            let steps = lanes.iter().map(|lane| lane.rest.len()).min().unwrap_or_default();
            for _ in 0..steps {
                for lane in &mut lanes {
                    if let Some(text) = lane.rest.next() {
                        // Not in place: a block that is in no register yet could not be read back at once.
                        let mut block = *text;
                        block
                            .iter_mut()
                            .zip(&lane.previous)
                            .for_each(|(text, previous)| *text ^= previous);
                        backend.encrypt_block_inplace(&mut block);
                        lane.previous = block;
                        *text = block;
                    }
                }
            }
            lanes.retain(|lane| lane.rest.len() > 0);
            lanes.extend(waiting.by_ref().take(LANES - lanes.len()));
        }
    }
}
