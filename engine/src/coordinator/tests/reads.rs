//! Assembly: how many are asked, which parts suffice, late answers, deadlines.

use hedgerow_wire::part::{PartAnswer, PartKind, PartMeta};
use hedgerow_wire::types::{Code, ReadPolicy, Record};

use super::super::testing::{Asked, Bytes, MS, World, found};
use super::super::{Miss, ReadOutcome, ReadRequest};

fn code(text: &str) -> Code {
    text.parse().unwrap()
}

/// Places an object of `shape` in a world of `4+2`, reads it as changed by `change`, and says what was
/// asked and which parts came.
fn check(shape: &str, change: impl FnOnce(&mut ReadRequest), asked: &str, parts: &[u8]) {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code(shape));
    world.place(&name, &meta, &(0..meta.code.n()).collect::<Vec<_>>());
    let mut request = world.request(&name);
    change(&mut request);
    let outcome = world.read(request);
    assert_eq!(found(&outcome), (meta.version, parts.to_vec(), true));
    assert_eq!(world.asked(&name, 0), asked);
}

#[test]
fn no_more_is_asked_than_is_needed() {
    check("4+2", |_| {}, "0r 1r 2r 3r", &[0, 1, 2, 3]);
    check("2+2", |request| request.code_hint = Some(code("2+2")), "0r 1r", &[0, 1]);
    // One copy is no confirmation: one more of the first three has to say that it holds nothing newer.
    check("1+2", |request| request.code_hint = Some(code("1+2")), "0r 1c", &[0]);
}

#[test]
fn a_wrong_hint_costs_time_only() {
    check("4+2", |request| request.code_hint = Some(code("1+2")), "0r 1r 2r 3r", &[0, 1, 2, 3]);
    check("1+2", |_| {}, "0r 1r 2r 3r", &[0]);
}

#[test]
fn all_parts_are_asked_for_when_the_policy_says_so() {
    check("4+2", |request| request.policy = ReadPolicy::All, "0r 1r 2r 3r 4r 5r", &[0, 1, 2, 3]);
}

#[test]
fn immutable_objects_need_no_confirmations() {
    let immutable = |request: &mut ReadRequest| {
        request.code_hint = Some(code("1+2"));
        request.immutable = true;
    };
    check("1+2", immutable, "0r", &[0]);
}

#[test]
fn a_given_version_needs_no_confirmations() {
    let fixed = |request: &mut ReadRequest| {
        request.code_hint = Some(code("1+2"));
        request.version = Some(World::old(10));
    };
    check("1+2", fixed, "0r", &[0]);
}

#[test]
fn of_a_range_the_data_parts_that_it_touches_suffice() {
    // Parts of 64 KiB: the range touches parts 1 and 2.
    let range = |request: &mut ReadRequest| {
        request.range = Some((65 << 10)..(130 << 10));
        request.version = Some(World::old(10));
    };
    let hinted = |request: &mut ReadRequest| {
        range(request);
        request.code_hint = Some(code("4+2"));
        request.stripe_len = Some(256 << 10);
    };
    check("4+2", hinted, "1r 2r", &[1, 2]);
    check("4+2", range, "0r 1r 2r 3r", &[1, 2]);
}

#[test]
fn a_range_whose_part_is_gone_is_rebuilt_from_k_others() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("4+2"));
    world.place(&name, &meta, &[0, 2, 3, 4, 5]);
    let mut request = world.request(&name);
    request.range = Some((65 << 10)..(66 << 10));
    request.version = Some(meta.version);
    request.code_hint = Some(meta.code);
    request.stripe_len = Some(meta.stripe_len);
    assert_eq!(found(&world.read(request)).1, [0, 2, 3, 4]);
    assert_eq!(world.asked(&name, 0).replace(" 1x", ""), "1r 0r 2r 3r 4r");
    assert_eq!(world.coordinator.stats().hedges, 0);
}

#[test]
fn a_target_answers_with_the_part_that_it_holds() {
    // Positions 0 and 1 hold each other's parts, 2 and 3 hold the same one.
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("4+2"));
    for (slot, part) in [(0, 1), (1, 0), (2, 3), (3, 3), (4, 4), (5, 5)] {
        world.place(&name, &meta, &[slot]);
        world.at(&name, slot).parts.insert((name.hash, name.record), PartMeta { part, ..meta.clone() });
    }
    assert_eq!(found(&world.get(&name)), (meta.version, vec![0, 1, 3, 4], true));
}

#[test]
fn erasures_are_replaced_at_once_and_free_of_the_hedging_budget() {
    for answer in [PartAnswer::Failed, PartAnswer::Overloaded, PartAnswer::Expired, PartAnswer::Damaged] {
        let mut world = World::new("4+2", 8, |config| config.hedge_ratio = 0.0);
        let name = world.name("key");
        let meta = World::meta(&name, World::old(10), code("4+2"));
        world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
        world.at(&name, 3).always = Some(answer.clone());
        world.at(&name, 0).always = Some(answer);
        let begun = world.now.mono;
        assert_eq!(found(&world.get(&name)), (meta.version, vec![1, 2, 4, 5], true));
        assert!(world.now.mono.since(begun) < MS);
        let stats = world.coordinator.stats();
        assert_eq!((stats.hedges, stats.erasures), (0, 2));
        let of_targets = world.coordinator.target_stats().iter().map(|target| target.erasures).sum::<u64>();
        assert_eq!(of_targets, 2);
    }
}

#[test]
fn too_many_failures_are_said_at_once() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("4+2"));
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    for slot in 0..3 {
        world.at(&name, slot).always = Some(PartAnswer::Failed);
    }
    let outcome = world.get(&name);
    assert!(matches!(outcome, ReadOutcome::Unavailable { need: 4, .. }), "{outcome:?}");
}

#[test]
fn a_head_is_a_copy_and_its_payload_is_empty() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let sole = World::meta(&name, World::old(10), code("1+2"));
    let head = PartMeta { kind: PartKind::Head, stripe_len: 0, object_len: 3 << 20, ..sole };
    world.place(&name, &head, &[0, 1, 2]);
    assert_eq!(found(&world.get(&name)), (head.version, vec![0], true));
}

#[test]
fn a_stripe_of_another_version_is_a_miss() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = hedgerow_wire::part::RecordName { record: Record::stripe(0), ..world.name("key") };
    let meta = World::meta(&name, World::old(10), code("4+2"));
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    let mut request = world.request(&name);
    request.version = Some(World::old(20));
    assert_eq!(world.read(request.clone()), ReadOutcome::NotFound { why: Miss::Absent });
    // Three parts of four: the rest was overwritten.
    let other = World::meta(&name, World::old(20), code("4+2"));
    world.place(&name, &other, &[0, 1, 2]);
    for slot in 0..6 {
        world.at(&name, slot).index_delay = MS;
    }
    assert_eq!(world.read(request), ReadOutcome::NotFound { why: Miss::Incomplete(World::old(20)) });
}

#[test]
fn a_part_of_another_version_than_asked_for_is_counted_and_not_taken() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("4+2"));
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    let other = World::meta(&name, World::old(20), code("4+2"));
    let payload = Bytes { version: other.version, part: 0 };
    world.at(&name, 0).always = Some(PartAnswer::Part { meta: other, payload });
    let mut request = world.request(&name);
    request.version = Some(meta.version);
    assert_eq!(found(&world.read(request)), (meta.version, vec![1, 2, 3, 4], true));
    assert_eq!(world.coordinator.stats().answers_invalid, 1);
}

#[test]
fn an_object_of_more_parts_than_expected_is_found() {
    let mut world = World::new("4+2", 12, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("8+2"));
    world.place(&name, &meta, &(0..10).collect::<Vec<_>>());
    assert_eq!(found(&world.get(&name)), (meta.version, (0..8).collect(), true));
}

#[test]
fn parts_that_contradict_their_siblings_are_no_parts() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("4+2"));
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    let other = world.name("other");
    let at = (name.hash, name.record);
    world.at(&name, 1).parts.get_mut(&at).unwrap().key = other.key;
    world.at(&name, 2).parts.get_mut(&at).unwrap().stripe_len = 17;
    world.at(&name, 1).delay = 2 * MS;
    world.at(&name, 2).delay = 2 * MS;
    let outcome = world.get(&name);
    assert!(
        matches!(outcome, ReadOutcome::Found { ref parts, .. }
        if parts.iter().map(|p| p.0).collect::<Vec<_>>() == [0, 3, 4, 5]),
        "{outcome:?}"
    );
}

#[test]
fn a_read_ends_by_its_deadline() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("4+2"));
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    for slot in 0..3 {
        world.at(&name, slot).silent = true;
    }
    let deadline = world.now.mono + 100 * MS;
    assert_eq!(world.get(&name), ReadOutcome::DeadlineExceeded);
    assert_eq!(world.now.mono, deadline - MS, "a margin before it");
    let mut past = world.request(&name);
    past.deadline = world.now.mono;
    let from = world.log.len();
    assert_eq!(world.read(past), ReadOutcome::DeadlineExceeded);
    assert_eq!(world.log.len(), from, "nothing is asked when it is too late");
    for (_, _, asked) in &world.log {
        assert!(matches!(asked, Asked::Read(read) if read.deadline == deadline), "{asked:?}");
    }
}

#[test]
fn late_and_repeated_answers_only_count() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), code("4+2"));
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    world.trouble.repeat = 1.0;
    world.at(&name, 3).delay = 30 * MS;
    for _ in 0..50 {
        assert_eq!(found(&world.get(&name)).0, meta.version);
    }
    world.run_for(1000 * MS);
    let stats = world.coordinator.stats();
    assert!(stats.answers_unknown >= 200, "{stats:?}");
    assert_eq!((stats.asks, stats.ops), (0, 0), "everything in flight was accounted for");
    assert!(world.coordinator.target_stats().iter().all(|t| t.in_flight_ops == 0 && t.in_flight_bytes == 0));
}

#[test]
fn a_cancelled_read_has_no_outcome() {
    let mut world = World::new("4+2", 8, |_| {});
    let name = world.name("key");
    world.put(&name);
    world.run_for(MS);
    let op = world.begin_read(world.request(&name));
    world.coordinator.cancel_read(op, world.now);
    assert_eq!(world.coordinator.stats().asks, 4, "in flight until answered");
    world.run_for(200 * MS);
    assert!(!world.reads.contains_key(&op));
    assert_eq!(world.withdrawn, 4);
    assert_eq!((world.coordinator.stats().asks, world.coordinator.stats().ops), (0, 0));
    // The slot is used again; a stale id cancels nothing.
    let next = world.begin_read(world.request(&name));
    world.coordinator.cancel_read(op, world.now);
    world.run_while(|world| !world.reads.contains_key(&next));
}
