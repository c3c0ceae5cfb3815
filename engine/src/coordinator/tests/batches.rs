//! Touches and drops: batched, bounded, lossy.

use hedgerow_wire::part::{PartDrop, PartTouch, RecordName};
use hedgerow_wire::types::{Code, Record, Target, Version};

use super::super::limits::{DROP_BATCH_MAX, TOUCH_BATCH_MAX};
use super::super::testing::{Asked, MS, World};

fn touched(world: &World) -> Vec<(Target, usize)> {
    let touch = |(_, target, asked): &(_, Target, Asked)| match asked {
        Asked::Touch(touches) => Some((*target, touches.len())),
        _ => None,
    };
    world.log.iter().filter_map(touch).collect()
}

#[test]
fn touches_are_sent_together_after_a_short_while() {
    let mut world = World::new("4+2", 8, |_| {});
    let names: Vec<RecordName> = (0..20).map(|index| world.name(&format!("key {index}"))).collect();
    let (large, small): (Code, Code) = ("4+2".parse().unwrap(), "1+2".parse().unwrap());
    for (index, name) in names.iter().enumerate() {
        world.coordinator.touch(name, World::old(10), if index < 10 { large } else { small }, world.now);
        // Used again at once: told only once.
        world.coordinator.touch(name, World::old(10), if index < 10 { large } else { small }, world.now);
    }
    assert_eq!(touched(&world), []);
    world.run_for(20 * MS);
    let touched = touched(&world);
    assert!(touched.len() <= 8, "one batch a target");
    assert_eq!(touched.iter().map(|(_, count)| count).sum::<usize>(), 10 * 6 + 10 * 3);
    assert_eq!(world.coordinator.stats().touches, 90);
    let used = |touch: &PartTouch| touch.hlc == World::old(10).hlc;
    assert!(world.log.iter().all(|(.., asked)| matches!(asked, Asked::Touch(all) if all.iter().all(used))));
    assert_eq!(world.coordinator.next_deadline(), None, "nothing is left to do");
}

#[test]
fn a_record_is_touched_again_after_a_while() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    for _ in 0..5 {
        world.coordinator.touch(&name, World::old(10), world.code, world.now);
        world.run_for(400 * MS);
    }
    assert_eq!(world.coordinator.stats().touches, 2 * 6);
}

#[test]
fn a_full_batch_is_sent_at_once() {
    let mut world = World::new("1+0", 1, |_| {});
    for index in 0..TOUCH_BATCH_MAX {
        let name = world.name(&format!("key {index}"));
        world.coordinator.touch(&name, World::old(10), world.code, world.now);
    }
    let name = world.name("key");
    let version = World::old(1);
    let drop = PartDrop { hash: name.hash, record: name.record, version };
    for _ in 0..DROP_BATCH_MAX {
        world.coordinator.drop_record(drop, world.now);
    }
    world.begin_read(world.request(&name));
    let sizes: Vec<usize> = world
        .log
        .iter()
        .filter_map(|(_, _, asked)| match asked {
            Asked::Touch(touches) => Some(touches.len()),
            Asked::Drop(drops) => Some(drops.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [TOUCH_BATCH_MAX, DROP_BATCH_MAX]);
}

#[test]
fn touches_and_drops_for_a_stuck_target_are_lost() {
    let mut world = World::new("4+2", 6, |config| config.target_ops_max = 1);
    let name = world.name("key");
    world.at(&name, 0).deaf = true;
    let op = world.begin_read(world.request(&name));
    world.coordinator.cancel_read(op, world.now);
    world.run_for(10 * MS);
    world.coordinator.touch(&name, World::old(10), world.code, world.now);
    let drop = PartDrop { hash: name.hash, record: name.record, version: World::old(1) };
    world.coordinator.drop_record(drop, world.now);
    let stats = world.coordinator.stats();
    assert_eq!((stats.touches, stats.touches_lost), (5, 1));
    assert_eq!((stats.drops, stats.drops_lost), (5, 1));
}

#[test]
fn what_one_target_evicted_the_others_drop() {
    let mut world = World::new("4+2", 8, |_| {});
    let object = world.name("key");
    let stripe = RecordName { record: Record::stripe(3), ..object.clone() };
    let untouched = RecordName { record: Record::stripe(4), ..object.clone() };
    let version = World::old(10);
    for name in [&object, &stripe, &untouched] {
        let meta = World::meta(name, version, world.code);
        world.place(name, &meta, &[0, 1, 2, 3, 4, 5]);
    }
    let from = world.order(&object)[2];
    let evicted = PartDrop { hash: stripe.hash, record: stripe.record, version };
    world.targets.get_mut(&from).unwrap().forget(stripe.hash, stripe.record);
    world.coordinator.evicted(&[evicted], from, world.now);
    world.run_for(10 * MS);
    assert_eq!(world.holders(&stripe, version), [] as [usize; 0]);
    assert_eq!(world.holders(&object, version), [] as [usize; 0], "the object goes as a whole");
    assert_eq!(world.holders(&untouched, version), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_newer_version_outlives_an_eviction() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let newer = World::meta(&name, World::old(5), world.code);
    world.place(&name, &newer, &[0, 1, 2, 3, 4, 5]);
    let evicted = PartDrop { hash: name.hash, record: name.record, version: World::old(10) };
    let from = world.order(&name)[0];
    world.coordinator.evicted(&[evicted], from, world.now);
    world.run_for(10 * MS);
    assert_eq!(world.holders(&name, newer.version), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn an_eviction_names_all_that_its_clock_gave() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let version = World::old(10);
    let from = world.order(&name)[0];
    world.coordinator.evicted(&[PartDrop { hash: name.hash, record: name.record, version }], from, world.now);
    world.run_for(10 * MS);
    let dropped = |asked: &(_, Target, Asked)| match &asked.2 {
        Asked::Drop(drops) => drops.clone(),
        _ => Vec::new(),
    };
    let drops: Vec<PartDrop> = world.log.iter().flat_map(dropped).collect();
    assert_eq!(drops.len(), 5);
    assert!(drops.iter().all(|drop| drop.version == Version::last_of_clock(version.hlc)));
}

#[test]
fn what_is_left_over_from_an_earlier_ring_drops_nothing() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    let evicted = PartDrop { hash: name.hash, record: name.record, version: meta.version };
    let outside = world.order(&name)[7];
    world.coordinator.evicted(&[evicted], outside, world.now);
    world.run_for(10 * MS);
    assert_eq!(world.holders(&name, meta.version), [0, 1, 2, 3, 4, 5]);
}
