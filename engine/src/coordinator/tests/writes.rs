//! Quorums of writes, and what their outcomes promise.

use std::time::Duration;

use hedgerow_wire::part::PartAnswer;
use hedgerow_wire::types::{Code, Version};

use super::super::testing::{Bytes, MS, World, found};
use super::super::{ReadOutcome, WriteOutcome};

type Answer = PartAnswer<Bytes>;

/// Writes an object of `shape` in a world of `4+2` where the target at each position answers the
/// write so (`None`: it stores its part).
fn check(shape: &str, answers: &[Option<Answer>], expected: impl Fn(Version) -> WriteOutcome) -> World {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    for (slot, answer) in answers.iter().enumerate() {
        world.at(&name, slot).refuse_writes = answer.iter().cloned().collect();
    }
    let version = world.coordinator.next_version(name.hash, world.now);
    let outcome = world.write(World::meta(&name, version, shape.parse().unwrap()), 100 * MS);
    assert_eq!(outcome, expected(version), "{answers:?}");
    world
}

#[test]
fn a_write_is_acknowledged_at_the_quorum() {
    let acknowledged = |stored| move |version| WriteOutcome::Acknowledged { version, stored };
    check("4+2", &[], acknowledged(5));
    check("1+2", &[], acknowledged(2));
    check("4+2", &[Some(Answer::Failed)], acknowledged(5));
    check("1+2", &[None, Some(Answer::Overloaded)], acknowledged(2));
}

#[test]
fn what_no_read_can_find_has_failed() {
    let mut mixed = vec![Some(Answer::Overloaded); 3];
    mixed.extend(vec![Some(Answer::Failed); 3]);
    check("4+2", &mixed, |_| WriteOutcome::Failed { failed: 6 });
    check("4+2", &vec![Some(Answer::Overloaded); 6], |_| WriteOutcome::Overloaded);
    let ahead = |ahead_us| Some(Answer::ClockAhead { ahead_us });
    check("1+2", &[ahead(5), ahead(7), ahead(6)], |_| WriteOutcome::ClockAhead { ahead_us: 7 });
}

#[test]
fn what_a_read_may_find_is_indeterminate() {
    // Four of six parts: readable, but short of the quorum of five.
    check("4+2", &vec![Some(Answer::Overloaded); 2], |_| WriteOutcome::Indeterminate);
    // A device that failed may hold the part all the same.
    check("1+2", &vec![Some(Answer::Failed); 3], |_| WriteOutcome::Indeterminate);
    check("1+2", &[Some(Answer::Overloaded), Some(Answer::Overloaded)], |_| WriteOutcome::Indeterminate);
}

#[test]
fn an_older_write_is_superseded() {
    let newer = World::old(1);
    let held = Some(Answer::Superseded { version: newer });
    check("4+2", &[None, None, None, None, held], |_| WriteOutcome::Superseded { version: newer });
}

#[test]
fn short_of_the_quorum_at_the_deadline_is_indeterminate() {
    for silent in [2, 5] {
        let mut world = World::new("4+2", 8, |_| {});
        let name = world.name("key");
        for slot in 0..silent {
            world.at(&name, slot).silent = true;
        }
        let version = world.coordinator.next_version(name.hash, world.now);
        let op = world.begin_write(World::meta(&name, version, world.code), 100 * MS);
        world.run_for(98 * MS);
        assert!(!world.writes.contains_key(&op));
        world.run_for(2 * MS);
        assert_eq!(world.writes[&op].1, WriteOutcome::Indeterminate);
        assert!(world.released.contains(&op));
        assert_eq!(world.coordinator.stats().asks, silent as u64, "withdrawn ones are in flight");
    }
}

#[test]
fn nothing_is_sent_when_it_is_too_late() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(0), world.code);
    let op = world.begin_write(meta, Duration::ZERO);
    assert_eq!(world.writes[&op].1, WriteOutcome::DeadlineExceeded);
    assert!(world.released.contains(&op));
    assert_eq!(world.log.len(), 0);
}

#[test]
fn payloads_are_held_for_stragglers_and_then_let_go() {
    let mut world = World::new("4+2", 8, |config| config.straggler_grace = 20 * MS);
    let name = world.name("key");
    world.at(&name, 5).deaf = true;
    let version = world.coordinator.next_version(name.hash, world.now);
    let op = world.begin_write(World::meta(&name, version, world.code), 100 * MS);
    world.run_while(|world| !world.writes.contains_key(&op));
    assert!(matches!(world.writes[&op].1, WriteOutcome::Acknowledged { stored: 5, .. }));
    assert!(!world.released.contains(&op), "the straggler gets its grace");
    world.run_for(21 * MS);
    assert!(world.released.contains(&op));
    assert_eq!(world.coordinator.stats().under_redundant, 1, "a note is left");
    // The target is back: the version is completed in the background.
    world.at(&name, 5).deaf = false;
    world.run_for(5_000 * MS);
    assert_eq!(world.coordinator.stats().under_redundant, 0);
    assert_eq!(world.holders(&name, version), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_write_that_all_have_stored_is_released_at_once() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let version = world.put(&name);
    world.run_for(MS);
    assert_eq!(world.released.len(), 1);
    assert_eq!(world.coordinator.stats().under_redundant, 0);
    assert_eq!(found(&world.get(&name)), (version, vec![0, 1, 2, 3], true));
}

#[test]
fn a_tombstone_needs_the_quorum_of_the_configured_code() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    world.put(&name);
    let version = world.coordinator.next_version(name.hash, world.now);
    let tombstone = world.tombstone(&name, version);
    let outcome = world.write(tombstone, 100 * MS);
    assert_eq!(outcome, WriteOutcome::Acknowledged { version, stored: 5 });
    world.run_for(MS);
    assert_eq!(world.holders(&name, version), [0, 1, 2, 3, 4, 5]);
    assert!(matches!(world.get(&name), ReadOutcome::NotFound { .. }));
}

#[test]
fn a_cancelled_write_has_no_outcome_and_is_released() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(0), world.code);
    let op = world.begin_write(meta, 100 * MS);
    world.coordinator.cancel(op, world.now);
    world.run_for(200 * MS);
    assert!(!world.writes.contains_key(&op));
    assert!(world.released.contains(&op));
    assert_eq!((world.coordinator.stats().ops, world.coordinator.stats().asks), (0, 0));
}

#[test]
fn every_quorum_of_every_small_code_can_be_read_back() {
    for (k, m) in [(1, 0), (2, 0), (1, 1), (3, 1), (1, 2), (4, 2), (2, 3), (10, 4)] {
        let code = Code::new(k, m).unwrap();
        for missing in 0..=(code.n() - code.write_quorum()) {
            let mut world = World::new(&code.to_string(), 16, |_| {});
            let name = world.name("key");
            for slot in 0..missing {
                world.at(&name, slot).refuse_writes = vec![Answer::Overloaded];
            }
            let version = world.put(&name);
            let (read, _, confirmed) = found(&world.get(&name));
            assert_eq!((read, confirmed), (version, true), "{code}, {missing} missing");
        }
    }
}
