//! Caps of what is in flight at a target, and of operations.

use hedgerow_wire::part::PartAnswer;

use super::super::testing::{Asked, MS, World, found};
use super::super::{ReadOutcome, WriteOutcome};

#[test]
fn past_its_cap_a_target_is_an_erasure_for_reads() {
    let mut world = World::new("4+2", 6, |config| {
        config.target_ops_max = 3;
        config.hedge_floor = 90 * MS;
        config.hedge_ceiling = 90 * MS;
    });
    let name = world.name("key");
    let meta = World::meta(&name, World::old(10), world.code);
    world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
    world.at(&name, 0).silent = true;
    for _ in 0..3 {
        let op = world.begin_read(world.request(&name));
        world.run_for(10 * MS);
        world.coordinator.cancel_read(op, world.now);
    }
    assert_eq!(world.coordinator.stats().asks, 3, "withdrawn ones are in flight until answered");
    let begun = world.now.mono;
    assert_eq!(found(&world.get(&name)).1, [1, 2, 3, 4]);
    assert!(world.now.mono.since(begun) < MS, "nobody waits for it");
    assert_eq!(world.coordinator.stats().hedges, 0);
    assert!(world.coordinator.stats().erasures > 0);
}

#[test]
fn past_its_cap_a_target_misses_its_part_of_a_write() {
    let mut world = World::new("4+2", 6, |config| config.target_ops_max = 2);
    let name = world.name("key");
    world.at(&name, 0).deaf = true;
    for _ in 0..2 {
        world.put(&name);
        world.run_for(2_000 * MS);
    }
    let from = world.log.len();
    let version = world.put(&name);
    assert_eq!(world.asked(&name, from), "1w 2w 3w 4w 5w");
    world.run_for(MS);
    assert!(world.coordinator.stats().writes_capped > 0);
    assert_eq!(world.holders(&name, version), [1, 2, 3, 4, 5]);
    assert!(world.coordinator.stats().under_redundant > 0);
}

#[test]
fn bytes_in_flight_are_capped_too() {
    // Room for two parts of 64 KiB.
    let mut world = World::new("4+2", 6, |config| config.target_bytes_max = 128 << 10);
    let name = world.name("key");
    for slot in 0..6 {
        world.at(&name, slot).deaf = true;
    }
    let meta = World::meta(&name, World::old(0), world.code);
    let first = world.begin_write(meta.clone(), 100 * MS);
    let second = world.begin_write(meta.clone(), 100 * MS);
    assert!(world.coordinator.target_stats().iter().all(|target| target.in_flight_bytes == 128 << 10));
    let third = world.begin_write(meta, 100 * MS);
    assert_eq!(world.writes[&third].1, WriteOutcome::Overloaded, "nothing was sent");
    assert_eq!(world.log.len(), 12);
    world.run_for(100 * MS);
    assert_eq!(world.writes[&first].1, WriteOutcome::Indeterminate);
    assert_eq!(world.writes[&second].1, WriteOutcome::Indeterminate);
    assert_eq!(world.get(&name), ReadOutcome::Overloaded);
}

#[test]
fn a_write_for_whose_quorum_there_is_no_room_is_not_sent() {
    let mut world = World::new("4+2", 6, |config| config.target_ops_max = 1);
    let name = world.name("key");
    world.at(&name, 0).deaf = true;
    world.at(&name, 1).deaf = true;
    world.at(&name, 2).deaf = true;
    let read = world.begin_read(world.request(&name));
    world.run_for(10 * MS);
    world.coordinator.cancel_read(read, world.now);
    let from = world.log.len();
    let meta = World::meta(&name, World::old(0), world.code);
    assert_eq!(world.write(meta, 100 * MS), WriteOutcome::Overloaded);
    assert_eq!(world.log.len(), from);
}

/// Reads `key` for as long as asks are kept for lost, and longer, while its first target holds back.
fn read_while_stuck(world: &mut World) -> u32 {
    let name = world.name("key");
    let target = world.order(&name)[0];
    // A small object that the target is asked to confirm.
    let mut others = (0..).map(|index| world.name(&format!("other {index}")));
    let other = others.find(|other| world.order(other)[1] == target).unwrap();
    let small = World::meta(&other, World::old(10), "1+2".parse().unwrap());
    world.place(&other, &small, &[0, 1, 2]);
    for _ in 0..3 {
        let op = world.begin_read(world.request(&name));
        world.run_for(MS);
        world.coordinator.cancel_read(op, world.now);
    }
    // Nobody else can: the index of the target goes on answering.
    world.at(&other, 2).always = Some(PartAnswer::Failed);
    for _ in 0..100 {
        let mut request = world.request(&other);
        request.code_hint = Some(small.code);
        world.read(request);
        world.run_for(50 * MS);
    }
    let stats = world.coordinator.target_stats();
    stats.iter().find(|stats| stats.target == target).unwrap().in_flight_ops
}

#[test]
fn what_a_stuck_device_was_asked_stays_in_flight() {
    for index_alive in [true, false] {
        let mut world = World::new("4+2", 6, |config| {
            config.target_ops_max = 4;
            // It is not avoided, so that no probes are under way.
            config.slow_factor = 1e9;
            config.hedge_ceiling = 90 * MS;
        });
        let name = world.name("key");
        let meta = World::meta(&name, World::old(10), world.code);
        world.place(&name, &meta, &[0, 1, 2, 3, 4, 5]);
        world.at(&name, 0).delay = 1_000_000 * MS;
        world.at(&name, 0).silent = !index_alive;
        let from = world.log.len();
        assert!(read_while_stuck(&mut world) >= 3, "index alive: {index_alive}");
        let target = world.order(&name)[0];
        let confirms = |(_, at, asked): &(_, _, Asked)| *at == target && asked.letter() == 'c';
        assert!(world.log[from..].iter().any(confirms));
        assert_eq!(world.coordinator.stats().asks_lost, 0);
    }
}

#[test]
fn operations_are_bounded() {
    let mut world = World::new("4+2", 6, |config| config.ops_max = 2);
    let name = world.name("key");
    let reads: Vec<_> = (0..3).map(|_| world.begin_read(world.request(&name))).collect();
    assert_eq!(world.reads[&reads[2]].1, ReadOutcome::Overloaded);
    let meta = World::meta(&name, World::old(0), world.code);
    let write = world.begin_write(meta, 100 * MS);
    assert_eq!(world.writes[&write].1, WriteOutcome::Overloaded);
    assert!(world.released.contains(&write));
    world.run_for(100 * MS);
    assert_eq!(world.coordinator.stats().ops, 0);
    assert_eq!(world.reads.len(), 3);
}
