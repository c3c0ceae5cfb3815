//! Structures of other versions of the format, their checksums right: refused, or passed over as if they were not
//! there. Nothing of them is ever taken for what it is not.

use std::ops::Range;

use hedgerow_wire::checksum::{crc32c, crc32c_append};
use hedgerow_wire::part::{PartAnswer, layout as part_layout};

use crate::slab::layout::{BLOCK_LEN, SLABS_START, SlabHeader, SlabTrailer, seal_block};
use crate::slab::snapshot::{self, SnapshotError, SnapshotId};
use crate::slab::superblock::{COPIES, Superblock, SuperblockError};
use crate::slab::testing::{World, name, part};
use crate::slab::{OpenError, OpenProgress};

const SLAB: u32 = 64 << 10;
const KEYS: u32 = 20;
const OTHERS: [u32; 3] = [0, 2, u32::MAX];
/// Offsets in superblock, slab header and trailer alike.
const FORMAT: usize = 8;
const CHECKSUM: usize = 12;

/// Three slabs hold something: two are sealed.
fn world() -> World {
    let mut world = World::new(8, SLAB, 3, |config| config.index_capacity = Some(200));
    for key in 0..KEYS {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), 6000));
    }
    world
}

fn reformat(block: &mut [u8], format: u32) {
    block[FORMAT..CHECKSUM].copy_from_slice(&format.to_le_bytes());
    seal_block(block, CHECKSUM);
}

/// Of how many of these keys the newest version is held, its bytes checked.
fn held_of(world: &mut World, keys: Range<u32>) -> u32 {
    keys.filter(|&key| world.held(&name(key, 0)) == Some(world.version(u64::from(key)))).count() as u32
}

fn held(world: &mut World) -> u32 {
    held_of(world, 0..KEYS)
}

#[test]
fn a_superblock_of_another_format_is_refused_whatever_the_other_copies_say() {
    let world = world();
    for format in OTHERS {
        for copy in 0..COPIES as usize {
            let mut image = world.device.bytes.clone();
            let block = &mut image[copy * BLOCK_LEN..][..BLOCK_LEN];
            reformat(block, format);
            assert_eq!(Superblock::decode(block), Err(SuperblockError::Format { found: format }));
            let mut after = world.after(image.clone(), None);
            let error = after.open().expect_err("another format");
            assert_eq!(error, OpenError::FormatVersion { found: format, expected: 1 });
            assert_eq!(error.to_string(), format!("the device has format {format}, this daemon reads 1"));
            assert!(after.device.bytes == image, "a refused device was written to");
        }
    }
}

#[test]
fn a_slab_whose_header_or_trailer_has_another_format_is_read_by_what_else_is_known() {
    let world = world();
    let slab = &world.device.bytes[SLABS_START as usize..][..SLAB as usize];
    assert!(SlabTrailer::decode(&slab[SLAB as usize - BLOCK_LEN..]).is_some(), "the first slab is sealed");
    for format in OTHERS {
        for (header, trailer) in [(true, false), (false, true), (true, true)] {
            let mut image = world.device.bytes.clone();
            let slab = &mut image[SLABS_START as usize..][..SLAB as usize];
            if header {
                reformat(&mut slab[..BLOCK_LEN], format);
                assert_eq!(SlabHeader::decode(slab), None);
            }
            if trailer {
                let block = &mut slab[SLAB as usize - BLOCK_LEN..];
                reformat(block, format);
                assert_eq!(SlabTrailer::decode(block), None);
            }
            let mut after = world.after(image, None);
            let OpenProgress { slabs_scanned, .. } = after.open().expect("opens");
            // The slab that takes parts has no table in any case.
            assert_eq!(slabs_scanned, 1 + u32::from(trailer), "format {format}");
            assert_eq!(held(&mut after), KEYS, "format {format}");
        }
    }
}

#[test]
fn a_part_of_another_format_is_an_erasure() {
    let world = world();
    for format in [0, 2, u8::MAX] {
        let mut image = world.device.bytes.clone();
        let located = world.store.as_ref().expect("open").locate(name(0, 0).hash, name(0, 0).record);
        let located = located.expect("the part is held");
        let at = located.offset as usize + located.offset_in_bytes();
        let head_len = part(&name(0, 0), world.version(0), 6000).head_len();
        let head = &mut image[at..at + head_len];
        head[4] = format;
        seal_block(head, part_layout::HEAD_CHECKSUM);
        let mut after = world.after(image, None);
        after.open().expect("opens");
        assert_eq!(after.read(&name(0, 0)), PartAnswer::Damaged);
        assert_eq!(held_of(&mut after, 1..KEYS), KEYS - 1);
        // It takes the part anew.
        after.put(&part(&name(0, 0), world.version(0), 6000));
        assert_eq!(held(&mut after), KEYS);
    }
}

/// Changes a number in the header of a snapshot; all checksums are right again.
fn renumber(bytes: &mut [u8], at: usize, number: u32) {
    use snapshot::layout;
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    let checksum = crc32c(&bytes[..layout::CHECKSUM]).to_le_bytes();
    bytes[layout::CHECKSUM..layout::LEN].copy_from_slice(&checksum);
    let extra_len = u64::from_le_bytes(bytes[layout::EXTRA_LEN..][..8].try_into().expect("8 bytes")) as usize;
    let mut chunks = &mut bytes[layout::LEN..];
    // Both sections are shorter than a chunk.
    for (ordinal, len) in [(0u64, extra_len), (1, chunks.len() - extra_len - 8)] {
        let (chunk, rest) = chunks.split_at_mut(len + 4);
        let crc = crc32c_append(crc32c_append(crc32c(&checksum), &ordinal.to_le_bytes()), &chunk[..len]);
        chunk[len..].copy_from_slice(&crc.to_le_bytes());
        chunks = rest;
    }
}

#[test]
fn a_snapshot_of_another_version_is_left_aside_and_the_slabs_are_read() {
    use snapshot::layout;
    let mut world = world();
    world.stop();
    let (image, good) = (world.device.bytes.clone(), world.snapshot.take().expect("the stop is clean"));
    let id = SnapshotId {
        shard_id: u128::from_le_bytes(good[layout::SHARD_ID..][..16].try_into().expect("16 bytes")),
        nonce: u64::from_le_bytes(good[layout::NONCE..][..8].try_into().expect("8 bytes")),
    };
    let open = |snapshot| {
        let mut after = world.after(image.clone(), Some(snapshot));
        let progress = after.open().expect("opens");
        assert_eq!(held(&mut after), KEYS);
        progress.from_snapshot
    };
    let mut same = good.clone();
    renumber(&mut same, layout::SNAPSHOT_VERSION, 1);
    assert!(same == good && open(same), "the checksums are not as they were");
    for number in OTHERS {
        // The version of what the store keeps beside the index is the first number of the extra section.
        for at in [layout::SNAPSHOT_VERSION, layout::SLOT_LAYOUT_VERSION, layout::LEN] {
            let mut other = good.clone();
            renumber(&mut other, at, number);
            match snapshot::decode(&other, &id) {
                Err(error) if at == layout::SNAPSHOT_VERSION => {
                    assert_eq!(error, SnapshotError::SnapshotVersion { found: number });
                }
                Err(error) => {
                    assert_eq!(at, layout::SLOT_LAYOUT_VERSION);
                    assert_eq!(error, SnapshotError::SlotLayoutVersion { found: number });
                }
                Ok(_) => assert_eq!(at, layout::LEN),
            }
            assert!(!open(other), "version {number} at {at} was taken");
        }
    }
}
