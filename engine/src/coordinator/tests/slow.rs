//! Targets that are slow: how that is noticed, where they are avoided, how they are probed.

use hedgerow_wire::part::{PartAnswer, RecordName};
use hedgerow_wire::time::Timestamp;

use super::super::Target;
use super::super::limits::{PROBE_PATIENCE, PROBES_IN_FLIGHT_MAX, PROBES_PROMPT_MIN};
use super::super::targets::Class;
use super::super::testing::{MS, World, found};
use super::targets::{US, learnt};

/// A world of `4+2` on six targets with objects `0` to `39`, and latencies that are known.
fn warm() -> World {
    let mut world = World::new("4+2", 6, |_| {});
    for index in 0..40 {
        let name = warmed(&world, index);
        let meta = World::meta(&name, World::old(10), world.code);
        world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
        world.get(&name);
    }
    world
}

fn warmed(world: &World, index: usize) -> RecordName {
    world.name(&(index % 40).to_string())
}

/// Reads objects for `time`, one each millisecond, with so much time for each.
fn read_for(world: &mut World, time: std::time::Duration, each: std::time::Duration) {
    let until = world.now.mono + time;
    for index in 0.. {
        let name = warmed(world, index);
        let mut request = world.request(&name);
        request.deadline = world.now.mono + each;
        world.read(request);
        world.run_for(MS);
        if world.now.mono >= until {
            return;
        }
    }
}

fn is_slow(world: &World, target: Target) -> bool {
    let stats = world.coordinator.target_stats();
    stats.iter().find(|stats| stats.target == target).unwrap().slow
}

/// Makes the second target of `name` slow by failures, and whole again.
fn make_slow(world: &mut World, name: &RecordName) {
    world.at(name, 1).always = Some(PartAnswer::Failed);
    read_for(world, 40 * MS, 100 * MS);
    assert!(is_slow(world, world.order(name)[1]));
    world.at(name, 1).always = None;
}

#[test]
fn a_range_is_rebuilt_from_others_rather_than_read_from_a_slow_target() {
    let mut world = warm();
    let name = warmed(&world, 0);
    make_slow(&mut world, &name);
    let mut request = world.request(&name);
    request.version = Some(World::old(10));
    request.code_hint = Some(world.code);
    request.stripe_len = Some(256 << 10);
    request.range = Some((64 << 10)..(65 << 10));
    assert_eq!(found(&world.read(request)).1, [0, 2, 3, 4]);
}

#[test]
fn confirmations_are_asked_of_slow_targets_last() {
    let mut world = warm();
    let name = warmed(&world, 0);
    let meta = World::meta(&name, World::old(10), "1+2".parse().unwrap());
    world.place(&name, &meta, &[0, 1, 2]);
    let read = |world: &mut World| {
        let mut request = world.request(&name);
        request.code_hint = Some(meta.code);
        let from = world.log.len();
        assert_eq!(found(&world.read(request)), (meta.version, vec![0], true));
        world.asked(&name, from)
    };
    assert_eq!(read(&mut world), "0r 1c");
    make_slow(&mut world, &name);
    assert_eq!(read(&mut world), "0r 2c");
}

#[test]
fn a_slow_target_is_probed_now_and_then() {
    let mut world = warm();
    let name = warmed(&world, 0);
    make_slow(&mut world, &name);
    // It answers, but not promptly enough to be trusted.
    world.at(&name, 1).delay = 5 * MS;
    let before = world.coordinator.stats().probes;
    read_for(&mut world, 2_000 * MS, 100 * MS);
    let probes = world.coordinator.stats().probes - before;
    // One each 20 ms, or up to an eighth later.
    assert!((80..=101).contains(&probes), "{probes}");
}

#[test]
fn a_silent_target_is_probed_seldom_and_by_a_few_at_most() {
    let mut world = warm();
    let name = warmed(&world, 0);
    make_slow(&mut world, &name);
    world.at(&name, 1).silent = true;
    let before = world.coordinator.stats().probes;
    let probes = |world: &World| world.coordinator.stats().probes - before;
    read_for(&mut world, 4 * PROBE_PATIENCE, 60_000 * MS);
    assert!((3..=5).contains(&probes(&world)), "{}", probes(&world));
    read_for(&mut world, 2 * PROBE_PATIENCE * u32::from(PROBES_IN_FLIGHT_MAX), 60_000 * MS);
    assert_eq!(probes(&world), u64::from(PROBES_IN_FLIGHT_MAX));
}

#[test]
fn a_target_whose_cap_is_full_of_lost_asks_is_found_to_be_back() {
    let mut world = World::new("4+2", 6, |config| config.target_ops_max = 4);
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    for _ in 0..20 {
        world.get(&name);
    }
    world.at(&name, 1).deaf = true;
    let each = |world: &mut World, time: std::time::Duration| {
        let until = world.now.mono + time;
        while world.now.mono < until {
            world.get(&name);
            world.run_for(10 * MS);
        }
    };
    each(&mut world, 4 * PROBE_PATIENCE * u32::from(PROBES_IN_FLIGHT_MAX));
    assert!(world.coordinator.stats().probes > u64::from(PROBES_IN_FLIGHT_MAX));
    world.at(&name, 1).deaf = false;
    each(&mut world, 10 * PROBE_PATIENCE);
    assert!(!is_slow(&world, world.order(&name)[1]));
    assert_eq!(world.coordinator.stats().asks, 0);
}

#[test]
fn prompt_answers_to_probes_in_a_row_make_a_target_trusted() {
    let mut targets = learnt([300 * US, 300 * US, 5000 * US, 300 * US, 300 * US, 300 * US]);
    assert!(targets.slow(2));
    let mut now = Timestamp(1_000_000_000);
    let mut probe = |took| {
        now = now + 1000 * MS;
        assert!(targets.take_probe(2, now));
        targets.probed(2, took);
        targets.slow(2)
    };
    let prompt = Some((Class::Medium, 300 * US));
    for unfit in [Some((Class::Medium, 5000 * US)), None] {
        for _ in 1..PROBES_PROMPT_MIN {
            assert!(probe(prompt));
        }
        assert!(probe(unfit), "not in a row");
    }
    for _ in 1..PROBES_PROMPT_MIN {
        assert!(probe(prompt));
    }
    assert!(!probe(prompt));
}

#[test]
fn a_target_that_is_often_late_is_slow() {
    // Two parts of three come at once, so that its latency is no worse than the others'.
    let mut world = warm();
    let name = warmed(&world, 0);
    let target = world.order(&name)[1];
    for round in 0..120 {
        world.at(&name, 1).silent = round % 3 == 0;
        world.get(&name);
        world.run_for(MS);
    }
    let stats = world.coordinator.target_stats();
    let of_target = stats.iter().find(|stats| stats.target == target).unwrap();
    assert!(of_target.latency_mean < 2 * 300 * US, "{of_target:?}");
    assert!(of_target.slow && of_target.hedges > 3, "{of_target:?}");
}

#[test]
fn a_part_that_was_given_up_took_at_least_that_long() {
    let mut world = warm();
    let name = warmed(&world, 0);
    let target = world.order(&name)[1];
    let mean = |world: &World| {
        let stats = world.coordinator.target_stats();
        stats.iter().find(|stats| stats.target == target).unwrap().latency_mean
    };
    let before = mean(&world);
    world.at(&name, 1).silent = true;
    world.get(&name);
    assert!(mean(&world) > before + 10 * US, "{:?} after {before:?}", mean(&world));
}
