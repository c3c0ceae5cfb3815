//! The parts of a slab that has no contents table: searched for, as a daemon does it after a crash.

use hedgerow_engine::slab::layout::{PART_ALIGN, SLAB_DATA_START};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::limits::PART_HEADER_LEN;
use hedgerow_wire::part::{PART_MAGIC, PartHead, PartPlace, decode_part_head, layout};

/// Something that says that it is a part of this slab and generation.
pub struct Candidate {
    /// Where it begins in the slab, in bytes.
    pub offset: u32,
    /// Its head, if it can be read.
    pub head: Option<PartHead>,
    /// What is wrong with it; nothing if it is a part.
    pub problem: Option<String>,
}

/// Searches `slab`. Parts of other generations of the slab are no candidates.
pub fn scan(slab: &[u8], shard_id: u128, generation: u64) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut at = SLAB_DATA_START as usize;
    while let Some(bytes) = slab.get(at..).filter(|bytes| bytes.len() >= PART_HEADER_LEN) {
        let place = PartPlace {
            shard_id,
            slab_generation: generation,
            slab_offset: at as u32,
            ..PartPlace::default()
        };
        let candidate = if bytes.starts_with(&PART_MAGIC) { candidate(bytes, place) } else { None };
        at += match &candidate {
            Some(Candidate { head: Some(head), problem: None, .. }) => {
                (head.head_len + head.payload_len as usize).next_multiple_of(PART_ALIGN as usize)
            }
            _ => PART_ALIGN as usize,
        };
        found.extend(candidate);
    }
    found
}

fn candidate(bytes: &[u8], place: PartPlace) -> Option<Candidate> {
    let offset = place.slab_offset;
    match decode_part_head(bytes) {
        Ok(head) if !head.place.is_at(&place) => None,
        Ok(head) => {
            let problem = payload_problem(bytes, &head);
            Some(Candidate { offset, head: Some(head), problem })
        }
        Err(error) => {
            // What the head says cannot be believed, but where it says that it belongs tells whether
            // it was ever meant to be a part of this generation.
            let shard = bytes[layout::SHARD_ID..layout::SHARD_ID + 16] == place.shard_id.to_le_bytes();
            let generation = &bytes[layout::SLAB_GENERATION..layout::SLAB_GENERATION + 8];
            let meant = shard && generation == place.slab_generation.to_le_bytes();
            meant.then(|| Candidate { offset, head: None, problem: Some(error.to_string()) })
        }
    }
}

/// What is wrong with the payload that follows `head` in `bytes`; nothing if it is right.
pub fn payload_problem(bytes: &[u8], head: &PartHead) -> Option<String> {
    let Some(payload) = bytes.get(head.head_len..head.head_len + head.payload_len as usize) else {
        return Some("the payload goes beyond the slab".to_owned());
    };
    let (found, computed) = (head.payload_checksum, crc32c(payload));
    (found != computed).then(|| format!("payload checksum {found:#010x}, computed {computed:#010x}"))
}
