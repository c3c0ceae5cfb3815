//! Damaged parts stay what their targets hold; and what only a read of the device can tell.

use hedgerow_wire::part::RecordName;
use hedgerow_wire::types::{Code, Version};

use super::super::ReadOutcome;
use super::super::testing::{Bytes, Damage, MS, World, found};

const KINDS: [Damage; 2] = [Damage::Payload, Damage::Head];

fn small() -> Code {
    "1+2".parse().unwrap()
}

/// A world of `4+2` with an old copy of a small object on the first target, and a newer version on the
/// other two.
fn overwritten() -> (World, RecordName, Version) {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    world.place(&name, &World::meta(&name, World::old(100), small()), &[0]);
    let newer = World::meta(&name, World::old(50), small());
    world.place(&name, &newer, &[1, 2]);
    (world, name, newer.version)
}

fn get(world: &mut World, name: &RecordName, hint: bool) -> ReadOutcome<Bytes> {
    let mut request = world.request(name);
    request.code_hint = hint.then(small);
    world.read(request)
}

#[test]
fn what_is_newer_and_cannot_be_read_is_not_forgotten() {
    for hint in [false, true] {
        for damage in KINDS {
            let (mut world, name, _) = overwritten();
            for slot in [1, 2] {
                world.at(&name, slot).damaged.insert((name.hash, name.record), damage);
            }
            let outcome = get(&mut world, &name, hint);
            assert!(matches!(outcome, ReadOutcome::Unavailable { .. }), "{damage:?}: {outcome:?}");
        }
    }
    // A confirmation says that there is something newer, and then the device fails.
    let (mut world, name, _) = overwritten();
    for slot in [1, 2] {
        world.at(&name, slot).fail_reads = true;
    }
    let outcome = get(&mut world, &name, true);
    assert!(matches!(outcome, ReadOutcome::Unavailable { .. }), "{outcome:?}");
}

#[test]
fn what_is_newer_and_can_be_read_elsewhere_is_found() {
    for damage in KINDS {
        for hint in [false, true] {
            let (mut world, name, newer) = overwritten();
            world.at(&name, 1).damaged.insert((name.hash, name.record), damage);
            assert_eq!(found(&get(&mut world, &name, hint)), (newer, vec![2], true), "{damage:?}");
        }
    }
}

#[test]
fn a_damaged_part_is_written_anew_whatever_was_forgotten() {
    for damage in KINDS {
        for hint in [false, true] {
            let mut world = World::new("4+2", 8, |_| {});
            let name = world.name("key");
            let meta = World::meta(&name, World::old(100), small());
            world.place(&name, &meta, &[0, 1, 2]);
            let at = (name.hash, name.record);
            world.at(&name, 1).damaged.insert(at, damage);
            world.at(&name, 1).forgotten = World::old(1);
            assert_eq!(found(&get(&mut world, &name, hint)), (meta.version, vec![0], true));
            world.run_for(100 * MS);
            assert!(world.at(&name, 1).damaged.is_empty(), "{damage:?}, {hint}");
        }
    }
}

#[test]
fn damage_beyond_the_parts_that_are_read_is_found_by_a_survey() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(100), world.code);
    world.place(&name, &meta, &[0, 1, 2, 3, 5]);
    world.at(&name, 5).damaged.insert((name.hash, name.record), Damage::Payload);
    let missing = world.order(&name)[4];
    world.coordinator.touch(&name, World::old(10), meta.code, world.now);
    world.coordinator.touch_missed(name.hash, name.record, missing, world.now);
    world.run_for(3_000 * MS);
    assert!(world.at(&name, 5).damaged.is_empty());
    assert_eq!(world.holders(&name, meta.version), [0, 1, 2, 3, 4, 5]);
    assert_eq!(world.coordinator.stats().under_redundant, 0);
}

/// Nobody knows more than the clocks of what is held.
fn clocks_only(world: &mut World) {
    for target in world.targets.values_mut() {
        target.exact = false;
    }
}

#[test]
fn where_the_clock_does_not_tell_a_part_is_read() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(100), small());
    world.place(&name, &meta, &[0, 1, 2]);
    clocks_only(&mut world);
    assert_eq!(found(&get(&mut world, &name, true)), (meta.version, vec![0], true));
    assert_eq!(world.asked(&name, 0), "0r 1c 1r");
    // Another clock tells, without the device.
    let mut world = World::new("4+2", 8, |_| {});
    world.place(&name, &meta, &[0, 1]);
    world.place(&name, &World::meta(&name, World::old(200), small()), &[2]);
    clocks_only(&mut world);
    world.at(&name, 1).always = Some(hedgerow_wire::part::PartAnswer::Failed);
    assert_eq!(found(&get(&mut world, &name, true)), (meta.version, vec![0], true));
    assert_eq!(world.asked(&name, 0), "0r 1c 2c 2x");
}

#[test]
fn two_versions_of_one_clock_are_told_apart() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let older = World::meta(&name, World::old(100), small());
    let newer = Version { coordinator: older.version.coordinator + 1, ..older.version };
    world.place(&name, &older, &[0]);
    world.place(&name, &World::meta(&name, newer, small()), &[1, 2]);
    clocks_only(&mut world);
    assert_eq!(found(&get(&mut world, &name, true)), (newer, vec![1], true));
}

#[test]
fn a_device_that_is_stuck_holds_up_no_confirmation() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(100), small());
    world.place(&name, &meta, &[0, 1, 2]);
    clocks_only(&mut world);
    for _ in 0..20 {
        get(&mut world, &name, true);
    }
    world.at(&name, 1).delay = 10_000 * MS;
    let begun = world.now.mono;
    assert_eq!(found(&get(&mut world, &name, true)), (meta.version, vec![0], true));
    assert!(world.now.mono.since(begun) < 5 * MS, "another one is asked");
}
