//! Find the parts of a slab without a contents table.
//!
//! A part is taken if its head is whole and says that it is of this shard, this generation and this very
//! place, and its payload's checksum is right. Where there is none, the search goes on at the next
//! place that a part can start at: after padding, after damage, after a write that never came.
//!
//! Every part says up to where all of the slab was on the device when it was put there. What is missing in
//! there was lost since; what is missing elsewhere may never have been written.

use std::collections::BTreeMap;

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::part::{PART_MAGIC, PartHeadError, PartPlace, decode_part_head};

use super::layout::{ContentsEntry, PART_ALIGN, SLAB_DATA_START, align_block, align_part};

/// The search through one slab; bytes are fed to it in order, from [`SLAB_DATA_START`] on.
pub(super) struct Scanner {
    shard_id: u128,
    generation: u64,
    /// Bytes that are not decided yet, from `position` of the slab on.
    window: Vec<u8>,
    position: u32,
    /// Every piece could be read.
    pub(super) all_read: bool,
    /// What was found.
    pub(super) entries: Vec<ContentsEntry>,
    /// Those whose head is whole, and whose payload is not what it says: torn, or damaged.
    pub(super) rejected: Vec<ContentsEntry>,
    /// What was settled when parts that were found were put there: from, through.
    settled: BTreeMap<u32, u32>,
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
            all_read: true,
            entries: Vec::new(),
            rejected: Vec::new(),
            settled: BTreeMap::new(),
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

    /// Passes over the next `len` bytes of the slab, which cannot be read; `last` if there are no more.
    pub(super) fn feed_unreadable(&mut self, len: usize, last: bool) {
        self.all_read = false;
        self.feed(&vec![0; len], last);
    }

    /// Judges what was found by what it says of what was there before: takes the parts whose payload is
    /// damaged, which stay what the shard holds; says whether others are missing, whose names are lost.
    /// What was not settled may have been under way, and is taken as never written.
    pub(super) fn judge(&mut self) -> bool {
        let settled = |entry: &ContentsEntry| {
            self.settled.iter().any(|(&from, &to)| (from..to).contains(&entry.offset))
        };
        let damaged = self.rejected.iter().copied().filter(settled);
        self.entries.extend(damaged);
        self.rejected.retain(|entry| !settled(entry));
        self.entries.sort_unstable_by_key(|entry| entry.offset);
        self.settled.iter().any(|(&from, &through)| !self.covers(from, through))
    }

    /// Whether the parts lie from `from` to `through` as batches put them there: each right behind the one
    /// before, or in the next block.
    fn covers(&self, from: u32, through: u32) -> bool {
        let mut end = from;
        for entry in self.entries.iter().filter(|entry| (from..through).contains(&entry.offset)) {
            if entry.offset != align_part(end) && entry.offset != align_block(end) {
                return false;
            }
            end = entry.offset + entry.len();
        }
        align_block(end) == through
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
            ..PartPlace::default()
        };
        if !head.place.is_at(&place) {
            return Step::Nothing;
        }
        let through = self.settled.entry(head.place.settled_from).or_default();
        *through = head.place.settled_through.max(*through);
        match bytes.get(head.head_len..head.head_len + head.payload_len as usize) {
            None => Step::Undecided,
            Some(payload) if crc32c(payload) == head.payload_checksum => Step::Part(ContentsEntry::of(&head)),
            Some(_) => {
                self.rejected.push(ContentsEntry::of(&head));
                Step::Nothing
            }
        }
    }
}
