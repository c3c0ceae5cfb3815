//! Redundancy comes back: in the background, within its budget, with the confirmations of a read.

use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartMeta, RecordName, WritePurpose};
use hedgerow_wire::types::{AckLevel, ReadPolicy};

use super::super::limits::{REPAIR_ATTEMPTS_MAX, REPAIR_NOTES_MAX, REPAIRS_MAX};
use super::super::testing::{Asked, Damage, MS, World, found};
use super::super::{Miss, ReadOutcome};

#[test]
fn what_a_read_finds_missing_or_damaged_is_completed_from_its_own_parts() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 2, 3, 4, 5]);
    world.at(&name, 2).damaged.insert((name.hash, name.record), Damage::Payload);
    assert_eq!(found(&world.get(&name)), (meta.version, vec![0, 3, 4, 5], true));
    let from = world.log.len();
    world.run_for(100 * MS);
    assert_eq!(world.holders(&name, meta.version), [0, 1, 2, 3, 4, 5]);
    assert!(!world.asked(&name, from).contains('r'), "nothing is read again");
    let stats = world.coordinator.stats();
    assert_eq!((stats.parts_repaired, stats.under_redundant), (2, 0));
    assert_eq!(stats.bytes_repaired, 2 << 16);
    // A part is rebuilt where it belongs.
    let at = (name.hash, name.record);
    assert_eq!(world.at(&name, 1).parts[&at].part, 1);
    assert_eq!(world.at(&name, 2).parts[&at].part, 2);
}

#[test]
fn a_young_version_is_left_to_its_write() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(1), world.code);
    world.place(&name, &meta, &[0, 2, 3, 4, 5]);
    world.get(&name);
    world.run_for(100 * MS);
    assert_eq!(world.coordinator.stats().parts_repaired, 0);
}

#[test]
fn nothing_is_completed_where_something_newer_was_forgotten() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[1, 2, 3, 4, 5]);
    world.at(&name, 0).forgotten = World::old(5);
    assert_eq!(found(&world.get(&name)), (meta.version, vec![1, 2, 3, 4], true));
    world.run_for(100 * MS);
    assert_eq!(world.asked(&name, 0), "0r 1r 2r 3r 4r");
}

#[test]
fn background_completion_has_a_budget_of_bytes() {
    // Each object lacks a part of 64 KiB; 256 KiB a second may be written, and 64 KiB at first.
    let mut world = World::new("4+2", 8, |config| {
        config.repair_bytes_per_s = 256 << 10;
        config.repair_burst_bytes = 64 << 10;
    });
    for index in 0..30 {
        let name = world.name(&format!("key {index}"));
        let meta = World::meta(&name, World::old(10), world.code);
        world.place(&name, &meta, &[0, 2, 3, 4, 5]);
        world.get(&name);
    }
    world.run_for(100 * MS);
    let stats = world.coordinator.stats();
    assert!((1..=3).contains(&stats.parts_repaired), "{stats:?}");
    assert!(stats.under_redundant >= 27);
    world.run_for(3_000 * MS);
    let parts = world.coordinator.stats().parts_repaired;
    assert!((8..=15).contains(&parts), "{parts} parts in three seconds");
    world.run_for(10_000 * MS);
    assert_eq!(world.coordinator.stats().under_redundant, 0);
    assert_eq!(world.coordinator.stats().parts_repaired, 30);
}

#[test]
fn a_touch_that_missed_is_completed_by_a_read_of_its_own() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 1, 2, 3, 5]);
    let target = world.order(&name)[4];
    world.coordinator.touch_missed(name.hash, name.record, target, world.now);
    assert_eq!(world.coordinator.stats().under_redundant, 0, "a name that nobody knows");
    world.coordinator.touch(&name, World::old(10), meta.code, world.now);
    world.coordinator.touch_missed(name.hash, name.record, target, world.now);
    world.coordinator.touch_missed(name.hash, name.record, target, world.now);
    assert_eq!(world.coordinator.stats().under_redundant, 1);
    world.run_for(3_000 * MS);
    assert_eq!(world.holders(&name, meta.version), [0, 1, 2, 3, 4, 5]);
    assert_eq!(world.coordinator.stats().under_redundant, 0);
    assert_eq!(world.coordinator.stats().touches_missed, 3);
    assert!(world.reads.is_empty(), "the shell does not see reads that it did not begin");
}

#[test]
fn what_cannot_be_completed_is_tried_ever_more_rarely_and_then_given_up() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 2, 3, 4, 5]);
    world.at(&name, 1).refuse_writes = vec![PartAnswer::Overloaded; 100];
    world.get(&name);
    world.run_for(1_000 * MS * (1 << REPAIR_ATTEMPTS_MAX) / 4);
    let stats = world.coordinator.stats();
    assert_eq!((stats.repairs_failed, stats.under_redundant), (0, 1));
    world.run_for(1_000 * MS * (1 << REPAIR_ATTEMPTS_MAX));
    let stats = world.coordinator.stats();
    assert_eq!((stats.repairs_failed, stats.under_redundant, stats.ops), (1, 0, 0));
    assert_eq!(world.asked(&name, 0).matches("1x").count(), usize::from(REPAIR_ATTEMPTS_MAX));
}

#[test]
fn notes_are_bounded_and_drops_counted() {
    let mut world = World::new("4+2", 8, |_| {});
    for index in 0..REPAIR_NOTES_MAX + 10 {
        let name = world.name(&format!("key {index}"));
        let target = world.order(&name)[0];
        world.coordinator.touch(&name, World::old(10), world.code, world.now);
        world.coordinator.touch_missed(name.hash, name.record, target, world.now);
    }
    let stats = world.coordinator.stats();
    assert_eq!(stats.under_redundant, REPAIR_NOTES_MAX as u64);
    assert_eq!(stats.repair_notes_dropped, 10);
}

/// Objects that each lack the part of their second target.
fn lacking(world: &mut World) -> Vec<RecordName> {
    let names: Vec<_> = (0..3 * REPAIRS_MAX).map(|index| world.name(&format!("key {index}"))).collect();
    for name in &names {
        let meta = World::meta(name, World::old(10), world.code);
        world.place(name, &meta, &[0, 2, 3, 4, 5]);
    }
    names
}

#[test]
fn repairs_with_the_parts_at_hand_are_bounded() {
    let mut world = World::new("4+2", 8, |_| {});
    for name in lacking(&mut world) {
        world.begin_read(world.request(&name));
    }
    let mut most = 0;
    for _ in 0..1_000 {
        world.run_for(Duration::from_micros(10));
        most = most.max(world.bodies.len());
    }
    assert_eq!(most, REPAIRS_MAX);
    world.run_for(10_000 * MS);
    assert_eq!(world.coordinator.stats().under_redundant, 0, "the others follow");
}

#[test]
fn reads_for_repairs_are_bounded() {
    let mut world = World::new("4+2", 8, |_| {});
    for name in lacking(&mut world) {
        let missing = world.order(&name)[1];
        world.coordinator.touch(&name, World::old(10), world.code, world.now);
        world.coordinator.touch_missed(name.hash, name.record, missing, world.now);
    }
    for target in world.targets.values_mut() {
        target.silent = true;
    }
    let mut most = 0;
    for _ in 0..4_000 {
        world.run_for(MS);
        most = most.max(world.coordinator.stats().ops);
    }
    assert_eq!(most, REPAIRS_MAX as u64);
}

/// A version of `2+3` that two targets hold, a third lacks, and two cannot say anything of.
fn unconfirmed() -> (World, RecordName) {
    let mut world = World::new("2+3", 5, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 1]);
    for slot in [2, 3] {
        world.at(&name, slot).always = Some(PartAnswer::Failed);
    }
    (world, name)
}

#[test]
fn what_is_not_confirmed_is_not_completed() {
    let (mut world, name) = unconfirmed();
    let mut request = world.request(&name);
    request.policy = ReadPolicy::All;
    assert_eq!(found(&world.read(request)), (World::old(10), vec![0, 1], false));
    world.run_for(10_000 * MS);
    assert!(!world.asked(&name, 0).contains('x'), "{}", world.asked(&name, 0));

    let (mut world, name) = unconfirmed();
    let missing = world.order(&name)[4];
    world.coordinator.touch(&name, World::old(10), world.code, world.now);
    world.coordinator.touch_missed(name.hash, name.record, missing, world.now);
    world.run_for(10_000 * MS);
    assert!(!world.asked(&name, 0).contains('x'), "{}", world.asked(&name, 0));
    assert_eq!(world.coordinator.stats().under_redundant, 1, "it is tried again");
}

#[test]
fn a_repair_carries_the_deadline_of_what_it_is_for() {
    // Completed before it is returned; and in the background.
    for (shape, slots) in [("1+2", vec![1]), ("4+2", vec![0, 2, 3, 4, 5])] {
        let mut world = World::new("4+2", 8, |_| {});
        let name = world.name("key");
        let meta = World::meta(&name, World::old(10), shape.parse().unwrap());
        world.place(&name, &meta, &slots);
        for slot in 0..3 {
            world.at(&name, slot).index_delay = MS;
        }
        let request = world.request(&name);
        let before = shape == "1+2";
        let deadline = request.deadline;
        world.read(request);
        let expected = if before { deadline } else { world.now.mono + 5_000 * MS };
        world.run_for(100 * MS);
        let repairs = world.log.iter().filter_map(|(_, _, asked)| match asked {
            Asked::Write { purpose: WritePurpose::Repair, deadline, ack, .. } => Some((*deadline, *ack)),
            _ => None,
        });
        let repairs: Vec<_> = repairs.collect();
        assert!(!repairs.is_empty());
        assert!(repairs.iter().all(|&repair| repair == (expected, AckLevel::Written)), "{repairs:?}");
    }
}

#[test]
fn a_completion_that_failed_is_noted() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), "1+2".parse().unwrap());
    world.place(&name, &meta, &[1]);
    for slot in [0, 2] {
        world.at(&name, slot).index_delay = MS;
    }
    world.at(&name, 0).refuse_writes = vec![PartAnswer::Overloaded];
    assert_eq!(found(&world.get(&name)).0, meta.version);
    world.run_for(MS);
    assert_eq!(world.coordinator.stats().under_redundant, 1);
    world.run_for(5_000 * MS);
    assert_eq!(world.holders(&name, meta.version), [0, 1, 2]);
    assert_eq!(world.coordinator.stats().under_redundant, 0);
}

#[test]
fn a_record_stays_noted_while_a_target_has_not_said_what_it_holds() {
    // A read has to complete the first before it returns it, and the second not.
    let lacking = [(1, 2), (3, 4)];
    let cases = lacking.iter().flat_map(|lacking| {
        [(true, true), (true, false), (false, true), (false, false)].map(|case| (lacking, case))
    });
    for (&(missing, dead), (fails, surveyed)) in cases {
        let mut world = World::new("4+2", 8, |_| {});
        let name = world.name("key");
        let meta = World::meta(&name, World::old(10), world.code);
        let held =
            |without: &[usize]| -> Vec<usize> { (0..6).filter(|slot| !without.contains(slot)).collect() };
        world.place(&name, &meta, &held(&[missing, dead]));
        let target = world.at(&name, dead);
        (target.always, target.silent) = (fails.then_some(PartAnswer::Failed), !fails);
        if surveyed {
            let missing = world.order(&name)[missing];
            world.coordinator.touch(&name, meta.version, world.code, world.now);
            world.coordinator.touch_missed(name.hash, name.record, missing, world.now);
        } else {
            world.get(&name);
        }
        world.run_for(10_000 * MS);
        let case =
            format!("missing {missing}, dead {dead}, it fails: {fails}, a read of its own: {surveyed}");
        assert_eq!(world.holders(&name, meta.version), held(&[dead]), "{case}");
        assert_eq!(world.coordinator.stats().under_redundant, 1, "{case}");
        let target = world.at(&name, dead);
        (target.always, target.silent) = (None, false);
        world.run_for(60_000 * MS);
        assert_eq!(world.holders(&name, meta.version), held(&[]), "{case}");
        assert_eq!(world.coordinator.stats().under_redundant, 0, "{case}");
    }
}

#[test]
fn what_the_shell_cannot_rebuild_is_let_go() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), "1+2".parse().unwrap());
    world.place(&name, &meta, &[1]);
    for slot in [0, 2] {
        world.at(&name, slot).index_delay = MS;
    }
    let op = world.begin_read(world.request(&name));
    world.run_while(|world| world.coordinator.stats().ops < 2);
    let repair = super::super::OpId(2 << 62);
    world.coordinator.rebuild_failed(repair, world.now);
    world.drain();
    world.run_while(|world| !world.reads.contains_key(&op));
    assert_eq!(found(&world.reads[&op].1.clone()), (meta.version, vec![1], false));
    assert!(world.released.contains(&repair));
}

#[test]
fn a_part_that_another_target_holds_is_not_written_twice() {
    // Position 2 holds part 1, position 1 nothing, and position 0 does not say what it holds.
    let mut world = World::new("4+2", 6, |config| config.hedge_ceiling = MS);
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 3, 4, 5]);
    let at = (name.hash, name.record);
    world.at(&name, 2).parts.insert(at, PartMeta { part: 1, ..meta.clone() });
    world.at(&name, 0).silent = true;
    assert_eq!(found(&world.get(&name)).1, [1, 3, 4, 5]);
    world.run_for(100 * MS);
    assert_eq!(world.at(&name, 1).parts[&at].part, 2);
}

#[test]
fn a_replaced_device_is_filled_again_by_reads() {
    for code in ["4+2", "1+2", "3+3", "6+4"] {
        // Those that a read asks; the others miss the touches of what is used.
        for slot in 0..2 {
            let mut world = World::new(code, 12, |_| {});
            let (name, code) = (world.name("key"), world.code);
            let meta = World::meta(&name, World::old(100), code);
            let all: Vec<usize> = (0..code.n()).collect();
            world.place(&name, &meta, &all);
            world.at(&name, slot).parts.clear();
            world.at(&name, slot).unknown = World::old(5);
            let ReadOutcome::Found { meta: found, confirmed, .. } = world.get(&name) else {
                panic!("{code}: not found")
            };
            assert_eq!((found.version, confirmed), (meta.version, true), "{code}");
            world.run_for(100 * MS);
            assert_eq!(world.holders(&name, meta.version), all, "{code}: slot {slot}");
            assert_eq!(world.coordinator.stats().under_redundant, 0);
        }
    }
}

#[test]
fn a_replaced_device_confirms_nothing_that_it_may_have_held_a_newer_version_of() {
    // Of the first three targets, two have acknowledged a delete that the third has missed; one of the two
    // is replaced.
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let old = World::meta(&name, World::old(100), "1+2".parse().unwrap());
    world.place(&name, &old, &[0]);
    let delete = world.tombstone(&name, World::old(50));
    world.place(&name, &delete, &[1]);
    world.at(&name, 2).unknown = World::old(5);
    // The other one is not there to say so: what is old is returned as such, and nowhere else written.
    world.at(&name, 1).always = Some(PartAnswer::Failed);
    assert_eq!(found(&world.get(&name)), (old.version, vec![0], false));
    world.run_for(1000 * MS);
    assert_eq!(world.holders(&name, old.version), [0]);
    // It is replaced as well.
    let other = world.at(&name, 1);
    (other.always, other.unknown) = (None, World::old(5));
    other.parts.clear();
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Absent });
    world.run_for(1000 * MS);
    assert_eq!(world.holders(&name, old.version), [0]);
    // While it is there, the delete is completed.
    world.place(&name, &delete, &[1]);
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Deleted(delete.version) });
    world.run_for(1000 * MS);
    assert!(world.holders(&name, delete.version).starts_with(&[0, 1, 2]));
}

#[test]
fn with_one_parity_part_a_replaced_device_leaves_objects_unconfirmed_and_readable() {
    for slot in 0..3 {
        let mut world = World::new("2+1", 6, |_| {});
        let name = world.name("key");
        let meta = World::meta(&name, World::old(100), world.code);
        world.place(&name, &meta, &[0, 1, 2]);
        world.at(&name, slot).parts.clear();
        world.at(&name, slot).unknown = World::old(5);
        let ReadOutcome::Found { meta: found, confirmed, .. } = world.get(&name) else {
            panic!("slot {slot}: not found")
        };
        // What the third target has lost no other shape of the object could have needed.
        assert_eq!((found.version, confirmed), (meta.version, slot == 2));
    }
}
