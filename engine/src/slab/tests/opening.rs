//! Devices that are opened, refused, formatted, damaged; clean stops and their snapshots.

use hedgerow_wire::Version;
use hedgerow_wire::part::PartAnswer;
use rand::Rng;

use crate::slab::layout::{BLOCK_LEN, SLABS_START, SlabHeader, SlabTrailer, slab_start};
use crate::slab::superblock::{Superblock, SuperblockError};
use crate::slab::testing::{Crash, World, name, part, put};
use crate::slab::{ConfigError, OpenError, StoreConfig};

const SLAB: u32 = 256 << 10;

fn world() -> World {
    World::new(8, SLAB, 3, |_| {})
}

/// A world with `parts` parts, one per commit.
fn filled(parts: u32) -> World {
    let mut world = world();
    for key in 0..parts {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), 10_000));
    }
    world
}

/// The keys of `0..parts` that are held.
fn held(world: &mut World, parts: u32) -> Vec<u32> {
    (0..parts).filter(|&key| matches!(world.read(&name(key, 0)), PartAnswer::Part { .. })).collect()
}

fn newest(world: &World) -> Superblock {
    (0..3)
        .filter_map(|copy| Superblock::decode(&world.device.bytes[copy * BLOCK_LEN..][..BLOCK_LEN]).ok())
        .max_by_key(|superblock| superblock.sequence)
        .expect("a superblock")
}

#[test]
fn a_blank_device_is_formatted_and_opened_again() {
    let mut world = World::blank(8, SLAB, 3, |_| {});
    assert!(world.open().expect("opens").formatted);
    let first = newest(&world);
    assert_eq!((first.slabs, first.slab_len, first.daemon_id, first.shard_index), (8, SLAB, 0xdae0, 3));
    let progress = world.crash(Crash::Kill);
    assert!(!progress.formatted && progress.slabs_done == 8);
    assert_eq!(newest(&world).shard_id, first.shard_id);
    let others = [World::new(8, SLAB, 4, |_| {}), World::new(8, SLAB, 3, |config| config.shard_index = 2)];
    assert!(others.iter().all(|other| newest(other).shard_id != first.shard_id));
}

#[test]
fn what_is_not_ours_is_refused_with_what_a_person_needs() {
    type Damage = fn(&mut World);
    let cases: [(Damage, OpenError); 10] = [
        (|w| w.config.daemon_id = 1, OpenError::OtherDaemon { found: 0xdae0, expected: 1 }),
        (|w| w.config.shard_index = 4, OpenError::OtherShard { found: 3, expected: 4 }),
        (|w| w.config.parity = 3, OpenError::Parity { found: 2, expected: 3 }),
        (
            |w| w.config.device_len -= 1,
            OpenError::Shrunk {
                device_len: SLABS_START + 8 * u64::from(SLAB) - 1,
                formatted_len: SLABS_START + 8 * u64::from(SLAB),
            },
        ),
        (|w| w.config.slab_len = 1000, OpenError::Config(ConfigError::SlabLen { slab_len: 1000 })),
        (
            |w| {
                for copy in 0..3 {
                    w.device.bytes[copy * BLOCK_LEN + 50] ^= 1;
                }
            },
            OpenError::SuperblockDamaged { copies: [SuperblockError::Checksum; 3] },
        ),
        (
            |w| {
                w.device.bytes[..BLOCK_LEN].fill(0);
                w.device.bytes[BLOCK_LEN + 50] ^= 1;
                w.device.bytes[2 * BLOCK_LEN..2 * BLOCK_LEN + 8].fill(9);
            },
            OpenError::SuperblockDamaged {
                copies: [SuperblockError::Blank, SuperblockError::Checksum, SuperblockError::Magic],
            },
        ),
        (
            |w| {
                let block = &mut w.device.bytes[BLOCK_LEN..2 * BLOCK_LEN];
                block[8] = 2;
                crate::slab::layout::seal_block(block, 12);
            },
            OpenError::FormatVersion { found: 2, expected: 1 },
        ),
        (
            |w| {
                w.device.bytes.fill(0);
                w.device.bytes[0x10040] = b'_';
            },
            OpenError::Foreign { offset: 0x10040, byte: b'_', checked: SLABS_START },
        ),
        (
            |w| {
                w.device.bytes.fill(0);
                w.config.slab_len = 16 << 20;
            },
            OpenError::TooSmall {
                device_len: SLABS_START + 8 * u64::from(SLAB),
                need: SLABS_START + 4 * (16 << 20),
                slabs: 4,
                slab_len: 16 << 20,
            },
        ),
    ];
    for (damage, expected) in cases {
        let mut world = filled(3);
        world.store = None;
        damage(&mut world);
        let before = world.device.bytes.clone();
        assert_eq!(world.open().expect_err("is refused"), expected);
        assert!(!expected.to_string().is_empty());
        assert!(world.device.bytes == before, "a device that is refused is not written to: {expected}");
    }
}

#[test]
fn a_bound_of_zero_is_refused() {
    let mut config = StoreConfig::new(1, 0, 1 << 30, 1);
    assert_eq!(config.check(), Ok(()));
    config.reads_max = 0;
    let expected = ConfigError::Field { field: "reads_max", value: 0, expected: "at least 1" };
    assert_eq!(config.check(), Err(expected));
}

#[test]
fn a_device_that_fails_is_named() {
    for (reads, action) in [(true, "read the superblock"), (false, "write the superblock")] {
        let mut world = World::blank(8, SLAB, 3, |_| {});
        (world.device.fail_reads, world.device.fail_writes) = (reads, !reads);
        match world.open() {
            Err(OpenError::Io { action: found, offset: 0, .. }) => assert_eq!(found, action),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn any_one_or_two_damaged_superblocks_are_survived() {
    for damaged in [vec![0], vec![1], vec![2], vec![0, 1], vec![0, 2], vec![1, 2]] {
        let mut world = filled(3);
        let sequence = newest(&world).sequence;
        for &copy in &damaged {
            world.device.bytes[copy * BLOCK_LEN + 100] ^= 1;
        }
        world.crash(Crash::KillClean);
        assert_eq!(held(&mut world, 3), [0, 1, 2], "copies {damaged:?} damaged");
        assert!(newest(&world).sequence > sequence - 2);
    }
}

#[test]
fn every_copy_of_the_superblock_may_be_torn_as_it_is_written() {
    // Opening writes one superblock: whichever sectors of it arrive, the next opening succeeds.
    for seed in 0..30 {
        let mut world = World::new(8, SLAB, seed, |_| {});
        world.put(&part(&name(0, 0), world.version(1), 100));
        world.store = None;
        let mut opening = world.begin_open();
        for _ in 0..seed % 24 {
            world.step_open(&mut opening);
        }
        drop(opening);
        world.crash(Crash::Kill);
        assert_eq!(held(&mut world, 1), [0]);
    }
}

#[test]
fn a_crash_while_formatting_leaves_a_device_that_opens() {
    for steps in 0..8 {
        for seed in 0..6 {
            let mut world = World::blank(8, SLAB, seed, |_| {});
            let mut opening = world.begin_open();
            for _ in 0..steps {
                world.step_open(&mut opening);
            }
            while let Some(effect) = opening.poll() {
                drop(effect);
            }
            drop(opening);
            world.crash(Crash::Kill);
            world.put(&part(&name(0, 0), world.version(1), 100));
            world.crash(Crash::Kill);
            assert_eq!(held(&mut world, 1), [0]);
        }
    }
}

#[test]
fn a_clean_stop_is_followed_by_a_warm_start_that_reads_next_to_nothing() {
    let mut world = filled(60);
    world.touch(&name(3, 0));
    let reads = world.device.reads;
    let progress = world.restart();
    assert!(progress.from_snapshot && progress.parts == 60);
    assert_eq!(world.device.reads, reads + 1);
    assert_eq!(held(&mut world, 60).len(), 60);
    assert_eq!(world.store().highest_version(), world.version(59));
    let touched = world.store().lookup(name(3, 0).hash, name(3, 0).record).expect("an entry").touched;
    assert!(touched, "what was used is remembered");
    // The open slab is resumed, and found by a scan after a crash.
    let before = world.stats().slabs_free;
    world.put(&part(&name(60, 0), world.version(99), 100));
    assert_eq!(world.stats().slabs_free, before);
    assert!(!world.crash(Crash::Kill).from_snapshot);
    assert_eq!(held(&mut world, 61).len(), 61);
}

#[test]
fn a_snapshot_is_good_once_and_only_whole() {
    let mut world = filled(20);
    world.stop();
    let good = world.snapshot.clone().expect("a snapshot");
    let image = world.device.bytes.clone();
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 8;
        world.device.restore(&image);
        world.snapshot = Some(bad);
        assert!(!world.open().expect("opens").from_snapshot, "byte {at}");
    }
    assert_eq!(held(&mut world, 20).len(), 20);
    world.device.restore(&image);
    for (start, expected) in [true, false].into_iter().enumerate() {
        world.snapshot = Some(good.clone());
        assert_eq!(world.open().expect("opens").from_snapshot, expected, "start {start}");
        world.put(&part(&name(1, 0), world.version(1000 + start as u64), 10));
        world.store = None;
    }
    world.open().expect("opens");
    assert_eq!(held(&mut world, 20).len(), 20);
}

#[test]
fn a_stop_on_a_failing_device_ends_and_is_not_clean() {
    let mut world = filled(3);
    world.device.fail_writes = true;
    let token = world.begin_write(&put(&part(&name(1, 0), world.version(50), 10)));
    world.stop();
    assert_eq!(world.answers.remove(&token), Some(PartAnswer::Failed));
    assert!(world.snapshot.is_none());
    world.device.fail_writes = false;
    world.open().expect("opens");
    assert_eq!(held(&mut world, 3), [0, 1, 2]);
}

#[test]
fn sealed_slabs_are_opened_by_their_tables() {
    let mut world = filled(80);
    let reads = world.device.reads;
    let progress = world.crash(Crash::KillClean);
    // Three sealed slabs, one open: the superblock, the first blocks of all eight, the last ones of the
    // four that are blank, four tails, the data of the open one.
    assert_eq!((progress.slabs_scanned, progress.parts), (1, 80));
    assert_eq!(world.device.reads - reads, 1 + 8 + 4 + 4 + 1);
    assert_eq!(held(&mut world, 80).len(), 80);
    // The open slab had no room behind what may still be under way: it has a table now.
    assert_eq!(world.crash(Crash::KillClean).slabs_scanned, 0);
    assert_eq!(held(&mut world, 80).len(), 80);
    assert_eq!(world.store().highest_version(), world.version(79));
}

#[test]
fn crashes_cost_no_slabs_but_the_room_of_what_may_still_be_under_way() {
    let mut world = World::new(8, 1 << 20, 1, |config| config.commit_len_max = 8 << 10);
    for key in 0..10 {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), 10));
    }
    let free = world.store().stats().slabs_free;
    for crash in 0..20 {
        let kind = if crash % 2 == 0 { Crash::Kill } else { Crash::KillClean };
        assert_eq!(world.crash(kind).slabs_scanned, 1);
        world.put(&part(&name(10 + crash, 0), world.version(100 + u64::from(crash)), 10));
        assert_eq!(held(&mut world, 11 + crash).len(), 11 + crash as usize);
    }
    assert_eq!(world.store().stats().slabs_free, free);
}

#[test]
fn a_long_table_is_read_in_two_reads() {
    let mut world = World::new(4, 2 << 20, 3, |config| config.index_capacity = Some(10_000));
    let tokens: Vec<_> =
        (0..4000).map(|key| world.begin_write(&put(&part(&name(key, 0), world.version(1), 200)))).collect();
    world.run();
    assert!(tokens.iter().all(|token| world.answers.remove(token) == Some(PartAnswer::Stored)));
    world.put(&part(&name(9999, 0), world.version(1), 700_000));
    let progress = world.crash(Crash::KillClean);
    assert_eq!((progress.parts, progress.slabs_scanned), (4001, 1));
    assert_eq!(held(&mut world, 4000).len(), 4000);
}

#[test]
fn a_damaged_table_header_or_both_cost_a_scan_and_nothing_else() {
    for (header, table, trailer, scanned) in
        [(false, false, true, 2), (false, true, false, 2), (true, false, false, 1), (true, false, true, 2)]
    {
        let mut world = filled(40);
        let (start, end) = (slab_start(0, SLAB) as usize, slab_start(1, SLAB) as usize);
        let flip = |world: &mut World, at: usize| world.device.bytes[at] ^= 2;
        if header {
            flip(&mut world, start + 33);
        }
        if table {
            flip(&mut world, end - 2 * BLOCK_LEN + 20);
        }
        if trailer {
            flip(&mut world, end - BLOCK_LEN + 40);
        }
        let progress = world.crash(Crash::KillClean);
        assert_eq!(progress.slabs_scanned, scanned, "header {header}, table {table}, trailer {trailer}");
        assert_eq!(held(&mut world, 40).len(), 40);
    }
}

#[test]
fn a_scan_goes_on_after_damage() {
    let mut world = filled(10);
    // Damages the head of one part, the payload of another.
    let offset = |world: &mut World, key| {
        let entry = world.store().lookup(name(key, 0).hash, name(key, 0).record).expect("an entry");
        (slab_start(entry.slab, SLAB) + u64::from(entry.offset)) as usize
    };
    let (head, payload) = (offset(&mut world, 3), offset(&mut world, 6) + 5000);
    world.device.bytes[head + 60] ^= 1;
    world.device.bytes[payload] ^= 1;
    world.crash(Crash::KillClean);
    assert_eq!(held(&mut world, 10), [0, 1, 2, 4, 5, 7, 8, 9]);
    assert_eq!(world.stats().parts_damaged, 1);
}

#[test]
fn an_earlier_generation_is_ignored() {
    let mut world = filled(100);
    for round in 1..4 {
        for key in 100 * round..100 * (round + 1) {
            world.put(&part(&name(key, 0), world.version(u64::from(key)), 10_000));
        }
        let before = held(&mut world, 100 * (round + 1));
        // The open slab has parts of its earlier life behind those of this one.
        world.crash(Crash::KillClean);
        assert_eq!(held(&mut world, 100 * (round + 1)), before);
    }
}

#[test]
fn blocks_of_another_shard_are_ignored() {
    let mut other = World::new(8, SLAB, 99, |_| {});
    for key in 0..100 {
        other.put(&part(&name(key, 0), other.version(1), 10_000));
    }
    let mut world = World::blank(8, SLAB, 3, |_| {});
    let slabs = SLABS_START as usize..;
    world.device.bytes[slabs.clone()].copy_from_slice(&other.device.bytes[slabs]);
    world.open().expect("opens");
    world.put(&part(&name(7, 0), world.version(2), 100));
    let progress = world.crash(Crash::KillClean);
    assert_eq!((progress.parts, held(&mut world, 100)), (1, vec![7]));
}

#[test]
fn newest_wins_and_ties_are_decided_by_who_wrote_last() {
    let mut world = world();
    let base = world.version(10);
    let versions = [
        [Version { hlc: base.hlc, coordinator: 1 }, Version { hlc: base.hlc, coordinator: 2 }],
        [Version { hlc: base.hlc - 5, coordinator: 9 }, Version { hlc: base.hlc, coordinator: 1 }],
    ];
    for (key, versions) in versions.into_iter().enumerate() {
        for version in versions {
            world.put(&part(&name(key as u32, 0), version, 100));
            // The next version lies in another slab.
            for filler in 0..30 {
                world.put(&part(
                    &name(1000 + filler, 0),
                    world.version(u64::from(filler) * 7 + version.hlc % 5),
                    10_000,
                ));
                world.advance(std::time::Duration::from_millis(1));
            }
        }
    }
    world.shuffle = true;
    world.crash(Crash::KillClean);
    for (key, versions) in versions.into_iter().enumerate() {
        assert_eq!(world.held(&name(key as u32, 0)), Some(versions[1]));
    }
}

#[test]
fn a_crash_brings_back_what_was_dropped_and_not_what_is_older() {
    let mut world = world();
    let (key, older, newer) = (name(1, 0), world.version(1), world.version(9));
    world.put(&part(&key, newer, 100));
    world.drop_record(&key, newer);
    world.put(&part(&key, older, 100));
    assert_eq!(world.held(&key), Some(older));
    world.crash(Crash::Kill);
    assert_eq!(world.held(&key), Some(newer));
}

#[test]
fn an_index_that_shrank_admits_what_it_forgot() {
    let mut world = filled(100);
    for key in 100..400 {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), 10));
    }
    let before = held(&mut world, 400).len();
    world.config.index_capacity = Some(20);
    world.crash(Crash::KillClean);
    let stats = world.stats();
    assert!(stats.index_full > 0 && stats.parts < before as u64);
    for key in 0..400 {
        match world.read(&name(key, 0)) {
            PartAnswer::Absent { forgotten_through, .. } => {
                assert!(forgotten_through >= world.version(u64::from(key)))
            }
            PartAnswer::Part { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The bytes of `layouts` as they must stand on devices for all time.
#[test]
fn golden_bytes() {
    fn hex(bytes: &[u8]) -> String {
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
        bytes[..end].iter().map(|byte| format!("{byte:02x}")).collect()
    }
    let mut block = vec![0xee; BLOCK_LEN];
    let header = SlabHeader {
        shard_id: 0x0102,
        generation: 0x1112,
        base_hlc: 0x2122,
        slab: 0x31,
        slab_len: SLAB,
        placement_hint: 0x4142,
    };
    header.encode(&mut block);
    assert_eq!(SlabHeader::decode(&block), Some(header));
    let expected = concat!(
        "4867536c61624864",
        "01000000",
        "CHECKSUM",
        "02010000000000000000000000000000",
        "1211000000000000",
        "2221000000000000",
        "31000000",
        "00000400",
        "4241",
    );
    assert_eq!(hex(&block).replacen(&hex(&block)[24..32], "CHECKSUM", 1), expected);

    let trailer = SlabTrailer {
        shard_id: 0x0102,
        generation: 0x1112,
        slab: 0x31,
        parts: 0x51,
        contents_checksum: 0x6162_6364,
        data_end: 0x71000,
        highest: Version { hlc: 0x8182, coordinator: 0x9192 },
    };
    trailer.encode(&mut block);
    assert_eq!(SlabTrailer::decode(&block), Some(trailer));
    let expected = concat!(
        "4867536c61625472",
        "01000000",
        "CHECKSUM",
        "02010000000000000000000000000000",
        "1211000000000000",
        "31000000",
        "51000000",
        "64636261",
        "00100700",
        "8281000000000000",
        "9291",
    );
    assert_eq!(hex(&block).replacen(&hex(&block)[24..32], "CHECKSUM", 1), expected);

    let superblock = Superblock {
        shard_id: 0x0102,
        daemon_id: 0x0304,
        sequence: 0x0506,
        device_len: 0x0800_0000,
        slab_len: SLAB,
        slabs: 9,
        shard_index: 0x0a0b,
        parity: 2,
        forgotten_through: Version { hlc: 0x0c0d, coordinator: 0x0e0f },
        evicted_through: 0x1011,
        generation_bound: 0x1213,
        clean_nonce: 0x1415,
        index_seed: 0x1617,
        unknown_through: Version { hlc: 0x1819, coordinator: 0x1a1b },
        boot: 0x1c1d,
    };
    superblock.encode(&mut block);
    assert_eq!(Superblock::decode(&block), Ok(superblock));
    let expected = concat!(
        "4865646765726f77",
        "01000000",
        "CHECKSUM",
        "02010000000000000000000000000000",
        "04030000000000000000000000000000",
        "0605000000000000",
        "0000000800000000",
        "00000400",
        "09000000",
        "0b0a",
        "02",
        "0000000000",
        "0d0c000000000000",
        "0f0e",
        "000000000000",
        "1110000000000000",
        "1312000000000000",
        "1514000000000000",
        "1716000000000000",
        "1918000000000000",
        "1b1a",
        "000000000000",
        "1d1c",
    );
    assert_eq!(hex(&block).replacen(&hex(&block)[24..32], "CHECKSUM", 1), expected);
    let mut rng = world().rng;
    for _ in 0..500 {
        let mut damaged = block.clone();
        damaged[rng.random_range(0..BLOCK_LEN)] ^= 1 << rng.random_range(0..8);
        assert!(Superblock::decode(&damaged).is_err());
    }
}

#[test]
fn golden_contents_entry() {
    let mut world = world();
    let meta = part(&name(1, 0), Version { hlc: 0x0102, coordinator: 0x0304 }, 10);
    world.put(&meta);
    let mut entry = world.store().growing[0].entries[0];
    entry.hash = hedgerow_wire::KeyHash(0x0506);
    entry.expires_ms = 0x0708;
    entry.pinned = true;
    let hex: String = entry.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "06050000000000000000000000000000",
        "00000000",
        "00100000",
        "0a000000",
        "c900",
        "0403",
        "0201000000000000",
        "0807000000000000",
        "00",
        "01",
        "01",
        "00",
        "07000000",
        "01000000",
    );
    assert_eq!(hex[..hex.len() - 8], *expected);
    assert_eq!(hex[hex.len() - 8..], format!("{:08x}", entry.payload_checksum.swap_bytes()));
    let bytes = entry.encode();
    assert_eq!(crate::slab::layout::ContentsEntry::decode(&bytes, 8192), Some(entry));
    // Values that no part can have, though the checksum over the table may be right.
    for (at, value) in [(49, 9), (50, 2), (51, 1), (20, 1), (21, 0), (27, 1), (29, 0x80), (28, 0)] {
        let mut bytes = bytes;
        bytes[at] = value;
        assert_eq!(crate::slab::layout::ContentsEntry::decode(&bytes, 8192), None, "byte {at}");
    }
}

#[test]
fn a_snapshot_of_another_size_of_index_costs_a_reading_of_the_tables_and_no_part() {
    for (capacity, taken) in [(2000, true), (2050, true), (4000, false), (1000, false)] {
        let mut world = filled(40);
        world.stop();
        world.config.index_capacity = Some(capacity);
        let progress = world.open().expect("opens");
        assert_eq!(progress.from_snapshot, taken, "{capacity}");
        let wanted = crate::slab::index::Index::slots_for(if taken { 2000 } else { capacity });
        assert_eq!(world.stats().index_slots, wanted as u64, "{capacity}");
        assert_eq!(held(&mut world, 40).len(), 40, "{capacity}");
    }
}
