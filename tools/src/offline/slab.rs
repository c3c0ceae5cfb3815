//! One slab: its header, trailer and contents table, and its parts.

use hedgerow_engine::slab::layout::{
    BLOCK_LEN, CONTENTS_ENTRY_LEN, ContentsEntry, SLAB_DATA_START, SLABS_START, SlabHeader, SlabTrailer,
};
use hedgerow_engine::slab::superblock::Superblock;
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::messages::DamagedPart;
use hedgerow_wire::part::{PartHead, PartPlace, decode_part_head};
use hedgerow_wire::{Namespace, Record, Version};

use super::device::Device;
use super::scan::{payload_problem, scan};
use super::shard::slab_damage;

/// How thoroughly parts are looked at. Slabs without a contents table are always read as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Their heads.
    Heads,
    /// Their payloads too.
    Payloads,
}

/// What a slab is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlabState {
    /// Never written.
    Empty,
    /// All that it held was let go; it waits to be used again.
    Free,
    /// Full, with a contents table.
    Sealed,
    /// Being filled, or left so by a crash.
    Open,
    /// Neither its header nor its trailer can be believed.
    Damaged,
}

/// A part that was found.
pub struct Part {
    /// Where it begins in the slab, in bytes.
    pub offset: u32,
    /// Its head, if it can be read.
    pub head: Option<PartHead>,
    /// What the contents table says of it, if there is one.
    entry: Option<ContentsEntry>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// It may be a write that a crash cut off: nothing that is whole comes after it.
    pub unfinished: bool,
}

/// A slab and its parts.
pub struct Slab {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub state: SlabState,
    /// Its generation, if it is known.
    pub generation: Option<u64>,
    /// Its parts, in their order.
    pub parts: Vec<Part>,
    /// Damage of its header, trailer or contents table.
    pub damage: Vec<String>,
}

impl Slab {
    fn new(number: u32, state: SlabState, generation: Option<u64>) -> Slab {
        Slab { number, state, generation, parts: Vec::new(), damage: Vec::new() }
    }

    /// Bytes of payloads and heads.
    pub fn used_bytes(&self) -> u64 {
        let len = |head: &PartHead| head.head_len as u64 + u64::from(head.payload_len);
        self.parts.iter().filter_map(|part| part.head.as_ref()).map(len).sum()
    }

    /// The highest version of its parts.
    pub fn highest(&self) -> Option<Version> {
        self.parts.iter().filter_map(|part| part.head.as_ref()).map(|head| head.meta.version).max()
    }

    /// Everything that is damaged; writes that a crash cut off are not.
    pub fn damaged(&self) -> Vec<DamagedPart> {
        let mut damaged: Vec<DamagedPart> =
            self.damage.iter().map(|why| slab_damage(self.number, why.clone())).collect();
        damaged.extend(self.parts.iter().filter_map(|part| part.damage(self.number)));
        damaged
    }
}

impl Part {
    fn damage(&self, slab: u32) -> Option<DamagedPart> {
        let why = self.problem.as_ref().filter(|_| !self.unfinished)?.clone();
        let offset = self.offset;
        Some(match (&self.head, &self.entry) {
            (Some(PartHead { meta, .. }), _) => DamagedPart {
                namespace: meta.namespace,
                key: Some(meta.key.clone()),
                record: meta.record,
                part: meta.part,
                version: meta.version,
                slab,
                offset,
                why,
            },
            (None, Some(entry)) => DamagedPart {
                namespace: entry.namespace,
                key: None,
                record: entry.record,
                part: entry.part,
                version: entry.version,
                slab,
                offset,
                why,
            },
            (None, None) => DamagedPart {
                namespace: Namespace(0),
                key: None,
                record: Record::OBJECT,
                part: 0,
                version: Version::ZERO,
                slab,
                offset,
                why,
            },
        })
    }
}

/// Reads slab `number` of the shard that `superblock` describes.
pub fn read_slab(device: &Device, superblock: &Superblock, number: u32, depth: Depth) -> Slab {
    let start = SLABS_START + u64::from(number) * u64::from(superblock.slab_len);
    let Some(bytes) = device.bytes(start, superblock.slab_len as usize) else {
        let mut slab = Slab::new(number, SlabState::Damaged, None);
        slab.damage.push("the file ends before this slab does".to_owned());
        return slab;
    };
    let ours = |shard_id: u128, found: u32| shard_id == superblock.shard_id && found == number;
    let last_block = &bytes[bytes.len() - BLOCK_LEN..];
    let header = SlabHeader::decode(bytes).filter(|header| ours(header.shard_id, header.slab));
    let trailer = SlabTrailer::decode(last_block).filter(|trailer| ours(trailer.shard_id, trailer.slab));
    let generation = header.map(|header| header.generation).or(trailer.map(|trailer| trailer.generation));
    let Some(generation) = generation else {
        return without_tables(bytes, superblock, number);
    };
    if generation <= superblock.evicted_through {
        return Slab::new(number, SlabState::Free, Some(generation));
    }
    let mut slab = Slab::new(number, SlabState::Open, Some(generation));
    if header.is_none() {
        slab.damage.push("its header cannot be believed".to_owned());
    }
    if trailer.is_none() && names_shard(last_block, superblock.shard_id) {
        slab.damage.push("its trailer cannot be believed".to_owned());
    }
    // A trailer of an earlier generation is what the slab's last life left.
    let trailer = trailer.filter(|trailer| trailer.generation == generation);
    read_parts(bytes, superblock, trailer.as_ref(), depth, &mut slab);
    slab
}

/// Fills in the parts of a slab of a known generation.
fn read_parts(
    bytes: &[u8],
    superblock: &Superblock,
    trailer: Option<&SlabTrailer>,
    depth: Depth,
    slab: &mut Slab,
) {
    let (shard_id, generation) = (superblock.shard_id, slab.generation.unwrap_or_default());
    let Some(trailer) = trailer else {
        slab.parts = scanned(bytes, shard_id, generation);
        // After a clean stop nothing is unfinished.
        if superblock.clean_nonce == 0 {
            mark_unfinished(&mut slab.parts);
        }
        return;
    };
    slab.state = SlabState::Sealed;
    match contents(bytes, trailer) {
        Ok(entries) => {
            let part = |entry| read_entry(bytes, shard_id, generation, entry, depth);
            slab.parts = entries.into_iter().map(part).collect();
        }
        Err(why) => {
            slab.damage.push(why);
            slab.parts = scanned(bytes, shard_id, generation);
        }
    }
}

/// A slab whose header and trailer say nothing: never written (a device may hold anything there), or
/// damaged.
fn without_tables(bytes: &[u8], superblock: &Superblock, number: u32) -> Slab {
    let first_part = bytes.get(SLAB_DATA_START as usize..).map(decode_part_head);
    let in_force = |place: PartPlace| {
        place.shard_id == superblock.shard_id
            && place.slab_offset == SLAB_DATA_START
            && place.slab_generation > superblock.evicted_through
    };
    let has_part = matches!(first_part, Some(Ok(head)) if in_force(head.place));
    if !has_part && !names_shard(&bytes[..BLOCK_LEN], superblock.shard_id) {
        return Slab::new(number, SlabState::Empty, None);
    }
    let mut slab = Slab::new(number, SlabState::Damaged, None);
    slab.damage.push("neither its header nor its trailer can be believed".to_owned());
    slab
}

/// Whether the beginning of a block has this shard's id: it was written for it, whatever it is now.
fn names_shard(block: &[u8], shard_id: u128) -> bool {
    let id = shard_id.to_le_bytes();
    block[..64].windows(id.len()).any(|bytes| bytes == id)
}

/// The contents table of a sealed slab.
fn contents(bytes: &[u8], trailer: &SlabTrailer) -> Result<Vec<ContentsEntry>, String> {
    let table_len = (trailer.parts as usize).checked_mul(CONTENTS_ENTRY_LEN);
    let start = table_len.and_then(|len| {
        (bytes.len() - BLOCK_LEN)
            .checked_sub(len.next_multiple_of(BLOCK_LEN))
            .filter(|&start| start >= SLAB_DATA_START as usize)
    });
    let (Some(len), Some(start)) = (table_len, start) else {
        return Err(format!("its trailer speaks of {} parts, which it cannot hold", trailer.parts));
    };
    let table = &bytes[start..start + len];
    let (found, computed) = (trailer.contents_checksum, crc32c(table));
    if found != computed {
        return Err(format!("contents table checksum {found:#010x}, computed {computed:#010x}"));
    }
    let entries = table.as_chunks::<CONTENTS_ENTRY_LEN>().0.iter();
    let entry = |(index, bytes)| {
        ContentsEntry::decode(bytes, trailer.data_end)
            .ok_or_else(|| format!("entry {index} of its contents table describes no possible part"))
    };
    entries.enumerate().map(entry).collect()
}

/// The part that an entry of the contents table speaks of.
fn read_entry(slab: &[u8], shard_id: u128, generation: u64, entry: ContentsEntry, depth: Depth) -> Part {
    let offset = entry.offset;
    let bytes = &slab[(offset as usize).min(slab.len())..];
    let part = |head, problem| Part { offset, head, entry: Some(entry), problem, unfinished: false };
    let head = match decode_part_head(bytes) {
        Ok(head) => head,
        Err(error) => return part(None, Some(error.to_string())),
    };
    let place =
        PartPlace { shard_id, slab_generation: generation, slab_offset: offset, ..PartPlace::default() };
    let problem = if !head.place.is_at(&place) {
        Some("it belongs to another place".to_owned())
    } else if ContentsEntry::of(&head) != entry {
        Some("the contents table describes another part".to_owned())
    } else if depth == Depth::Payloads {
        payload_problem(bytes, &head)
    } else {
        None
    };
    part(Some(head), problem)
}

fn scanned(slab: &[u8], shard_id: u128, generation: u64) -> Vec<Part> {
    let part = |found: super::scan::Candidate| Part {
        offset: found.offset,
        head: found.head,
        entry: None,
        problem: found.problem,
        unfinished: false,
    };
    scan(slab, shard_id, generation).into_iter().map(part).collect()
}

/// Marks what is broken at the end: a slab is filled in order, so these are the writes that were under
/// way when the daemon was killed.
fn mark_unfinished(parts: &mut [Part]) {
    for part in parts.iter_mut().rev().take_while(|part| part.problem.is_some()) {
        part.unfinished = true;
    }
}
