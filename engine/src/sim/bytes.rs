//! Bodies that say which write they are of: every eight bytes follow from the key, the write and their place.

use std::ops::Range;
use std::rc::Rc;

use crate::slab::Payload;

/// The body of write `op` of `key`.
pub fn body(key: u16, op: u32, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    for word in 0..len.div_ceil(8) as u64 {
        bytes.extend_from_slice(&word_of(key, op, word).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Whether `bytes` stand at `offset` in the body of write `op` of `key`.
pub fn matches(key: u16, op: u32, offset: usize, bytes: &[u8]) -> bool {
    let lead = ((8 - offset % 8) % 8).min(bytes.len());
    let (first, rest) = bytes.split_at(lead);
    let word = |word: usize| word_of(key, op, word as u64).to_le_bytes();
    let aligned = (offset + lead) / 8;
    let starts_right = first.is_empty() || word(offset / 8)[offset % 8..][..lead] == *first;
    starts_right && rest.chunks(8).enumerate().all(|(at, chunk)| word(aligned + at)[..chunk.len()] == *chunk)
}

/// The step of SplitMix64 over key, write and place.
fn word_of(key: u16, op: u32, word: u64) -> u64 {
    let seed = u64::from(key) << 48 ^ u64::from(op) << 16 ^ word;
    let value = seed.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Bytes that are held where they came from: a device buffer, a frame, a body.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    buffer: Rc<[u8]>,
    range: Range<usize>,
}

impl Slice {
    /// `range` of `buffer`.
    pub(crate) fn new(buffer: Rc<[u8]>, range: Range<usize>) -> Slice {
        Slice { buffer, range }
    }

    /// The payload of a part that was read.
    pub(crate) fn of_payload(payload: &Payload<Rc<[u8]>>) -> Slice {
        Slice::new(payload.buffer().clone(), payload.range())
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_of_a_body_is_known_and_another_is_not() {
        let whole = body(3, 77, 100);
        for start in 0..whole.len() {
            for end in start..=whole.len() {
                let piece = &whole[start..end];
                assert!(matches(3, 77, start, piece), "{start}..{end}");
                if piece.len() >= 8 {
                    assert!(!matches(3, 78, start, piece) && !matches(4, 77, start, piece), "{start}..{end}");
                    assert!(!matches(3, 77, start + 1, piece), "{start}..{end}");
                }
            }
        }
    }
}
