//! Quorums, confirmations, newer and older versions, tombstones, absence.

use hedgerow_wire::part::PartAnswer;
use hedgerow_wire::types::{Code, Version};

use super::super::testing::{Asked, MS, World, found};
use super::super::{Miss, ReadOutcome};

fn code(text: &str) -> Code {
    text.parse().unwrap()
}

/// A world of `configured`, the record `key`, and a complete version of `shape` from ten seconds ago.
fn world_with(configured: &str, shape: &str) -> (World, hedgerow_wire::part::RecordName, Version) {
    let mut world = World::new(configured, 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(100), code(shape));
    world.place(&name, &meta, &(0..meta.code.n()).collect::<Vec<_>>());
    (world, name, meta.version)
}

#[test]
fn a_stale_part_does_not_mix() {
    let (mut world, name, _) = world_with("4+2", "4+2");
    let newer = World::meta(&name, World::old(50), code("4+2"));
    world.place(&name, &newer, &[1, 2, 3, 4, 5]);
    assert_eq!(found(&world.get(&name)), (newer.version, vec![1, 2, 3, 4], true));
    world.run_for(10_000 * MS);
    assert_eq!(world.holders(&name, newer.version), [0, 1, 2, 3, 4, 5], "the laggard was completed");
}

#[test]
fn a_write_of_another_shape_is_seen_by_every_read() {
    // A small object overwrote a large one: only the first three targets hold copies.
    let (mut world, name, _) = world_with("4+2", "4+2");
    let newer = World::meta(&name, World::old(50), code("1+2"));
    for slots in [[0, 1], [1, 2], [0, 2]] {
        world.place(&name, &World::meta(&name, World::old(100), code("4+2")), &[0, 1, 2, 3, 4, 5]);
        world.place(&name, &newer, &slots);
        let (version, _, confirmed) = found(&world.get(&name));
        assert_eq!((version, confirmed), (newer.version, true), "{slots:?}");
    }
}

#[test]
fn a_version_on_too_few_targets_is_completed_before_it_is_returned() {
    let (mut world, name, _) = world_with("4+2", "1+2");
    let newer = World::meta(&name, World::old(50), code("1+2"));
    world.place(&name, &newer, &[1]);
    world.at(&name, 0).index_delay = MS;
    let op = world.begin_read(world.request(&name));
    world.run_while(|world| !world.reads.contains_key(&op));
    assert_eq!(found(&world.reads[&op].1.clone()).0, newer.version);
    assert!(found(&world.reads[&op].1.clone()).2);
    let confirmers: Vec<usize> = world.holders(&name, newer.version);
    assert!(confirmers.len() >= 2, "{confirmers:?}");
    assert_eq!(world.coordinator.stats().completions, 0, "not waiting for all of them");
    world.run_for(100 * MS);
    assert_eq!(world.coordinator.stats().completions, 1);
    assert_eq!(world.holders(&name, newer.version), [0, 1, 2]);
    assert_eq!(world.released.len(), 1, "what was rebuilt is let go");
}

#[test]
fn what_cannot_be_completed_is_returned_unconfirmed_or_missed() {
    for strict in [false, true] {
        let (mut world, name, _) = world_with("4+2", "1+2");
        let newer = World::meta(&name, World::old(50), code("1+2"));
        world.place(&name, &newer, &[1]);
        for slot in [0, 2] {
            world.at(&name, slot).refuse_writes = vec![PartAnswer::Overloaded; 9];
        }
        let mut request = world.request(&name);
        request.strict = strict;
        let outcome = world.read(request);
        if strict {
            assert_eq!(outcome, ReadOutcome::NotFound { why: Miss::Unconfirmed(newer.version) });
        } else {
            assert_eq!(found(&outcome), (newer.version, vec![1], false));
        }
    }
}

#[test]
fn confirmations_that_cannot_be_had_do_not_hold_a_read_up() {
    // m = 1: both of the first two have to say; one does not any more.
    for strict in [false, true] {
        let (mut world, name, version) = world_with("1+1", "1+1");
        for _ in 0..20 {
            world.get(&name);
        }
        world.at(&name, 1).silent = true;
        let mut request = world.request(&name);
        request.strict = strict;
        let begun = world.now.mono;
        let outcome = world.read(request);
        if strict {
            assert!(matches!(outcome, ReadOutcome::NotFound { why: Miss::Unconfirmed(_) }), "{outcome:?}");
        } else {
            assert_eq!(found(&outcome), (version, vec![0], false));
        }
        let took = world.now.mono.since(begun);
        assert!((10 * MS..15 * MS).contains(&took), "{took:?}");
    }
}

#[test]
fn nothing_is_returned_unconfirmed_below_a_newer_version_that_was_seen() {
    // Three parts of a newer version; two more may be where nobody answers: it may be acknowledged.
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let older = World::meta(&name, World::old(100), code("1+2"));
    let newer = World::meta(&name, World::old(90), code("4+2"));
    world.place(&name, &older, &[0]);
    world.place(&name, &newer, &[3, 4, 5]);
    for slot in [1, 2] {
        world.at(&name, slot).always = Some(PartAnswer::Failed);
    }
    let outcome = world.get(&name);
    assert!(matches!(outcome, ReadOutcome::Unavailable { need: 4, .. }), "{outcome:?}");
}

#[test]
fn at_the_deadline_nothing_is_returned_below_a_newer_version_that_was_seen() {
    // The second one's index says that it holds something newer, but its device does not answer.
    let (mut world, name, _) = world_with("4+2", "1+2");
    let newer = World::meta(&name, World::old(50), code("1+2"));
    world.place(&name, &newer, &[1]);
    world.at(&name, 1).delay = 10_000 * MS;
    world.at(&name, 2).always = Some(PartAnswer::Failed);
    let mut request = world.request(&name);
    request.code_hint = Some(code("1+2"));
    assert_eq!(world.read(request), ReadOutcome::DeadlineExceeded);
    assert!(world.asked(&name, 0).starts_with("0r 1c 1r"), "{}", world.asked(&name, 0));
}

#[test]
fn nobody_waits_for_a_target_that_is_known_to_be_stuck() {
    let (mut world, name, version) = world_with("1+1", "1+1");
    for _ in 0..20 {
        world.get(&name);
    }
    world.at(&name, 1).silent = true;
    world.get(&name);
    world.run_for(100 * MS);
    let begun = world.now.mono;
    assert_eq!(found(&world.get(&name)), (version, vec![0], false));
    assert!(world.now.mono.since(begun) < MS, "{:?}", world.now.mono.since(begun));
}

#[test]
fn what_was_forgotten_confirms_nothing_older() {
    let (mut world, name, version) = world_with("1+2", "1+2");
    for slot in [1, 2] {
        world.at(&name, slot).parts.clear();
        world.at(&name, slot).forgotten = World::old(60);
    }
    // Something newer may have been there, and was evicted: returning this would bring it back.
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Unconfirmed(version) });
    // What was forgotten there may have been this very version: that it is gone confirms nothing.
    world.at(&name, 2).forgotten = version;
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Unconfirmed(version) });
    world.at(&name, 2).forgotten = World::old(101);
    // One more says that nothing newer was ever there; it takes a copy.
    assert_eq!(found(&world.get(&name)), (version, vec![0], true));
    assert_eq!(world.holders(&name, version), [0, 2]);
}

#[test]
fn a_confirmation_carries_the_deadline_of_its_read() {
    let (mut world, name, _) = world_with("4+2", "1+2");
    let mut request = world.request(&name);
    request.code_hint = Some(code("1+2"));
    let deadline = request.deadline;
    world.read(request);
    let confirm = world.log.iter().find_map(|(_, _, asked)| match asked {
        Asked::Confirm(confirm) => Some(confirm.deadline),
        _ => None,
    });
    assert_eq!(confirm, Some(deadline));
}

#[test]
fn absence_needs_enough_that_say_so() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    world.at(&name, 0).forgotten = World::old(1);
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Absent });
    assert_eq!(world.asked(&name, 0), "0r 1r 2r 3r", "no more is asked than for a hit");
    // One of the first three cannot say: the other two suffice.
    world.at(&name, 1).always = Some(PartAnswer::Failed);
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Absent });
    world.at(&name, 2).always = Some(PartAnswer::Failed);
    assert_eq!(world.get(&name), ReadOutcome::Unavailable { have: 0, need: 4 });
}

#[test]
fn an_absent_part_is_no_absent_object() {
    let (mut world, name, version) = world_with("4+2", "4+2");
    world.at(&name, 0).parts.clear();
    assert_eq!(found(&world.get(&name)), (version, vec![1, 2, 3, 4], true));
}

#[test]
fn a_tombstone_hides_what_laggards_hold() {
    let (mut world, name, version) = world_with("4+2", "4+2");
    let tombstone = world.tombstone(&name, World::old(50));
    world.place(&name, &tombstone, &[0, 2, 3, 4, 5]);
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Deleted(tombstone.version) });
    world.run_for(10_000 * MS);
    assert_eq!(world.holders(&name, version), [] as [usize; 0], "the laggard was completed");
    assert_eq!(world.holders(&name, tombstone.version), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_tombstone_on_too_few_targets_is_completed_before_it_counts() {
    let (mut world, name, _) = world_with("4+2", "4+2");
    let tombstone = world.tombstone(&name, World::old(50));
    world.place(&name, &tombstone, &[1]);
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Deleted(tombstone.version) });
    assert!(world.holders(&name, tombstone.version).len() >= 2);
}

#[test]
fn a_newer_version_that_nobody_acknowledged_may_be_left_for_the_older_one() {
    // One part of four of a newer version, on the last of the first three targets.
    let (mut world, name, version) = world_with("4+2", "4+2");
    let newer = World::meta(&name, World::old(90), code("4+2"));
    world.place(&name, &newer, &[2]);
    assert_eq!(found(&world.get(&name)), (version, vec![0, 1, 3, 4], true));
    world.run_for(100 * MS);
    assert_eq!(world.holders(&name, newer.version), [] as [usize; 0], "its remains were dropped");
    assert_eq!(world.coordinator.stats().remains_dropped, 1);
}

#[test]
fn remains_are_kept_while_their_write_may_be_under_way() {
    let (mut world, name, version) = world_with("4+2", "4+2");
    let newer = World::meta(&name, World::old(30), code("4+2"));
    world.place(&name, &newer, &[2]);
    assert_eq!(found(&world.get(&name)).0, version);
    world.run_for(100 * MS);
    assert_eq!(world.holders(&name, newer.version), [2]);
}

#[test]
fn remains_are_kept_while_it_is_not_certain_that_they_are_too_few() {
    // Three parts of four, and a fourth may be where nobody answers.
    let (mut world, name, _) = world_with("4+2", "4+2");
    let newer = World::meta(&name, World::old(90), code("4+2"));
    world.place(&name, &newer, &[0, 1, 2]);
    world.at(&name, 5).always = Some(PartAnswer::Failed);
    assert_eq!(world.get(&name), ReadOutcome::Unavailable { have: 3, need: 4 });
    world.run_for(100 * MS);
    assert_eq!(world.holders(&name, newer.version), [0, 1, 2]);
}

#[test]
fn between_two_incomplete_versions_there_is_a_miss() {
    // Newer parts on two of the first three: what was acknowledged may have been overwritten there.
    let (mut world, name, _) = world_with("4+2", "4+2");
    let newer = World::meta(&name, World::old(90), code("4+2"));
    world.place(&name, &newer, &[0, 1]);
    assert_eq!(world.get(&name), ReadOutcome::NotFound { why: Miss::Incomplete(newer.version) });
}

#[test]
fn a_read_waits_for_a_write_that_is_under_way() {
    let (mut world, name, _) = world_with("4+2", "4+2");
    let version = world.coordinator.next_version(name.hash, world.now);
    let meta = World::meta(&name, version, code("4+2"));
    world.place(&name, &meta, &[0, 1]);
    let op = world.begin_read(world.request(&name));
    world.run_for(2 * MS);
    assert!(!world.reads.contains_key(&op));
    world.place(&name, &meta, &[2, 3, 4]);
    world.run_while(|world| !world.reads.contains_key(&op));
    assert_eq!(found(&world.reads[&op].1.clone()), (version, vec![0, 1, 2, 3], true));
    assert!(world.coordinator.stats().read_rounds > 0);
}

#[test]
fn a_newer_version_seen_by_a_confirmation_is_moved_on_to() {
    let (mut world, name, _) = world_with("4+2", "1+2");
    let newer = World::meta(&name, World::old(50), code("1+2"));
    world.place(&name, &newer, &[1, 2]);
    let mut request = world.request(&name);
    request.code_hint = Some(code("1+2"));
    assert_eq!(found(&world.read(request)), (newer.version, vec![1], true));
    assert!(world.asked(&name, 0).starts_with("0r 1c 1r"), "{}", world.asked(&name, 0));
}

#[test]
fn another_m_is_never_confirmed() {
    let (mut world, name, version) = world_with("4+2", "3+3");
    assert_eq!(found(&world.get(&name)), (version, vec![0, 1, 2], false));
}

#[test]
fn versions_seen_in_answers_are_passed() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let hlc = Version::hlc_from_wall_us(world.now.wall_us + 500_000);
    let ahead = Version { hlc, coordinator: 7 };
    let meta = World::meta(&name, ahead, code("4+2"));
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(found(&world.get(&name)).0, ahead);
    assert!(world.put(&name) > ahead);
}

#[test]
fn the_index_confirms_while_the_device_is_stuck() {
    let (mut world, name, version) = world_with("1+1", "1+1");
    for _ in 0..20 {
        world.get(&name);
    }
    // The device of the second takes for ever, its index does not.
    world.at(&name, 1).delay = 10_000 * MS;
    let other = world.name("other");
    let meta = World::meta(&other, version, world.code);
    world.place(&other, &meta, &[0, 1]);
    for _ in 0..10 {
        world.get(&other);
        world.run_for(20 * MS);
    }
    let begun = world.now.mono;
    assert_eq!(found(&world.get(&name)), (version, vec![0], true));
    assert!(world.now.mono.since(begun) < MS);
}

#[test]
fn a_completion_that_is_refused_for_something_forgotten_is_no_excuse() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(50), code("1+2"));
    world.place(&name, &meta, &[1]);
    for slot in [0, 2] {
        world.at(&name, slot).index_delay = MS;
    }
    let op = world.begin_read(world.request(&name));
    world.run_while(|world| world.coordinator.stats().ops < 2);
    // While the parts are rebuilt, something newer comes and goes.
    for slot in [0, 2] {
        world.at(&name, slot).forgotten = World::old(1);
    }
    world.run_while(|world| !world.reads.contains_key(&op));
    assert_eq!(world.reads[&op].1, ReadOutcome::NotFound { why: Miss::Unconfirmed(meta.version) });
}

#[test]
fn a_write_that_was_broken_off_over_anything_leaves_a_miss_and_no_error() {
    // One part of a version that needs two stands on a target that has to confirm.
    for slot in 0..2 {
        let mut world = World::new("2+1", 6, |_| {});
        let name = world.name("key");
        let delete = world.tombstone(&name, World::old(100));
        world.place(&name, &delete, &[0, 1, 2]);
        let broken = World::meta(&name, World::old(50), code("2+1"));
        world.place(&name, &broken, &[slot]);
        assert!(
            matches!(world.get(&name), ReadOutcome::NotFound { .. }),
            "slot {slot}: {:?}",
            world.get(&name)
        );
    }
}
