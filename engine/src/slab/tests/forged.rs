//! What no store writes, though every checksum is right: it is refused or passed over, and the store works.

use std::ops::Range;

use crate::slab::OpenProgress;
use crate::slab::index::Entry;
use crate::slab::layout::{BLOCK_LEN, SLABS_START, SlabHeader};
use crate::slab::snapshot::{self, Snapshot, SnapshotId};
use crate::slab::superblock::{Superblock, SuperblockError};
use crate::slab::testing::{World, name, part};

const SLAB: u32 = 64 << 10;
const KEYS: Range<u32> = 0..20;

/// Three slabs hold something: two are sealed.
fn world() -> World {
    let mut world = World::new(8, SLAB, 3, |config| config.index_capacity = Some(200));
    for key in KEYS {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), 6000));
    }
    world
}

/// The keys of which the newest version is held.
fn held(world: &mut World) -> Vec<u32> {
    KEYS.filter(|&key| world.held(&name(key, 0)) == Some(world.version(u64::from(key)))).collect()
}

/// Every slab is let go and taken again, and the device opens after.
fn turn_over(world: &mut World) {
    for key in 100..220 {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), 6000));
    }
    assert!(world.stats().slabs_evicted >= 8);
    world.restart();
    assert_eq!(world.held(&name(219, 0)), Some(world.version(219)));
}

#[test]
fn a_superblock_whose_numbers_cannot_be_is_refused() {
    let world = world();
    let good = Superblock::decode(&world.device.bytes[..BLOCK_LEN]).expect("a superblock");
    let check = |superblock: Superblock, field, value| {
        let mut block = vec![0; BLOCK_LEN];
        superblock.encode(&mut block);
        assert_eq!(Superblock::decode(&block), Err(SuperblockError::Field { field, value }));
    };
    check(Superblock { sequence: u64::MAX, ..good }, "sequence", u64::MAX);
    check(Superblock { generation_bound: u64::MAX, ..good }, "generation_bound", u64::MAX);
    // As long as such a device is, the index cannot number its slabs.
    let slabs = (1 << 18) + 1;
    check(Superblock { slabs, device_len: 1 << 50, ..good }, "slabs", u64::from(slabs));
}

#[test]
fn a_generation_that_was_never_given_out_is_not_believed() {
    let world = world();
    for generation in [u64::MAX, 1 << 40] {
        let mut image = world.device.bytes.clone();
        let block = &mut image[SLABS_START as usize..][..BLOCK_LEN];
        let header = SlabHeader::decode(block).expect("a header");
        SlabHeader { generation, ..header }.encode(block);
        let mut after = world.after(image, None);
        after.open().expect("opens");
        assert!(held(&mut after).len() < KEYS.len(), "the slab was read all the same");
        assert!(after.store().superblock.unknown_through >= world.version(0), "nobody is told of it");
        turn_over(&mut after);
    }
}

/// Opens the device of a clean stop with its snapshot changed; whether that was taken.
fn taken(change: impl Fn(&mut Snapshot)) -> bool {
    let mut world = world();
    world.stop();
    let bytes = world.snapshot.take().expect("the stop is clean");
    let id = SnapshotId {
        shard_id: u128::from_le_bytes(
            bytes[snapshot::layout::SHARD_ID..][..16].try_into().expect("16 bytes"),
        ),
        nonce: u64::from_le_bytes(bytes[snapshot::layout::NONCE..][..8].try_into().expect("8 bytes")),
    };
    let mut changed = snapshot::decode(&bytes, &id).expect("a snapshot");
    change(&mut changed);
    let mut bytes = Vec::new();
    snapshot::encode_to_vec(&changed.index, &id, &changed.extra, &mut bytes);
    world.snapshot = Some(bytes);
    let OpenProgress { from_snapshot, .. } = world.open().expect("opens");
    assert_eq!(held(&mut world), KEYS.collect::<Vec<_>>());
    turn_over(&mut world);
    from_snapshot
}

#[test]
fn a_snapshot_that_leads_to_where_no_part_can_be_is_not_taken() {
    let inserts = |slab, offset, blocks| {
        move |snapshot: &mut Snapshot| {
            let hlc = snapshot.index.highest_hlc();
            let entry = Entry { slab, offset, blocks, hlc, tombstone: false, touched: false };
            snapshot.index.insert(name(7, 0).hash, name(7, 0).record, &entry).expect("room");
        }
    };
    assert!(taken(|_| {}));
    // Beyond the device, in a slab that holds nothing, in the header, over the end of the slab.
    for (slab, offset, blocks) in [(8, 4096, 1), (7, 4096, 1), (0, 64, 1), (0, SLAB - 4096, 2)] {
        assert!(!taken(inserts(slab, offset, blocks)), "slab {slab}, offset {offset}");
    }
}

#[test]
fn a_snapshot_whose_slabs_cannot_be_so_is_not_taken() {
    /// Of the extra section: where the end of the open slab stands, and the generation of the first slab.
    const CURSOR: usize = 12;
    const GENERATION: usize = 40;
    let sets = |at: usize, value: u64, len: usize| {
        move |snapshot: &mut Snapshot| {
            snapshot.extra[at..at + len].copy_from_slice(&value.to_le_bytes()[..len])
        }
    };
    // Within a block; no room for the table.
    assert!(!taken(sets(CURSOR, 3 * 4096 + 64, 4)));
    assert!(!taken(sets(CURSOR, u64::from(SLAB), 4)));
    assert!(!taken(sets(GENERATION, u64::MAX, 8)));
}
