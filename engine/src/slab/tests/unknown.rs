//! What a shard may have held and knows nothing of: on a device that was replaced, or is damaged.

use std::time::Duration;

use hedgerow_wire::Version;
use hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;
use hedgerow_wire::part::{PartAnswer, PartMeta, PartWrite, Standing, WritePurpose};

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
