//! When it may be said that there is nothing: conditional writes rely on it.

use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, RecordName};
use hedgerow_wire::types::Version;

use super::super::testing::{Bytes, MS, SimTarget, World, found};
use super::super::{Miss, ReadOutcome};

/// A small object on the second and third target of its key.
fn world() -> (World, RecordName, Version) {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(100), "1+2".parse().unwrap());
    world.place(&name, &meta, &[1, 2]);
    (world, name, meta.version)
}

/// Reads the object when `change` was done to those who hold it, strictly or not, with or without
/// knowing its code.
fn reads(change: impl Fn(&mut SimTarget), check: impl Fn(bool, ReadOutcome<Bytes>, Version)) {
    for (strict, hint) in [(false, None), (true, None), (false, Some("1+2")), (true, Some("1+2"))] {
        let (mut world, name, version) = world();
        for slot in [1, 2] {
            change(world.at(&name, slot));
        }
        let mut request = world.request(&name);
        request.strict = strict;
        request.deadline = world.now.mono + 300 * MS;
        request.code_hint = hint.map(|code| code.parse().unwrap());
        let outcome = world.read(request);
        check(strict, outcome, version);
    }
}

#[test]
fn who_is_late_may_hold_it() {
    reads(|target| target.delay = 80 * MS, |_, outcome, version| assert_eq!(found(&outcome).0, version));
    reads(|target| target.silent = true, |_, outcome, _| assert_eq!(outcome, ReadOutcome::DeadlineExceeded));
}

#[test]
fn who_fails_may_hold_it() {
    reads(
        |target| target.always = Some(PartAnswer::Failed),
        |_, outcome, _| assert!(matches!(outcome, ReadOutcome::Unavailable { have: 0, .. }), "{outcome:?}"),
    );
}

/// One part of a newer version, of which four would be needed, at the last of the first three targets.
fn remains(world: &mut World, name: &RecordName) {
    let meta = World::meta(name, World::old(90), "4+2".parse().unwrap());
    world.place(name, &meta, &[2]);
}

#[test]
fn what_cannot_be_assembled_hides_nothing() {
    for (delay, outcome) in [(Some(80 * MS), None), (None, Some(ReadOutcome::DeadlineExceeded))] {
        let (mut world, name, version) = world();
        let meta = World::meta(&name, version, "1+2".parse().unwrap());
        world.place(&name, &meta, &[0]);
        remains(&mut world, &name);
        for slot in [0, 1] {
            world.at(&name, slot).delay = delay.unwrap_or(Duration::ZERO);
            world.at(&name, slot).silent = delay.is_none();
        }
        let read = world.get(&name);
        match outcome {
            Some(outcome) => assert_eq!(read, outcome),
            None => assert_eq!(found(&read), (version, vec![0], true)),
        }
    }
}

#[test]
fn of_an_older_version_what_is_late_may_confirm_it() {
    // The first target has the older version, the third remains of a newer one.
    for (delay, fails) in [(80 * MS, false), (Duration::ZERO, true)] {
        let (mut world, name, version) = world();
        let meta = World::meta(&name, version, "1+2".parse().unwrap());
        world.place(&name, &meta, &[0]);
        remains(&mut world, &name);
        world.at(&name, 1).delay = delay;
        world.at(&name, 1).always = fails.then_some(PartAnswer::Failed);
        let read = world.get(&name);
        if fails {
            assert!(matches!(read, ReadOutcome::Unavailable { .. }), "{read:?}");
        } else {
            assert_eq!(found(&read), (version, vec![0], true));
        }
    }
}

#[test]
fn a_tombstone_that_is_not_confirmed_is_no_absence_to_a_strict_read() {
    for strict in [false, true] {
        let (mut world, name, _) = world();
        let tombstone = world.tombstone(&name, World::old(110));
        world.place(&name, &tombstone, &[0]);
        for slot in [1, 2] {
            world.at(&name, slot).silent = true;
        }
        let mut request = world.request(&name);
        request.strict = strict;
        let version = tombstone.version;
        let why = if strict { Miss::Unconfirmed(version) } else { Miss::Deleted(version) };
        assert_eq!(world.read(request), ReadOutcome::NotFound { why });
    }
}

#[test]
fn a_tombstone_is_no_miss_where_those_who_could_tell_had_no_room() {
    for strict in [false, true] {
        let mut world = World::new("4+2", 8, |_| {});
        let name = world.name("key");
        let tombstone = world.tombstone(&name, World::old(110));
        // On a target that confirms nothing; what replaced it may be on the first three alone.
        world.place(&name, &tombstone, &[3]);
        for slot in [0, 1, 2] {
            world.at(&name, slot).always = Some(PartAnswer::Overloaded);
        }
        let mut request = world.request(&name);
        request.strict = strict;
        assert_eq!(world.read(request), ReadOutcome::Overloaded);
    }
}

#[test]
fn a_write_that_goes_on_for_ever_is_waited_for_a_few_times() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let version = world.coordinator.next_version(name.hash, world.now);
    let meta = World::meta(&name, version, world.code);
    world.place(&name, &meta, &[0, 1]);
    let mut request = world.request(&name);
    request.deadline = world.now.mono + 10_000 * MS;
    assert_eq!(world.read(request), ReadOutcome::NotFound { why: Miss::Incomplete(version) });
    assert_eq!(world.coordinator.stats().read_rounds, u64::from(super::super::limits::READ_ROUNDS_MAX));
}
