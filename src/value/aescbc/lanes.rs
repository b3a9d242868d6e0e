//! CBC chains of several values, encrypted side by side. A block waits for the one before it in its own chain only, and a
//! processor's AES units take several blocks at once: eight chains cost little more than one. Makes no IV and no padding.

use cbc::cipher::consts::U16;
use cbc::cipher::{Array, Block, BlockCipherEncrypt};

use super::BLOCK;

/// How many chains are under way at once: what the AES units can have in their pipelines.
const LANES: usize = 8;

/// One chain, and how far it is.
struct Lane<'a, C: BlockCipherEncrypt> {
    previous: Block<C>,
    rest: &'a mut [Block<C>],
}

/// Encrypts each body in place, which is an IV and whole blocks of text behind it.
pub(super) fn encrypt<C: BlockCipherEncrypt<BlockSize = U16>>(aes: &C, bodies: Vec<&mut [u8]>) {
    let mut waiting = bodies.into_iter().filter_map(|body| {
        let (iv, text) = body.split_first_chunk_mut::<BLOCK>()?;
        let (rest, _) = Array::slice_as_chunks_mut(text);
        (!rest.is_empty()).then(|| Lane::<C> {
            previous: (*iv).into(),
            rest,
        })
    });
    let mut lanes: Vec<Lane<'_, C>> = waiting.by_ref().take(LANES).collect();
    let mut blocks: [Block<C>; LANES] = Default::default();
    while let Some(steps) = lanes.iter().map(|lane| lane.rest.len()).min() {
        // No lane ends before that, so nothing has to be asked in between.
        for step in 0..steps {
            for (lane, block) in lanes.iter_mut().zip(&mut blocks) {
                if let Some(text) = lane.rest.get(step) {
                    block
                        .iter_mut()
                        .zip(text.iter().zip(&lane.previous))
                        .for_each(|(block, (text, previous))| {
                            *block = text ^ previous;
                        });
                }
            }
            let (in_use, _) = blocks.split_at_mut(lanes.len());
            aes.encrypt_blocks(in_use);
            for (lane, block) in lanes.iter_mut().zip(&blocks) {
                lane.previous = *block;
                if let Some(text) = lane.rest.get_mut(step) {
                    *text = *block;
                }
            }
        }
        for lane in &mut lanes {
            let (_, rest) = std::mem::take(&mut lane.rest).split_at_mut(steps);
            lane.rest = rest;
        }
        lanes.retain(|lane| !lane.rest.is_empty());
        lanes.extend(waiting.by_ref().take(LANES - lanes.len()));
    }
}
