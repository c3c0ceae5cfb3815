//! Lateness, the hedging budget, slow targets and probes.

use std::time::Duration;

use super::super::testing::{MS, World, found};
use super::super::{Config, ReadOutcome, Target};

const US: Duration = Duration::from_micros(1);

/// A world of `4+2` on six targets with one object, and latencies that are known.
fn warm(configure: impl FnOnce(&mut Config)) -> (World, hedgerow_wire::part::RecordName) {
    let mut world = World::new("4+2", 6, configure);
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    for index in 0..40 {
        let other = world.name(&format!("warm {index}"));
        let meta = World::meta(&other, World::old(10), world.code);
        world.place(&other, &meta, &[0, 1, 2, 3, 4, 5]);
        world.get(&other);
    }
    world.log.clear();
    (world, name)
}

fn took(
    world: &mut World,
    name: &hedgerow_wire::part::RecordName,
) -> (Duration, ReadOutcome<super::super::testing::Bytes>) {
    let begun = world.now.mono;
    let outcome = world.get(name);
    (world.now.mono.since(begun), outcome)
}

fn slow(world: &World, target: Target) -> bool {
    let stats = world.coordinator.target_stats();
    stats.iter().find(|stats| stats.target == target).unwrap().slow
}

#[test]
fn a_spare_is_asked_for_when_one_part_is_late() {
    let (mut world, name) = warm(|_| {});
    world.at(&name, 2).silent = true;
    let (took, outcome) = took(&mut world, &name);
    assert_eq!(found(&outcome).1, [0, 1, 3, 4]);
    assert_eq!(world.asked(&name, 0), "0r 1r 2r 3r 4r");
    assert!(took < 3 * MS, "{took:?}");
    let stats = world.coordinator.stats();
    assert_eq!((stats.hedges, stats.hedges_won), (1, 1));
    assert_eq!(world.withdrawn, 1);
}

#[test]
fn a_spare_is_asked_for_of_a_single_copy() {
    let (mut world, name) = warm(|_| {});
    let meta = World::meta(&name, World::old(5), "1+2".parse().unwrap());
    world.place(&name, &meta, &[0, 1, 2]);
    world.at(&name, 0).silent = true;
    let mut request = world.request(&name);
    request.code_hint = Some(meta.code);
    assert_eq!(found(&world.read(request)).1, [1]);
    assert_eq!(world.asked(&name, 0), "0r 1r 2c");
}

#[test]
fn nothing_is_hedged_when_most_targets_are_late() {
    let (mut world, name) = warm(|_| {});
    for slot in 0..6 {
        world.at(&name, slot).delay = 20 * MS;
    }
    let (_, outcome) = took(&mut world, &name);
    assert_eq!(found(&outcome).1, [0, 1, 2, 3]);
    let stats = world.coordinator.stats();
    assert_eq!(stats.hedges, 0);
    assert!(stats.hedges_most_late > 0);
}

#[test]
fn nothing_is_hedged_while_siblings_are_as_slow() {
    // All take 5 ms now, one of them 6: that is not late.
    let (mut world, name) = warm(|_| {});
    for slot in 0..6 {
        world.at(&name, slot).delay = 5 * MS;
    }
    world.at(&name, 3).delay = 6 * MS;
    let (_, outcome) = took(&mut world, &name);
    assert_eq!(found(&outcome).1, [0, 1, 2, 3]);
    assert_eq!(world.coordinator.stats().hedges, 0);
}

#[test]
fn without_budget_nothing_is_hedged() {
    let (mut world, name) = warm(|config| config.hedge_ratio = 0.0);
    world.at(&name, 2).delay = 40 * MS;
    let (took, outcome) = took(&mut world, &name);
    assert_eq!(found(&outcome).1, [0, 1, 2, 3]);
    assert!(took >= 40 * MS);
    let stats = world.coordinator.stats();
    assert_eq!((stats.hedges, stats.hedges_over_budget), (0, 1));
}

#[test]
fn of_a_range_all_that_a_late_part_is_rebuilt_from_are_hedges() {
    for (ratio, asked, hedges) in [(0.1, "1r 0r 2r 3r 4r", 4), (0.0, "1r", 0)] {
        let (mut world, name) = warm(|config| config.hedge_ratio = ratio);
        world.at(&name, 1).delay = 40 * MS;
        let mut request = world.request(&name);
        request.version = Some(World::old(10));
        request.code_hint = Some(world.code);
        request.stripe_len = Some(256 << 10);
        request.range = Some((64 << 10)..(65 << 10));
        let parts = found(&world.read(request)).1;
        assert_eq!(parts, if hedges > 0 { vec![0, 2, 3, 4] } else { vec![1] });
        assert_eq!(world.asked(&name, 0), asked);
        assert_eq!(world.coordinator.stats().hedges, hedges);
    }
}

#[test]
fn a_spent_budget_is_earned_back() {
    // A different target is late in every read, so that none is avoided.
    let (mut world, _) = warm(|config| {
        config.hedge_ratio = 0.02;
        config.hedge_burst = 5;
    });
    for index in 0..400 {
        let name = world.name(&format!("warm {}", index % 40));
        world.at(&name, index % 4).delay = 4 * MS;
        world.get(&name);
        world.run_for(5 * MS);
        world.at(&name, index % 4).delay = 300 * US;
    }
    let stats = world.coordinator.stats();
    let most = 5 + (stats.part_reads as f64 * 0.02) as u64;
    assert!(stats.hedges <= most, "{} hedges of {} part reads", stats.hedges, stats.part_reads);
    assert!(stats.hedges > 20 && stats.hedges_over_budget > 20, "{stats:?}");
}

#[test]
fn a_slow_target_is_avoided_without_extra_reads_and_probed_until_it_is_fast() {
    let (mut world, _) = warm(|_| {});
    let target = *world.targets.keys().next().unwrap();
    world.targets.get_mut(&target).unwrap().delay = 30 * MS;
    let read_for = |world: &mut World, reads: usize| {
        let mut slowest = Duration::ZERO;
        for index in 0..reads {
            let name = world.name(&format!("warm {}", index % 40));
            slowest = slowest.max(took(world, &name).0);
            world.run_for(MS);
        }
        slowest
    };
    read_for(&mut world, 60);
    assert!(slow(&world, target), "{:?}", world.coordinator.target_stats());
    let before = world.coordinator.stats();
    let slowest = read_for(&mut world, 200);
    let after = world.coordinator.stats();
    assert!(slowest < MS, "{slowest:?}");
    assert_eq!(after.hedges, before.hedges, "another part instead, from the start");
    assert_eq!(after.part_reads - before.part_reads, 800, "no extra read");
    assert!(after.avoided > before.avoided + 50);
    let probes = after.probes - before.probes;
    assert!((2..=20).contains(&probes), "{probes} probes in about 260 ms");
    // It is fast again: probes find that out.
    world.targets.get_mut(&target).unwrap().delay = 300 * US;
    read_for(&mut world, 300);
    assert!(!slow(&world, target));
    let before = world.coordinator.stats();
    read_for(&mut world, 50);
    assert_eq!(world.coordinator.stats().avoided, before.avoided);
}

#[test]
fn a_target_that_stops_answering_is_avoided() {
    let (mut world, name) = warm(|_| {});
    let target = world.order(&name)[1];
    world.at(&name, 1).silent = true;
    world.get(&name);
    world.run_for(100 * MS);
    world.get(&name);
    assert!(slow(&world, target));
    let from = world.log.len();
    let (took, outcome) = took(&mut world, &name);
    assert_eq!(found(&outcome).1, [0, 2, 3, 4]);
    assert!(took < MS);
    assert_eq!(world.asked(&name, from).replace("1r ", ""), "0r 2r 3r 4r");
    // It answers again what it is asked, though never what it was asked before.
    world.at(&name, 1).silent = false;
    for _ in 0..600 {
        world.get(&name);
        world.run_for(10 * MS);
    }
    assert!(!slow(&world, target), "{:?}", world.coordinator.target_stats());
    assert_eq!(world.coordinator.stats().asks, 0, "what was lost is no longer in flight");
    assert!(world.coordinator.stats().asks_lost > 0);
}

#[test]
fn a_target_that_keeps_failing_is_avoided() {
    let (mut world, name) = warm(|_| {});
    let target = world.order(&name)[1];
    world.at(&name, 1).always = Some(hedgerow_wire::part::PartAnswer::Failed);
    for _ in 0..20 {
        world.get(&name);
        world.run_for(5 * MS);
    }
    assert!(slow(&world, target));
    world.at(&name, 1).always = None;
    for _ in 0..50 {
        world.get(&name);
        world.run_for(10 * MS);
    }
    assert!(!slow(&world, target));
}

#[test]
fn one_straggler_makes_no_target_slow() {
    let (mut world, name) = warm(|_| {});
    let target = world.order(&name)[1];
    world.at(&name, 1).delay = 30 * MS;
    world.get(&name);
    world.at(&name, 1).delay = 300 * US;
    for _ in 0..20 {
        world.run_for(5 * MS);
        world.get(&name);
        assert!(!slow(&world, target));
    }
}

#[test]
fn when_all_become_slow_none_is() {
    let (mut world, name) = warm(|_| {});
    for slot in 0..6 {
        world.at(&name, slot).delay = 20 * MS;
    }
    for index in 0..60 {
        let name = world.name(&format!("warm {}", index % 40));
        world.get(&name);
    }
    assert!(world.coordinator.target_stats().iter().all(|stats| !stats.slow));
    assert!(world.coordinator.target_stats().iter().all(|stats| stats.latency_mean > 10 * MS));
}

#[test]
fn single_copies_are_not_hedged_either_when_most_targets_are_late() {
    let (mut world, _) = warm(|_| {});
    let names: Vec<_> = (0..24).map(|index| world.name(&format!("small {index}"))).collect();
    for name in &names {
        let meta = World::meta(name, World::old(10), "1+2".parse().unwrap());
        world.place(name, &meta, &[0, 1, 2]);
    }
    for target in world.targets.values_mut() {
        target.delay = 20 * MS;
    }
    for name in &names {
        let mut request = world.request(name);
        request.code_hint = Some("1+2".parse().unwrap());
        world.begin_read(request);
        world.run_for(50 * US);
    }
    // Until the first answers: a few are hedged before it is known that most are late.
    world.run_for(18 * MS);
    let stats = world.coordinator.stats();
    assert!(stats.hedges <= 8, "{} of 24 reads hedged", stats.hedges);
    assert!(stats.hedges_most_late >= 16);
}
