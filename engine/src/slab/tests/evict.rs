//! What is let go, what is kept, and at what cost.

use std::collections::HashMap;
use std::time::Duration;

use hedgerow_wire::limits::TOMBSTONE_KEEP_US;
use hedgerow_wire::part::{PartAnswer, PartMeta, PartWrite, Standing, WritePurpose};
use hedgerow_wire::{AckLevel, Record, Version};
use rand::Rng;

use crate::slab::evict::{Fate, Life, fate};
use crate::slab::layout::{BLOCK_LEN, SLABS_START, slab_start};
use crate::slab::superblock::Superblock;
use crate::slab::testing::{Crash, Op, World, name, part, put, tombstone};

const SLAB: u32 = 256 << 10;
const SLABS: u32 = 8;

fn world() -> World {
    World::new(SLABS, SLAB, 5, |_| {})
}

/// Writes so many slabs full of other parts, under keys of their own.
fn fill(world: &mut World, slabs: f64) {
    let parts = (f64::from(SLAB) * slabs / 16_600.0) as u32;
    for _ in 0..parts {
        let key = world.rng.random_range(1_000_000..u32::MAX);
        world.put(&part(&name(key, 0), world.version(0), 16_000));
        world.advance(Duration::from_micros(100));
    }
}

#[test]
fn the_fate_of_a_part() {
    let plain = Life {
        expired: false,
        damaged: false,
        being_replaced: false,
        tombstone: false,
        young: true,
        orphan: false,
        pinned: false,
        touched: false,
    };
    let cases = [
        (plain, Fate::Forget),
        (Life { touched: true, ..plain }, Fate::KeepTouched),
        (Life { pinned: true, ..plain }, Fate::KeepPinned),
        (Life { pinned: true, touched: true, ..plain }, Fate::KeepPinned),
        (Life { tombstone: true, ..plain }, Fate::KeepTombstone),
        (Life { tombstone: true, young: false, touched: true, ..plain }, Fate::Forget),
        (Life { tombstone: true, young: false, pinned: true, ..plain }, Fate::Forget),
        (Life { orphan: true, touched: true, pinned: true, ..plain }, Fate::Forget),
        (Life { expired: true, touched: true, pinned: true, ..plain }, Fate::Forget),
        (Life { expired: true, tombstone: true, ..plain }, Fate::Forget),
        (Life { damaged: true, tombstone: true, pinned: true, ..plain }, Fate::Forget),
        (Life { being_replaced: true, touched: true, tombstone: true, ..plain }, Fate::Forget),
    ];
    for (life, expected) in cases {
        assert_eq!(fate(&life), expected, "{life:?}");
    }
}

#[test]
fn several_fulls_of_the_device_at_a_write_amplification_near_one() {
    let mut world = world();
    fill(&mut world, f64::from(SLABS) * 5.0);
    let stats = world.stats();
    let amplification = stats.bytes_written as f64 / stats.bytes_admitted as f64;
    assert!(amplification < 1.25, "{amplification}: {stats:?}");
    assert!(stats.slabs_evicted > u64::from(SLABS) * 3 && stats.bytes_reinserted == 0);
    assert_eq!(stats.parts_evicted, world.evicted.len() as u64);
    assert!(stats.slabs_free >= 2, "{stats:?}");
    assert_eq!(stats.overloaded, 0);
    // Nothing else was written than the store says, and the three superblocks of the formatting.
    assert_eq!(stats.bytes_written + 3 * BLOCK_LEN as u64, world.device.bytes_written);
}

#[test]
fn what_is_used_stays_and_what_is_not_goes() {
    let mut world = world();
    for key in 0..20 {
        let meta = part(&name(key, 0), world.version(1), 3000);
        world.put(&PartMeta { pinned: key >= 15, ..meta });
    }
    for _ in 0..8 {
        for key in 0..10 {
            assert!(world.touch(&name(key, 0)));
        }
        fill(&mut world, f64::from(SLABS - 4));
    }
    for key in 0..20 {
        let held = world.held(&name(key, 0)).is_some();
        assert_eq!(held, !(10..15).contains(&key), "key {key}");
    }
    let stats = world.stats();
    assert!(stats.parts_reinserted >= 60);
    for key in 10..15 {
        assert_eq!(world.evicted.iter().filter(|part| part.hash == name(key, 0).hash).count(), 1);
    }
    // The mark is used up: what is not used again goes the next time.
    fill(&mut world, f64::from(SLABS) * 2.0);
    assert_eq!(world.held(&name(3, 0)), None);
}

#[test]
fn what_was_evicted_is_absent_and_admitted_to_be_forgotten() {
    let mut world = world();
    let version = world.version(1);
    world.put(&part(&name(1, 0), version, 100));
    fill(&mut world, f64::from(SLABS) * 1.5);
    for crash in [None, Some(Crash::KillClean), Some(Crash::Power)] {
        if let Some(crash) = crash {
            world.crash(crash);
        }
        match world.read(&name(1, 0)) {
            PartAnswer::Absent { forgotten_through, .. } => assert!(forgotten_through >= version),
            other => panic!("{other:?}"),
        }
        let repair = PartWrite { purpose: WritePurpose::Repair, ..put(&part(&name(1, 0), version, 100)) };
        let answer = world.write(&repair);
        assert!(matches!(answer, PartAnswer::Superseded { version: newer } if newer > version), "{answer:?}");
    }
}

#[test]
fn a_slab_that_was_let_go_holds_nothing_after_a_crash_though_nothing_was_written_over_it() {
    for crash in [Crash::KillClean, Crash::Power] {
        let mut world = world();
        world.put(&part(&name(1, 0), world.version(1), 100));
        while world.stats().slabs_evicted == 0 {
            fill(&mut world, 0.1);
        }
        let generation = world.store().slabs.generation(0);
        world.crash(crash);
        assert_eq!((generation, world.held(&name(1, 0))), (1, None), "slab 0 was not used again");
    }
}

#[test]
fn the_power_takes_nothing_whose_old_place_is_let_go() {
    let mut world = world();
    let kept = PartMeta { pinned: true, ..part(&name(1, 0), world.version(1), 1000) };
    let replaced = [part(&name(2, 0), world.version(1), 1000), part(&name(2, 0), world.version(2), 2000)];
    for meta in [&kept, &replaced[0]] {
        assert_eq!(world.write(&PartWrite { ack: AckLevel::Synced, ..put(meta) }), PartAnswer::Stored);
    }
    let (mut written_anew, mut superblocks) = (false, 0);
    for key in 10..200 {
        // The newer version is in the open slab when the first slab goes.
        if !written_anew && world.stats().slabs_free <= u64::from(world.config.free_slabs_target) {
            world.begin_write(&put(&replaced[1]));
            written_anew = true;
        }
        world.begin_write(&put(&part(&name(key, 0), world.version(0), 16_000)));
        while world.step() {
            let superblock = world.device.under_way.iter().find_map(|(_, op)| match op {
                Op::Write { offset, buf } if *offset < SLABS_START => Some((*offset as usize, buf.clone())),
                _ => None,
            });
            let Some((offset, block)) = superblock else { continue };
            superblocks += 1;
            // The superblock is all that is left of what was not flushed.
            let mut image = world.device.durable.clone();
            image[offset..offset + block.len()].copy_from_slice(&block);
            let mut after = world.after(image, None);
            after.open().expect("opens");
            for key in [1, 2] {
                assert!(after.held(&name(key, 0)).is_some(), "key {key} at superblock {superblocks}");
            }
        }
        if superblocks > 0 && world.stats().slabs_evicted > 1 {
            break;
        }
    }
    assert!(written_anew && superblocks > 0, "{superblocks}");
}

#[test]
fn reinsertion_is_bounded_when_everything_is_used() {
    let mut world = World::new(SLABS, SLAB, 5, |config| config.reinsert_percent = 40);
    let mut key = 0;
    for _ in 0..SLABS * 60 {
        key += 1;
        world.put(&part(&name(key, 0), world.version(1), 16_000));
        for key in 0..=key {
            world.touch(&name(key, 0));
        }
        world.advance(Duration::from_micros(100));
    }
    let stats = world.stats();
    let share = stats.bytes_reinserted as f64 / (stats.slabs_evicted as f64 * f64::from(SLAB));
    assert!((0.3..=0.4).contains(&share), "{share}");
    assert_eq!(stats.overloaded, 0);
}

#[test]
fn a_tombstone_meets_laggards_until_it_is_old() {
    let mut world = world();
    let (older, delete) = (world.version(1), world.version(5));
    world.put(&part(&name(1, 0), older, 100));
    world.put(&tombstone(&name(1, 0), delete));
    for _ in 0..4 {
        fill(&mut world, f64::from(SLABS));
        let laggard = put(&part(&name(1, 0), older, 100));
        assert_eq!(world.write(&laggard), PartAnswer::Superseded { version: delete });
    }
    world.advance(Duration::from_micros(TOMBSTONE_KEEP_US));
    fill(&mut world, f64::from(SLABS) * 2.0);
    match world.read(&name(1, 0)) {
        PartAnswer::Absent { forgotten_through, .. } => assert!(forgotten_through >= delete),
        other => panic!("{other:?}"),
    }
    assert!(world.evicted.iter().all(|part| part.hash != name(1, 0).hash), "siblings age by themselves");
}

#[test]
fn tombstones_are_kept_first_and_counted_when_they_cannot_be() {
    let mut world = World::new(SLABS, SLAB, 5, |config| {
        config.reinsert_percent = 20;
        config.index_capacity = Some(20_000);
    });
    for key in 0..6000 {
        world.put(&tombstone(&name(key, 0), world.version(1)));
        world.touch(&name(key, 0));
    }
    fill(&mut world, f64::from(SLABS) * 2.0);
    let stats = world.stats();
    assert!(stats.tombstones_cut > 0 && stats.overloaded == 0, "{stats:?}");
}

#[test]
fn stripes_go_with_their_object() {
    // What became of the object, and whether a stripe that is used stays.
    for (case, stays) in [("same", true), ("newer", false), ("deleted", false), ("gone", false)] {
        let mut world = world();
        let (version, newer) = (world.version(1), world.version(7));
        world.put(&part(&name(1, 2), version, 3000));
        world.put(&part(&name(1, 0), version, 100));
        match case {
            "newer" => world.put(&part(&name(1, 0), newer, 100)),
            "deleted" => world.put(&tombstone(&name(1, 0), newer)),
            "gone" => drop(world.drop_record(&name(1, 0), version)),
            _ => {}
        }
        for _ in 0..2 {
            world.touch(&name(1, 0));
            world.touch(&name(1, 2));
            fill(&mut world, f64::from(SLABS - 2));
        }
        assert_eq!(world.held(&name(1, 2)).is_some(), stays, "{case}");
        assert_eq!(name(1, 2).record, Record(2));
    }
}

#[test]
fn what_is_expired_is_not_kept() {
    let mut world = world();
    let version = world.version(1);
    let expires_ms = world.now.wall_ms() + 1;
    world.put(&PartMeta { expires_ms, pinned: true, ..part(&name(1, 0), version, 100) });
    world.touch(&name(1, 0));
    fill(&mut world, f64::from(SLABS) * 1.5);
    assert_eq!(world.stats().parts_reinserted, 0);
}

#[test]
fn a_slab_that_is_read_is_not_written_to() {
    let mut world = world();
    let meta = part(&name(1, 0), world.version(1), 3000);
    world.put(&meta);
    let read = world.begin_read(&name(1, 0), None);
    let Some(held_back) = world.device.under_way.pop() else { panic!("a read is under way") };
    fill(&mut world, f64::from(SLABS) * 2.0);
    let slab = world.store().slabs.readers(0);
    assert_eq!(slab, 1);
    // The device answers late: the part is still what it was.
    let (io, Op::Read { offset, len }) = held_back else { panic!("a read is under way") };
    world.device.under_way.push((io, Op::Read { offset, len }));
    assert!(matches!(world.answer(read), PartAnswer::Part { meta: found, .. } if found == meta));
    let generation = world.store().slabs.generation(0);
    fill(&mut world, f64::from(SLABS) * 2.0);
    assert!(world.store().slabs.generation(0) > generation, "the slab is used again after");
}

#[test]
fn reads_that_never_come_back_cost_their_slabs_and_no_more() {
    let mut world = world();
    for key in 0..3 {
        world.put(&part(&name(key, 0), world.version(1), 3000));
        fill(&mut world, 0.9);
        world.begin_read(&name(key, 0), None);
        world.device.under_way.pop().expect("a read is under way");
    }
    fill(&mut world, f64::from(SLABS) * 4.0);
    let stats = world.stats();
    assert_eq!((stats.overloaded, stats.reads_under_way), (0, 3), "{stats:?}");
    assert!(stats.slabs_evicted > 20);
}

#[test]
fn discards_come_before_the_slab_is_used_again() {
    let mut world = World::new(SLABS, SLAB, 5, |config| config.discard = true);
    fill(&mut world, f64::from(SLABS) * 3.0);
    let stats = world.stats();
    assert!(stats.slabs_evicted > u64::from(SLABS) && stats.overloaded == 0 && stats.slabs_free >= 2);
    world.put(&part(&name(1, 0), world.version(1), 100));
    assert!(world.held(&name(1, 0)).is_some());
}

#[test]
fn a_slab_without_a_table_is_forgotten_unseen() {
    let mut world = world();
    let version = world.version(1);
    world.put(&part(&name(1, 0), version, 100));
    world.touch(&name(1, 0));
    fill(&mut world, 1.2);
    let trailer = slab_start(1, SLAB) as usize - BLOCK_LEN;
    assert_eq!(trailer as u64, SLABS_START + u64::from(SLAB) - BLOCK_LEN as u64);
    world.device.bytes[trailer + 20] ^= 1;
    fill(&mut world, f64::from(SLABS) * 1.5);
    let stats = world.stats();
    assert_eq!((stats.tables_damaged, stats.overloaded), (1, 0));
    match world.read(&name(1, 0)) {
        PartAnswer::Absent { forgotten_through, .. } => assert!(forgotten_through >= version),
        other => panic!("{other:?}"),
    }
}

/// Writes other parts until eviction reads the first part of slab 0 to keep it.
fn until_kept(world: &mut World) {
    let begin = slab_start(0, SLAB) + BLOCK_LEN as u64;
    let reads_it = |(_, op): &(_, Op)| matches!(op, Op::Read { offset, .. } if *offset == begin);
    let mut filler = 1000;
    while !world.device.under_way.iter().any(reads_it) {
        if !world.step() {
            filler += 1;
            world.begin_write(&put(&part(&name(filler, 0), world.version(2), 16_000)));
        }
    }
}

#[test]
fn what_is_being_replaced_is_not_written_behind_its_successor() {
    let mut world = world();
    let key = name(1, 0);
    world.put(&part(&key, world.version(1), 3000));
    world.touch(&key);
    until_kept(&mut world);
    let new = world.version(7);
    let token = world.begin_write(&put(&part(&key, new, 3000)));
    assert_eq!(world.answer(token), PartAnswer::Stored);
    assert_eq!((world.stats().parts_reinserted, world.held(&key)), (0, Some(new)));
}

#[test]
fn what_is_dropped_while_it_is_kept_stays_dropped() {
    // The clock decides at once, or the header after a read that eviction overtakes.
    for later in [5, 0] {
        let mut world = world();
        let (key, version) = (name(1, 0), world.version(1));
        world.put(&part(&key, version, 3000));
        world.touch(&key);
        until_kept(&mut world);
        while world.stats().parts_reinserted == 0 {
            assert!(world.step());
        }
        world.drop_record(&key, Version { hlc: version.hlc + later, ..version });
        world.run();
        assert_eq!(world.held(&key), None, "{later} later");
    }
}

#[test]
fn copies_of_the_superblock_are_written_in_turn() {
    let mut world = world();
    fill(&mut world, f64::from(SLABS) * 2.0);
    let copy = |at: usize| Superblock::decode(&world.device.bytes[at * BLOCK_LEN..][..BLOCK_LEN]);
    let mut sequences: Vec<u64> = (0..3).map(|at| copy(at).expect("a superblock").sequence).collect();
    sequences.sort_unstable();
    assert!(sequences[0] > 3 && sequences[2] == sequences[0] + 2, "{sequences:?}");
}

#[test]
fn a_newer_version_under_way_is_not_overtaken_by_the_old_one() {
    // The old version is used, so that eviction keeps it, while a newer one is written; after every
    // crash what is read is never older than what was acknowledged.
    for seed in 0..40 {
        let mut world = World::new(SLABS, SLAB, seed, |_| {});
        world.shuffle = true;
        let mut acknowledged: HashMap<u32, Version> = HashMap::new();
        for round in 0..30 {
            for key in 0..4 {
                world.touch(&name(key, 0));
            }
            let tokens: Vec<_> = (0..4)
                .map(|key| {
                    let version = world.version(round);
                    (key, version, world.begin_write(&put(&part(&name(key, 0), version, 5000))))
                })
                .collect();
            for _ in 0..world.rng.random_range(0..8) {
                world.step();
            }
            for (key, version, token) in tokens {
                if world.answers.get(&token) == Some(&PartAnswer::Stored) {
                    acknowledged.insert(key, version);
                }
            }
            world.answers.clear();
            fill(&mut world, 0.7);
            world.answers.clear();
        }
        world.crash(Crash::Kill);
        for (key, version) in acknowledged {
            match world.confirm(&name(key, 0), version) {
                PartAnswer::Held(Standing::Same | Standing::SameClock | Standing::Newer) => {}
                PartAnswer::Absent { forgotten_through, .. } => assert!(forgotten_through >= version),
                other => panic!("seed {seed}, key {key}: {other:?}"),
            }
        }
    }
}
