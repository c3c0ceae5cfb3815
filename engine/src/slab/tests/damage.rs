//! Damaged parts: what is answered of them, what takes their place, and that nothing is forgotten.

use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartMeta, PartWrite, RecordName, Standing, WritePurpose};
use hedgerow_wire::{AckLevel, Version};

use crate::slab::damage::DamagedParts;
use crate::slab::exact::ExactVersions;
use crate::slab::testing::{Crash, World, name, part, put};

const SLAB: u32 = 256 << 10;
const SLABS: u32 = 8;
const LEN: u32 = 9000;
/// Offsets in a part of a byte of its head and one of its payload.
const PLACES: [usize; 2] = [44, 6000];

fn world() -> World {
    World::new(SLABS, SLAB, 1, |_| {})
}

/// Damages byte `at` of what is held of a record.
fn damage(world: &mut World, name: &RecordName, at: usize) {
    let located = world.store().locate(name.hash, name.record).expect("a part");
    world.device.bytes[located.offset as usize + located.offset_in_bytes() + at] ^= 4;
}

/// Forgets the exact versions, as a start does.
fn forget_exact(world: &mut World) {
    world.store().exact = ExactVersions::new(1);
}

fn repair(meta: &PartMeta) -> PartWrite {
    PartWrite { purpose: WritePurpose::Repair, ..put(meta) }
}

/// A world with a part that was found damaged.
fn damaged(at: usize, exact: bool) -> (World, RecordName, Version) {
    let mut world = world();
    let (key, version) = (name(1, 0), Version { coordinator: 7, ..world.version(5) });
    world.put(&part(&key, version, LEN));
    damage(&mut world, &key, at);
    if !exact {
        forget_exact(&mut world);
    }
    world.device.reads = 0;
    assert_eq!(world.read(&key), PartAnswer::Damaged);
    (world, key, version)
}

fn counts(world: &World) -> (u64, u64, u64) {
    let stats = world.stats();
    (stats.parts_damaged, stats.parts_damaged_now, stats.forgotten_through_hlc)
}

#[test]
fn damage_is_found_once_and_forgets_nothing() {
    // In the head's fields, the key, the payload.
    for at in [0, 16, 44, 58, 92, 195, 300, 8900] {
        for exact in [true, false] {
            let (mut world, key, version) = damaged(at, exact);
            assert_eq!(world.device.reads, 1);
            for wanted in [None, Some(version)] {
                let read = world.begin_read(&key, wanted);
                assert_eq!(world.answer(read), PartAnswer::Damaged, "byte {at}");
            }
            assert_eq!((world.device.reads, counts(&world)), (1, (1, 1, 0)), "byte {at}");
            assert!(world.touch(&key));
        }
    }
}

#[test]
fn two_reads_under_way_find_one_damage() {
    let mut world = world();
    world.put(&part(&name(1, 0), world.version(5), LEN));
    damage(&mut world, &name(1, 0), PLACES[1]);
    let (a, b) = (world.begin_read(&name(1, 0), None), world.begin_read(&name(1, 0), None));
    assert_eq!((world.answer(a), world.answers.remove(&b)), (PartAnswer::Damaged, Some(PartAnswer::Damaged)));
    assert_eq!(counts(&world), (1, 1, 0));
}

#[test]
fn the_same_version_takes_the_place_of_the_damaged_one() {
    for at in PLACES {
        for exact in [true, false] {
            for ack in AckLevel::ALL {
                for purpose in [WritePurpose::Repair, WritePurpose::Put] {
                    let (mut world, key, version) = damaged(at, exact);
                    let write = PartWrite { ack: *ack, purpose, ..put(&part(&key, version, LEN)) };
                    assert_eq!(world.write(&write), PartAnswer::Stored);
                    assert_eq!(world.held(&key), Some(version), "byte {at}, {ack:?}, {purpose:?}");
                    assert_eq!(counts(&world), (1, 0, 0));
                    // It is held now: a repeat is swallowed.
                    assert_eq!(world.write(&write), PartAnswer::Stored);
                    assert_eq!(world.stats().parts_admitted, 2);
                    world.crash(Crash::KillClean);
                    assert_eq!(world.held(&key), Some(version));
                }
            }
        }
    }
}

#[test]
fn a_repair_is_not_refused_for_what_befell_other_records() {
    for at in PLACES {
        let mut world = world();
        for n in 0..4 {
            world.put(&part(&name(n, 0), world.version(u64::from(n)), LEN));
            damage(&mut world, &name(n, 0), at);
        }
        for n in (0..4).rev() {
            assert_eq!(world.read(&name(n, 0)), PartAnswer::Damaged);
        }
        // One of them is forgotten: that covers the others' versions.
        world.drop_record(&name(3, 0), world.version(3));
        assert!(world.stats().forgotten_through_hlc > world.version(2).hlc - 1);
        for n in 0..3 {
            let version = world.version(u64::from(n));
            assert_eq!(world.write(&repair(&part(&name(n, 0), version, LEN))), PartAnswer::Stored);
            assert_eq!(world.held(&name(n, 0)), Some(version));
        }
        let gone = world.write(&repair(&part(&name(3, 0), world.version(2), LEN)));
        assert!(matches!(gone, PartAnswer::Superseded { .. }), "{gone:?}");
    }
}

#[test]
fn other_versions_are_ordered_as_ever() {
    for at in PLACES {
        for exact in [true, false] {
            for purpose in [WritePurpose::Repair, WritePurpose::Put] {
                let (mut world, key, version) = damaged(at, exact);
                let older = Version { hlc: version.hlc - 3, coordinator: 9 };
                let write = PartWrite { purpose, ..put(&part(&key, older, LEN)) };
                let answer = world.write(&write);
                assert!(matches!(answer, PartAnswer::Superseded { version: by } if by >= version));
                let newer = Version { hlc: version.hlc + 3, coordinator: 1 };
                let write = PartWrite { purpose, ..put(&part(&key, newer, LEN)) };
                assert_eq!(world.write(&write), PartAnswer::Stored);
                assert_eq!(world.held(&key), Some(newer));
                assert_eq!((counts(&world), world.device.reads), ((1, 0, 0), 2));
            }
        }
    }
}

#[test]
fn a_write_that_finds_the_damage_itself_is_decided_by_the_clock() {
    for (back, stored) in [(0, true), (3, false)] {
        let mut world = world();
        let (key, version) = (name(1, 0), world.version(5));
        world.put(&part(&key, version, LEN));
        damage(&mut world, &key, PLACES[0]);
        forget_exact(&mut world);
        world.store().damage = DamagedParts::new(0);
        let write = repair(&part(&key, Version { hlc: version.hlc - back, ..version }, LEN));
        let answer = world.write(&write);
        assert_eq!(answer == PartAnswer::Stored, stored, "{answer:?}");
        assert_eq!(counts(&world), (1, u64::from(!stored), 0));
    }
}

#[test]
fn a_confirm_tells_what_is_still_true() {
    for at in PLACES {
        for exact in [true, false] {
            let (mut world, key, version) = damaged(at, exact);
            let reads = world.device.reads;
            // Held it is, but it has to be written anew.
            assert_eq!(world.confirm(&key, version), PartAnswer::Damaged, "byte {at}, {exact}");
            let newer = Version { hlc: version.hlc + 1, ..version };
            assert_eq!(world.confirm(&key, newer), PartAnswer::Held(Standing::Older));
            let older = Version { hlc: version.hlc - 1, ..version };
            assert_eq!(world.confirm(&key, older), PartAnswer::Held(Standing::Newer));
            assert_eq!(world.device.reads, reads);
        }
    }
}

#[test]
fn a_drop_lets_the_damaged_part_go() {
    for at in PLACES {
        for (exact, found) in [(true, true), (false, true), (false, false)] {
            let mut world = world();
            let (key, version) = (name(1, 0), world.version(5));
            world.put(&part(&key, version, LEN));
            damage(&mut world, &key, at);
            if !exact {
                forget_exact(&mut world);
            }
            if found {
                assert_eq!(world.read(&key), PartAnswer::Damaged);
            }
            world.drop_record(&key, Version { hlc: version.hlc - 1, ..version });
            assert_eq!(world.stats().parts, 1);
            world.drop_record(&key, version);
            world.run();
            let answer = world.read(&key);
            let gone = matches!(answer, PartAnswer::Absent { forgotten_through, .. } if forgotten_through >= version);
            assert!(gone, "byte {at}, {exact}, {found}: {answer:?}");
            assert_eq!((world.stats().parts_damaged_now, world.stats().parts_dropped), (0, 1));
        }
    }
}

#[test]
fn a_damaged_part_expires() {
    let mut world = world();
    let (key, version) = (name(1, 0), world.version(5));
    let expires_ms = world.now.wall_ms() + 100;
    world.put(&PartMeta { expires_ms, ..part(&key, version, LEN) });
    damage(&mut world, &key, PLACES[1]);
    assert_eq!(world.read(&key), PartAnswer::Damaged);
    world.advance(Duration::from_millis(100));
    let answer = world.read(&key);
    assert!(matches!(answer, PartAnswer::Absent { forgotten_through, .. } if forgotten_through == version));
    assert_eq!((world.stats().parts_damaged_now, world.stats().parts_expired), (0, 1));
}

#[test]
fn eviction_lets_damaged_parts_go() {
    for at in PLACES {
        for found_before in [true, false] {
            let mut world = world();
            let version = world.version(1);
            for n in 0..2 {
                world.put(&PartMeta { pinned: true, ..part(&name(n, 0), version, LEN) });
            }
            damage(&mut world, &name(0, 0), at);
            if found_before {
                assert_eq!(world.read(&name(0, 0)), PartAnswer::Damaged);
            }
            for n in 100..240 {
                world.put(&part(&name(n, 0), world.version(0), 16_000));
                world.advance(Duration::from_micros(100));
            }
            assert_eq!(world.held(&name(1, 0)), Some(version), "the other one is kept");
            let answer = world.read(&name(0, 0));
            let gone = matches!(answer, PartAnswer::Absent { forgotten_through, .. } if forgotten_through >= version);
            assert!(gone, "byte {at}, {found_before}: {answer:?}");
            let stats = world.stats();
            assert_eq!((stats.parts_damaged, stats.parts_damaged_now, stats.overloaded), (1, 0, 0));
            assert!(world.evicted.iter().any(|part| part.hash == name(0, 0).hash));
        }
    }
}

#[test]
fn the_notes_are_bounded_and_what_is_not_noted_is_found_again() {
    let mut world = world();
    world.store().damage = DamagedParts::new(4);
    for n in 0..20 {
        world.put(&part(&name(n, 0), world.version(1), LEN));
        damage(&mut world, &name(n, 0), PLACES[1]);
    }
    for _ in 0..2 {
        for n in 0..20 {
            assert_eq!(world.read(&name(n, 0)), PartAnswer::Damaged);
            assert!(world.stats().parts_damaged_now <= 4);
        }
    }
    assert!(world.device.reads > 20);
    for n in 0..20 {
        assert_eq!(world.read(&name(n, 0)), PartAnswer::Damaged);
        assert_eq!(world.write(&repair(&part(&name(n, 0), world.version(1), LEN))), PartAnswer::Stored);
        assert_eq!(world.held(&name(n, 0)), Some(world.version(1)));
    }
    assert_eq!((world.stats().parts_damaged_now, world.stats().forgotten_through_hlc), (0, 0));
}

#[test]
fn after_a_start_the_damage_is_found_again() {
    let (mut world, key, version) = damaged(PLACES[1], true);
    world.restart();
    assert_eq!(counts(&world), (0, 0, 0));
    assert_eq!(world.read(&key), PartAnswer::Damaged);
    assert_eq!(counts(&world), (1, 1, 0));
    assert_eq!(world.write(&repair(&part(&key, version, LEN))), PartAnswer::Stored);
    assert_eq!(world.held(&key), Some(version));
}

#[test]
fn a_repair_is_not_swallowed_while_an_older_write_is_under_way() {
    let mut world = world();
    world.shuffle = false;
    let (key, older, version) = (name(1, 0), world.version(1), world.version(5));
    // Three batches: the newest version is on the device before the older one is.
    world.begin_write(&put(&part(&name(2, 0), older, LEN)));
    world.run();
    world.answers.clear();
    let slow = world.begin_write(&put(&part(&key, older, LEN)));
    world.begin_write(&put(&part(&key, version, LEN)));
    // Fills the batch, so that it goes out beside the first one.
    for n in 10..40 {
        world.begin_write(&put(&part(&name(n, 0), older, LEN)));
    }
    assert!(world.device.under_way.len() >= 2, "{}", world.device.under_way.len());
    let held_back = world.device.under_way.remove(0);
    assert!(world.step());
    damage(&mut world, &key, PLACES[1]);
    let read = world.begin_read(&key, None);
    while !world.answers.contains_key(&read) {
        assert!(world.step());
    }
    assert_eq!(world.answers.remove(&read), Some(PartAnswer::Damaged));
    assert!(!world.answers.contains_key(&slow));
    let fix = world.begin_write(&repair(&part(&key, version, LEN)));
    while world.step() {}
    world.device.under_way.push(held_back);
    world.run();
    assert_eq!(world.answers.remove(&fix), Some(PartAnswer::Stored));
    assert_eq!(world.held(&key), Some(version));
}
