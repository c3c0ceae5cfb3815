//! Quorums of writes, and what their outcomes promise.

use std::time::Duration;

use hedgerow_wire::part::PartAnswer;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{AckLevel, Code, Version};

use super::super::testing::{Asked, Bytes, MS, World, found};
use super::super::{Config, ReadOutcome, WriteOutcome, WriteRequest};

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

/// Whatever was acknowledged before is read as before; whoever stores or does not.
#[test]
fn what_makes_no_difference_to_any_read_is_refused() {
    let mut refused = 0;
    for (code, shape, former_shape) in [
        ("4+2", "4+2", "4+2"),
        ("4+2", "4+2", "1+2"),
        ("4+2", "1+2", "4+2"),
        ("4+2", "1+2", "1+2"),
        ("4+1", "4+1", "4+1"),
        ("4+1", "1+1", "4+1"),
        ("2+3", "2+3", "2+3"),
    ] {
        let code: Code = code.parse().unwrap();
        let (shape, former_shape): (Code, Code) = (shape.parse().unwrap(), former_shape.parse().unwrap());
        // Where the former version is missing, if anywhere, and is acknowledged all the same.
        let missing =
            (0..=former_shape.n()).filter(|&slot| slot == former_shape.n() || code.quorum_spare() > 0);
        for (missing, stores) in missing.flat_map(|missing| (0..1u32 << shape.n()).map(move |s| (missing, s)))
        {
            let mut world = World::new(&code.to_string(), 8, |_| {});
            let name = world.name("key");
            if missing < former_shape.n() {
                world.at(&name, missing).refuse_writes = vec![Answer::Overloaded];
            }
            let former = world.coordinator.next_version(name.hash, world.now);
            let written = world.write(World::meta(&name, former, former_shape), 100 * MS);
            assert!(matches!(written, WriteOutcome::Acknowledged { .. }), "{written:?}");
            for slot in (0..shape.n()).filter(|slot| stores >> slot & 1 == 0) {
                world.at(&name, slot).refuse_writes = vec![Answer::Overloaded];
            }
            let version = world.coordinator.next_version(name.hash, world.now);
            if world.write(World::meta(&name, version, shape), 100 * MS) == WriteOutcome::Overloaded {
                refused += 1;
                let (found_version, _, confirmed) = found(&world.get(&name));
                assert_eq!(
                    (found_version, confirmed),
                    (former, true),
                    "{code}: {shape} stored by {stores:b} over {former_shape} without {missing}"
                );
            }
        }
    }
    assert!(refused > 100, "{refused}");
    check("4+2", &vec![Some(Answer::Overloaded); 6], |_| WriteOutcome::Overloaded);
    let ahead = |ahead_us| Some(Answer::ClockAhead { ahead_us });
    check("1+2", &[ahead(5), ahead(7), ahead(6)], |_| WriteOutcome::ClockAhead { ahead_us: 7 });
}

#[test]
fn what_a_read_may_find_is_indeterminate() {
    // Four of six parts: readable, but short of the quorum of five.
    check("4+2", &vec![Some(Answer::Overloaded); 2], |_| WriteOutcome::Indeterminate);
    // Two of six: not readable, but nor can what they may have taken the place of be confirmed.
    check("4+2", &vec![Some(Answer::Overloaded); 4], |_| WriteOutcome::Indeterminate);
    let mut mixed = vec![Some(Answer::Overloaded); 3];
    mixed.extend(vec![Some(Answer::Failed); 3]);
    check("4+2", &mixed, |_| WriteOutcome::Indeterminate);
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
        let margin = MS;
        let answer_by = world.now.mono + 100 * MS - margin;
        world.run_for(100 * MS);
        assert_eq!(world.writes[&op], (answer_by, WriteOutcome::Indeterminate));
        assert!(world.released.contains(&op));
        assert_eq!(world.coordinator.stats().asks, silent as u64, "withdrawn ones are in flight");
    }
}

#[test]
fn an_answer_is_ready_a_margin_before_the_deadline() {
    let (config, at) = (Config::new("4+2".parse().unwrap()), |us: u64| Timestamp(us * 1000));
    assert_eq!(config.answer_by(at(100_000), at(0)), at(99_000));
    assert_eq!(config.answer_by(at(10_000), at(2_000)), at(9_000));
    // Of little time, a little.
    assert_eq!(config.answer_by(at(800), at(0)), at(700));
    assert_eq!(config.answer_by(at(10), at(20)), at(10));
}

#[test]
fn a_part_write_carries_its_deadline_and_what_is_to_be_acknowledged() {
    for &ack in AckLevel::ALL {
        let mut world = World::new("4+2", 8, |_| {});
        let name = world.name("key");
        let deadline = world.now.mono + 70 * MS;
        let meta = World::meta(&name, World::old(0), world.code);
        world.begin(WriteRequest { meta, ack, deadline });
        assert_eq!(world.log.len(), 6);
        for (_, _, asked) in &world.log {
            let Asked::Write { deadline: carried, ack: promised, .. } = asked else { panic!("{asked:?}") };
            assert_eq!((*carried, *promised), (deadline, ack));
        }
    }
}

#[test]
fn the_version_that_superseded_a_write_is_passed() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let ahead = Version { hlc: Version::hlc_from_wall_us(world.now.wall_us + 500_000), coordinator: 7 };
    world.at(&name, 4).refuse_writes = vec![Answer::Superseded { version: ahead }];
    let meta = World::meta(&name, World::old(0), world.code);
    assert_eq!(world.write(meta, 100 * MS), WriteOutcome::Superseded { version: ahead });
    assert!(world.coordinator.next_version(name.hash, world.now) > ahead);
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
