//! What a shard may have held and knows nothing of: on a device that was replaced, or is damaged.

use std::time::Duration;

use hedgerow_wire::Version;
use hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;
use hedgerow_wire::part::{PartAnswer, PartMeta, PartWrite, Standing, WritePurpose};

use crate::slab::layout::SLABS_START;
use crate::slab::testing::{Answer, Crash, World, name, part, put};

const SLAB: u32 = 64 << 10;

fn repair(meta: &PartMeta) -> PartWrite {
    PartWrite { purpose: WritePurpose::Repair, ..put(meta) }
}

/// What an absence is worth.
fn absence(answer: &Answer) -> (Version, bool) {
    match answer {
        PartAnswer::Absent { forgotten_through, unknown } => (*forgotten_through, *unknown),
        other => panic!("{other:?}"),
    }
}

/// A device that was formatted at this moment.
fn replaced() -> World {
    let mut world = World::blank(8, SLAB, 3, |_| {});
    assert!(world.open().expect("a blank device opens").formatted);
    world
}

#[test]
fn a_new_device_confirms_nothing_of_before() {
    let mut world = replaced();
    // A second ahead of the clock is the most that any shard has ever accepted.
    let newest = Version::hlc_from_wall_us(world.now.wall_us + CLOCK_AHEAD_US_MAX);
    let highest = Version { hlc: newest, coordinator: u16::MAX };
    for how in ["new", "crashed", "stopped"] {
        let version = world.version(0);
        assert_eq!(absence(&world.confirm(&name(1, 0), version)), (highest, true), "{how}");
        assert_eq!(absence(&world.read(&name(1, 0))), (highest, true), "{how}");
        assert_eq!(world.store().highest_version(), highest, "the next version is to be above: {how}");
        assert_eq!(world.stats().forgotten_through_hlc, 0);
        let progress = if how == "new" { world.crash(Crash::Power) } else { world.restart() };
        assert!(!progress.formatted);
    }
    // Of what was written later it knows all.
    world.advance(Duration::from_secs(2));
    let later = world.version(0);
    assert!(absence(&world.confirm(&name(1, 0), later)).0 < later);
    world.put(&part(&name(1, 0), later, 100));
    world.drop_record(&name(1, 0), later);
    assert_eq!(absence(&world.read(&name(1, 0))), (later, false));
}

#[test]
fn a_new_device_takes_repairs_of_before() {
    let mut world = replaced();
    let old = Version { hlc: world.version(0).hlc - 1000, coordinator: 1 };
    let older = Version { hlc: old.hlc - 1000, coordinator: 1 };
    assert_eq!(world.write(&repair(&part(&name(1, 0), old, 100))), PartAnswer::Stored);
    assert_eq!(world.confirm(&name(1, 0), old), PartAnswer::Held(Standing::Same));
    // What is held is held against a repair.
    assert_eq!(world.write(&repair(&part(&name(1, 0), older, 100))), PartAnswer::Superseded { version: old });
    world.crash(Crash::Kill);
    assert_eq!(world.held(&name(1, 0)), Some(old));
    // So is what was let go since the device was formatted.
    world.drop_record(&name(1, 0), old);
    assert_eq!(world.write(&repair(&part(&name(1, 0), older, 100))), PartAnswer::Superseded { version: old });
    assert_eq!(world.write(&repair(&part(&name(2, 0), old, 100))), PartAnswer::Stored);
    // And for a put it never was.
    assert_eq!(world.write(&put(&part(&name(3, 0), older, 100))), PartAnswer::Stored);
}

#[test]
fn a_clock_that_was_set_back_is_made_up_for_by_the_other_shards() {
    let mut world = replaced();
    let seen = Version { hlc: world.version(0).hlc + (3600 << 16), coordinator: 2 };
    world.store().raise_unknown(seen);
    world.drain();
    world.run();
    for how in ["raised", "crashed"] {
        assert_eq!(absence(&world.read(&name(1, 0))), (seen, true), "{how}");
        assert_eq!(world.store().highest_version(), seen);
        world.crash(Crash::Power);
    }
    // A shard that knows what it has held is sure of it.
    let mut world = World::new(8, SLAB, 3, |_| {});
    world.restart();
    let before = absence(&world.read(&name(1, 0)));
    world.store().raise_unknown(seen);
    assert_eq!(absence(&world.read(&name(1, 0))), before);
}

const LEN: u32 = 5000;
const PARTS: u32 = 8;

/// Parts in a slab that is open, each in a commit of its own; then damage, and a crash of the process.
fn damaged_and_killed(damage: impl Fn(&mut World)) -> World {
    let mut world = World::new(8, 256 << 10, 3, |config| config.commit_len_max = 16 << 10);
    for key in 0..PARTS {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), LEN));
    }
    world.advance(Duration::from_secs(60));
    damage(&mut world);
    world.crash(Crash::Kill);
    world
}

/// Flips a bit of what is held of a key, so many bytes into its part.
fn flip(world: &mut World, key: u32, at: usize) {
    let key = name(key, 0);
    let located = world.store().locate(key.hash, key.record).expect("is held");
    world.device.bytes[located.offset as usize + located.offset_in_bytes() + at] ^= 4;
}

fn unsure(world: &mut World) -> bool {
    let later = world.version(0);
    absence(&world.read(&name(99, 0))).0 > later
}

#[test]
fn a_part_of_the_open_slab_that_is_damaged_stays_what_is_held() {
    let mut world = damaged_and_killed(|world| flip(world, 3, 1000));
    for _ in 0..2 {
        assert!(!unsure(&mut world), "its name is known");
        assert_eq!(world.read(&name(3, 0)), PartAnswer::Damaged);
        world.crash(Crash::Kill);
    }
    let held = (0..PARTS).filter(|&key| key != 3 && world.held(&name(key, 0)).is_some()).count();
    assert_eq!(held as u32, PARTS - 1);
}

#[test]
fn an_older_version_does_not_come_back_in_the_place_of_a_damaged_one() {
    let mut world = World::new(8, 256 << 10, 3, |_| {});
    let (old, new) = (world.version(1), world.version(2));
    world.put(&part(&name(1, 0), old, LEN));
    world.put(&part(&name(1, 0), new, LEN));
    world.put(&part(&name(2, 0), new, LEN));
    flip(&mut world, 1, 1000);
    world.crash(Crash::Kill);
    assert_eq!(world.read(&name(1, 0)), PartAnswer::Damaged);
    assert_eq!(world.confirm(&name(1, 0), old), PartAnswer::Held(Standing::Newer));
}

#[test]
fn what_is_missing_without_a_name_makes_the_shard_unsure() {
    type Damage = fn(&mut World);
    let missing: [(&str, Damage); 5] = [
        ("a head", |world| flip(world, 3, 100)),
        ("a magic", |world| flip(world, 0, 0)),
        ("a run of blocks", |world| {
            let at = world.store().locate(name(2, 0).hash, name(2, 0).record).expect("is held").offset;
            world.device.bytes[at as usize..][..20_000].fill(0);
        }),
        ("a copy of the superblock", |world| world.device.bytes[4096 + 40] ^= 1),
        ("the beginning of a slab", |world| {
            let start = crate::slab::layout::slab_start(0, 256 << 10) as usize;
            world.device.bytes[start..][..8192].fill(7);
        }),
    ];
    for (what, damage) in missing {
        let mut world = damaged_and_killed(damage);
        assert!(unsure(&mut world), "{what}");
        world.restart();
        assert!(unsure(&mut world), "{what}, after a clean stop");
        // It takes what it lacks from repairs.
        let old = Version { hlc: world.version(0).hlc - (3600 << 16), coordinator: 1 };
        assert_eq!(world.write(&repair(&part(&name(50, 0), old, 10))), PartAnswer::Stored, "{what}");
    }
}

#[test]
fn what_was_written_last_may_be_torn() {
    // Nothing that came later says that it was there.
    let mut world = damaged_and_killed(|world| {
        flip(world, PARTS - 1, 100);
    });
    assert!(!unsure(&mut world));
    assert_eq!(world.held(&name(PARTS - 1, 0)), None);
    // What follows keeps clear of it, and does not take it for damage.
    for key in 20..24 {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), LEN));
    }
    world.crash(Crash::Kill);
    assert!(!unsure(&mut world));
    world.restart();
    world.put(&part(&name(30, 0), world.version(0), LEN));
    world.crash(Crash::Kill);
    assert!(!unsure(&mut world));
    assert!((20..24).all(|key| world.held(&name(key, 0)).is_some()));
}

#[test]
fn what_the_power_took_with_it_is_no_damage() {
    let mut world = World::new(8, 256 << 10, 3, |config| config.commit_len_max = 16 << 10);
    for key in 0..PARTS {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), LEN));
    }
    flip(&mut world, 3, 100);
    world.config.boot += 1;
    world.crash(Crash::Kill);
    assert!(!unsure(&mut world));
    // Not even after a crash of the process alone, which takes nothing.
    world.put(&part(&name(10, 0), world.version(10), LEN));
    world.put(&part(&name(11, 0), world.version(11), LEN));
    world.crash(Crash::Kill);
    assert!(!unsure(&mut world));
    assert!([10, 11].iter().all(|&key| world.held(&name(key, 0)).is_some()));
    // The next crash is one of the process.
    world.put(&part(&name(20, 0), world.version(20), LEN));
    world.put(&part(&name(21, 0), world.version(21), LEN));
    flip(&mut world, 20, 100);
    world.crash(Crash::Kill);
    assert!(unsure(&mut world));
}

#[test]
fn nothing_is_appended_to_a_slab_of_which_a_piece_could_not_be_read() {
    let mut world = World::new(8, 256 << 10, 3, |config| config.commit_len_max = 16 << 10);
    for key in 0..PARTS {
        world.put(&part(&name(key, 0), world.version(u64::from(key)), LEN));
    }
    world.advance(Duration::from_secs(60));
    let image = world.device.bytes.clone();
    // Behind the first blocks, before the place of the contents table: only the scan reads it.
    world.device.unreadable = Some(SLABS_START + (100 << 10));
    world.crash(Crash::Kill);
    assert!(unsure(&mut world));
    world.put(&part(&name(20, 0), world.version(20), LEN));
    let slab = SLABS_START as usize..SLABS_START as usize + (192 << 10);
    assert!(world.device.bytes[slab.clone()] == image[slab], "its parts are left alone");
    world.crash(Crash::Kill);
    assert!(world.held(&name(20, 0)).is_some());
}

#[test]
fn a_slab_whose_header_was_zeroed_is_not_taken_for_blank() {
    for blocks in [1, 2, 8] {
        // A sealed slab is known by its first part, or its trailer; the open one by its first part.
        for (slab, parts) in [(0, 100), (0, PARTS)].into_iter().take(if blocks == 1 { 2 } else { 1 }) {
            let mut world = World::new(8, 256 << 10, 3, |config| config.commit_len_max = 16 << 10);
            for key in 0..parts {
                world.put(&part(&name(key, 0), world.version(u64::from(key)), LEN));
            }
            let start = crate::slab::layout::slab_start(slab, 256 << 10) as usize;
            world.device.bytes[start..][..blocks * 4096].fill(0);
            world.crash(Crash::Kill);
            let lost =
                (0..parts).filter(|&key| !matches!(world.read(&name(key, 0)), PartAnswer::Part { .. }));
            assert_eq!(lost.count(), blocks.saturating_sub(1).div_ceil(2), "{blocks} blocks, {parts} parts");
        }
    }
}
