//! Slabs made by hand, whole and damaged.

use std::path::PathBuf;

use hedgerow_engine::slab::layout::{
    BLOCK_LEN, CONTENTS_ENTRY_LEN, ContentsEntry, PART_ALIGN, SLAB_DATA_START, SLABS_START, SlabHeader,
    SlabTrailer,
};
use hedgerow_engine::slab::superblock::Superblock;
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::part::{PartKind, PartMeta, PartPlace, decode_part_head, encode_part_head};
use hedgerow_wire::{Code, Key, Namespace, ObjectChecksum, Record, Version};

use super::{Depth, Device, Shard, Slab, SlabState};

const SLAB_LEN: u32 = 256 << 10;
const SLABS: u32 = 4;
const SHARD_ID: u128 = 77;
const PART_LEN: u32 = 5000;

/// A device of which slab 0 has three parts.
struct Image {
    bytes: Vec<u8>,
    superblock: Superblock,
    /// Where the parts begin, in the slab.
    parts: Vec<u32>,
}

impl Image {
    fn new(generation: u64) -> Image {
        let superblock = Superblock {
            shard_id: SHARD_ID,
            daemon_id: 5,
            sequence: 3,
            device_len: SLABS_START + u64::from(SLABS) * u64::from(SLAB_LEN),
            slab_len: SLAB_LEN,
            slabs: SLABS,
            shard_index: 0,
            parity: 1,
            forgotten_through: Version::ZERO,
            evicted_through: 0,
            generation_bound: 100,
            clean_nonce: 0,
            index_seed: 1,
            unknown_through: Version::ZERO,
            boot: 1,
        };
        let mut image =
            Image { bytes: vec![0; superblock.device_len as usize], superblock, parts: Vec::new() };
        let header = SlabHeader {
            shard_id: SHARD_ID,
            generation,
            base_hlc: 0,
            slab: 0,
            slab_len: SLAB_LEN,
            placement_hint: 0,
        };
        header.encode(image.slab());
        let mut offset = SLAB_DATA_START;
        for number in 0..3 {
            image.parts.push(offset);
            offset = image.write_part(number, generation, offset);
        }
        image
    }

    fn slab(&mut self) -> &mut [u8] {
        let start = SLABS_START as usize;
        &mut self.bytes[start..start + SLAB_LEN as usize]
    }

    fn write_part(&mut self, number: u8, generation: u64, offset: u32) -> u32 {
        let payload: Vec<u8> = (0..PART_LEN).map(|index| (index as u8).wrapping_mul(number + 3)).collect();
        let meta = meta(number);
        let place = PartPlace {
            shard_id: SHARD_ID,
            slab_generation: generation,
            slab_offset: offset,
            ..PartPlace::default()
        };
        let bytes = &mut self.slab()[offset as usize..];
        let head_len = encode_part_head(&meta, &place, PART_LEN, crc32c(&payload), bytes);
        bytes[head_len..head_len + payload.len()].copy_from_slice(&payload);
        (offset + head_len as u32 + PART_LEN).next_multiple_of(PART_ALIGN)
    }

    /// Writes contents table and trailer.
    fn seal(&mut self, generation: u64) {
        let offsets = self.parts.clone();
        let entry = |slab: &[u8], offset: u32| {
            ContentsEntry::of(&decode_part_head(&slab[offset as usize..]).unwrap()).encode()
        };
        let slab = self.slab();
        let table: Vec<u8> = offsets.iter().flat_map(|&offset| entry(slab, offset)).collect();
        let end = slab.len() - BLOCK_LEN;
        slab[end - BLOCK_LEN..][..table.len()].copy_from_slice(&table);
        let trailer = SlabTrailer {
            shard_id: SHARD_ID,
            generation,
            slab: 0,
            parts: (table.len() / CONTENTS_ENTRY_LEN) as u32,
            contents_checksum: crc32c(&table),
            data_end: 128 << 10,
            highest: Version { hlc: 3, coordinator: 0 },
        };
        trailer.encode(&mut slab[end..]);
    }

    fn flip(&mut self, offset: u32) {
        self.slab()[offset as usize] ^= 4;
    }

    fn shard(&mut self) -> Shard {
        let block = &mut self.bytes[..BLOCK_LEN];
        self.superblock.encode(block);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.bytes).unwrap();
        let mut device = Device::open(file.path()).unwrap();
        device.path = PathBuf::from("image");
        Shard::open(device).unwrap()
    }

    /// Slab 0, looked at as closely as may be.
    fn read(&mut self) -> Slab {
        self.shard().slab(0, Depth::Payloads)
    }
}

fn meta(number: u8) -> PartMeta {
    PartMeta {
        kind: PartKind::Sole,
        pinned: false,
        namespace: Namespace(0),
        namespace_generation: 0,
        key: Key::new(&[b'k', number]).unwrap(),
        record: Record::OBJECT,
        version: Version { hlc: u64::from(number) + 1, coordinator: 0 },
        object_len: u64::from(PART_LEN),
        object_checksum: ObjectChecksum::NONE,
        stripe_len: PART_LEN,
        stripe_size: 1 << 20,
        part: 0,
        code: Code::new(1, 1).unwrap(),
        created_ms: 0,
        expires_ms: 0,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: Default::default(),
    }
}

/// State, number of parts, and what is damaged: the offset, and the beginning of the reason.
#[track_caller]
fn check(slab: &Slab, state: SlabState, parts: usize, damaged: &[(u32, &str)]) {
    assert_eq!((slab.state, slab.parts.len()), (state, parts));
    let found: Vec<_> = slab.damaged().into_iter().map(|part| (part.offset, part.why)).collect();
    assert_eq!(found.len(), damaged.len(), "{found:?}");
    for ((offset, why), (expected, beginning)) in found.iter().zip(damaged) {
        assert!(offset == expected && why.starts_with(beginning), "{found:?}");
    }
}

#[test]
fn whole_slabs_are_read() {
    let mut image = Image::new(7);
    check(&image.read(), SlabState::Open, 3, &[]);
    image.seal(7);
    let slab = image.read();
    check(&slab, SlabState::Sealed, 3, &[]);
    assert_eq!((slab.generation, slab.highest()), (Some(7), Some(Version { hlc: 3, coordinator: 0 })));
    check(&image.shard().slab(1, Depth::Payloads), SlabState::Empty, 0, &[]);
    image.superblock.evicted_through = 7;
    check(&image.read(), SlabState::Free, 0, &[]);
}

#[test]
fn what_an_earlier_life_left_is_not_believed() {
    let mut image = Image::new(7);
    image.seal(6);
    let after = image.parts[2] + 8192;
    image.write_part(9, 6, after);
    check(&image.read(), SlabState::Open, 3, &[]);
}

#[test]
fn damaged_parts_are_found() {
    for sealed in [true, false] {
        let mut image = Image::new(7);
        if sealed {
            image.seal(7);
        }
        let state = if sealed { SlabState::Sealed } else { SlabState::Open };
        let [first, second, _] = image.parts[..] else { unreachable!() };
        image.flip(first + 1000);
        image.flip(second + 60);
        check(&image.read(), state, 3, &[(first, "payload checksum"), (second, "part head checksum")]);
        let heads = image.shard().slab(0, Depth::Heads).damaged().len();
        assert_eq!(heads, if sealed { 1 } else { 2 }, "only the payloads of sealed slabs are passed over");
    }
}

#[test]
fn what_a_crash_cut_off_is_no_damage() {
    let mut image = Image::new(7);
    let last = image.parts[2];
    image.flip(last + 1000);
    let slab = image.read();
    check(&slab, SlabState::Open, 3, &[]);
    assert!(slab.parts[2].unfinished);
    // After a clean stop, it is.
    image.superblock.clean_nonce = 9;
    check(&image.read(), SlabState::Open, 3, &[(last, "payload checksum")]);
}

#[test]
fn damaged_tables_are_named_and_passed_over() {
    let end = SLAB_LEN - BLOCK_LEN as u32;
    let sealed = || {
        let mut image = Image::new(7);
        image.seal(7);
        image
    };
    let mut image = sealed();
    image.flip(end - BLOCK_LEN as u32);
    check(&image.read(), SlabState::Sealed, 3, &[(0, "contents table checksum")]);

    let mut image = sealed();
    image.flip(100);
    check(&image.read(), SlabState::Sealed, 3, &[(0, "its header cannot be believed")]);

    let mut image = sealed();
    image.flip(end + 100);
    check(&image.read(), SlabState::Open, 3, &[(0, "its trailer cannot be believed")]);

    let mut image = sealed();
    image.flip(100);
    image.flip(end + 100);
    check(&image.read(), SlabState::Damaged, 0, &[(0, "neither its header nor its trailer")]);

    // Nothing left of the header but the parts behind it.
    let mut image = Image::new(7);
    image.slab()[..BLOCK_LEN].fill(3);
    check(&image.read(), SlabState::Damaged, 0, &[(0, "neither its header nor its trailer")]);

    // Something else that was on the device before.
    let mut image = Image::new(7);
    image.slab().fill(3);
    check(&image.read(), SlabState::Empty, 0, &[]);

    let mut image = sealed();
    let (first, second) = (image.parts[0], image.parts[1]);
    let (from, to) = (first as usize, second as usize);
    let len = (second - first) as usize;
    image.slab().copy_within(from..from + len, to);
    check(&image.read(), SlabState::Sealed, 3, &[(second, "it belongs to another place")]);
}

#[test]
fn a_file_that_was_cut_is_named() {
    let mut image = Image::new(7);
    image.bytes.truncate((SLABS_START + u64::from(SLAB_LEN) + 5) as usize);
    let shard = image.shard();
    check(&shard.slab(0, Depth::Payloads), SlabState::Open, 3, &[]);
    check(&shard.slab(1, Depth::Payloads), SlabState::Damaged, 0, &[(0, "the file ends")]);
}

#[test]
fn the_newest_whole_superblock_is_believed() {
    let mut image = Image::new(7);
    let newer = Superblock { sequence: 4, ..image.superblock };
    newer.encode(&mut image.bytes[BLOCK_LEN..2 * BLOCK_LEN]);
    let shard = image.shard();
    assert_eq!((shard.superblock.sequence, shard.damaged_copies().count()), (4, 0));
    image.bytes[BLOCK_LEN + 50] ^= 1;
    let shard = image.shard();
    assert_eq!((shard.superblock.sequence, shard.damaged_copies().count()), (3, 1));
}
