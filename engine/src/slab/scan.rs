//! Find the parts of a slab without a contents table.
//!
//! A part is taken if its head is whole and says that it is of this shard, this generation and this very
//! place, and its payload's checksum is right. Where there is none, the search goes on at the next
//! place that a part can start at: after padding, after damage, after a write that never came.

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::part::{PART_MAGIC, PartHeadError, PartPlace, decode_part_head};

use super::layout::{ContentsEntry, PART_ALIGN, SLAB_DATA_START, align_part};

/// The search through one slab; bytes are fed to it in order, from [`SLAB_DATA_START`] on.
pub(super) struct Scanner {
    shard_id: u128,
    generation: u64,
    /// Bytes that are not decided yet, from `position` of the slab on.
    window: Vec<u8>,
    position: u32,
    /// What was found.
    pub(super) entries: Vec<ContentsEntry>,
    /// Heads of this place whose payload was not what they say: torn, or damaged.
    pub(super) rejected: u64,
}

/// What stands at a place.
enum Step {
    /// A part of so many bytes.
    Part(ContentsEntry),
    /// Nothing.
    Nothing,
    /// More bytes are needed to tell.
    Undecided,
}

impl Scanner {
    pub(super) fn new(shard_id: u128, generation: u64) -> Scanner {
        Scanner {
            shard_id,
            generation,
            window: Vec::new(),
            position: SLAB_DATA_START,
            entries: Vec::new(),
            rejected: 0,
        }
    }

    /// Takes the next bytes of the slab; `last` if there are no more.
    pub(super) fn feed(&mut self, bytes: &[u8], last: bool) {
        self.window.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.window.len() {
            match self.step(at) {
                Step::Part(entry) => {
                    at += align_part(entry.len()) as usize;
                    self.entries.push(entry);
                }
                Step::Undecided if !last => break,
                _ => at += PART_ALIGN as usize,
            }
        }
        let decided = at.min(self.window.len());
        self.window.drain(..decided);
        self.position += decided as u32;
    }

    fn step(&mut self, at: usize) -> Step {
        let bytes = &self.window[at..];
        if !bytes.starts_with(&PART_MAGIC) {
            return Step::Nothing;
        }
        let head = match decode_part_head(bytes) {
            Ok(head) => head,
            Err(PartHeadError::Truncated { .. }) => return Step::Undecided,
            Err(_) => return Step::Nothing,
        };
        let place = PartPlace {
            shard_id: self.shard_id,
            slab_generation: self.generation,
            slab_offset: self.position + at as u32,
        };
        if head.place != place {
            return Step::Nothing;
        }
        match bytes.get(head.head_len..head.head_len + head.payload_len as usize) {
            None => Step::Undecided,
            Some(payload) if crc32c(payload) == head.payload_checksum => Step::Part(ContentsEntry::of(&head)),
            Some(_) => {
                self.rejected += 1;
                Step::Nothing
            }
        }
    }
}
