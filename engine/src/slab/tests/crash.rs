//! A crash after every single operation of the device.

use std::collections::HashMap;

use hedgerow_wire::part::{PartAnswer, PartWrite, Standing};
use hedgerow_wire::{AckLevel, Version};
use rand::SeedableRng;

use crate::slab::Token;
use crate::slab::testing::{Crash, World, name, part, put, tombstone};

/// What was acknowledged of each key.
type Floors = HashMap<u32, Version>;

/// Runs a small history (overwrites, deletes, drops, several fulls of the device, uses) until `stop_at`
/// operations are completed; gives what was acknowledged until then, or `None` if it ended before.
fn history(world: &mut World, ack: AckLevel, stop_at: u64) -> (Floors, bool) {
    let mut floors = Floors::new();
    let mut waiting: Vec<(Token, u32, Version)> = Vec::new();
    let base = world.device.completed;
    for round in 0..40_u32 {
        for key in [round % 7, 10 + round % 3] {
            let version = world.version(u64::from(round * 2 + key % 2));
            let meta = if round % 11 == 10 {
                tombstone(&name(key, 0), version)
            } else {
                part(&name(key, 0), version, 3000 + 997 * (round % 9))
            };
            let token = world.begin_write(&PartWrite { ack, ..put(&meta) });
            waiting.push((token, key, version));
        }
        world.touch(&name(10, 0));
        if round % 13 == 12 {
            let version = world.version(u64::from(round * 2));
            world.drop_record(&name(12, 0), version);
        }
        while world.device.under_way.len() > (round % 3) as usize {
            if world.device.completed - base >= stop_at {
                return (floors, true);
            }
            world.step();
            waiting.retain(|&(token, key, version)| match world.answers.remove(&token) {
                None => true,
                Some(PartAnswer::Stored) => {
                    let floor = floors.entry(key).or_default();
                    *floor = version.max(*floor);
                    false
                }
                Some(PartAnswer::Overloaded | PartAnswer::Superseded { .. }) => false,
                other => panic!("{other:?}"),
            });
        }
    }
    (floors, false)
}

fn check_after(world: &mut World, floors: &Floors, unknown: u64, context: &str) {
    // Whatever is torn, or never came: nothing that was there is missing.
    assert_eq!(world.stats().unknown_through_hlc, unknown, "{context}");
    for (&key, &floor) in floors {
        match world.confirm(&name(key, 0), floor) {
            PartAnswer::Held(Standing::Same | Standing::SameClock | Standing::Newer) => {
                assert!(world.held(&name(key, 0)).is_some_and(|version| version >= floor), "{context}");
            }
            PartAnswer::Absent { forgotten_through, .. } => {
                assert!(forgotten_through >= floor, "{context}: {key}")
            }
            other => panic!("{context}: key {key} is {other:?} to {floor}"),
        }
    }
}

fn crash_after_every_operation(crash: Crash, ack: AckLevel, seed: u64) {
    let mut stop_at = 0;
    loop {
        let mut world = World::new(6, 64 << 10, seed, |config| config.commit_len_max = 16 << 10);
        world.shuffle = true;
        world.rng = rand::rngs::SmallRng::seed_from_u64(seed ^ stop_at);
        let (floors, stopped) = history(&mut world, ack, stop_at);
        let context = format!("crash_after_every_operation({crash:?}, {ack:?}, {seed}) at {stop_at}");
        let unknown = world.stats().unknown_through_hlc;
        world.crash(crash);
        check_after(&mut world, &floors, unknown, &context);
        // A second crash, just after the recovery, changes nothing.
        world.crash(crash);
        check_after(&mut world, &floors, unknown, &context);
        if !stopped {
            assert!(stop_at > 100, "the history has {stop_at} operations");
            assert!(world.stats().parts > 3 && floors.len() == 10);
            return;
        }
        stop_at += 1;
    }
}

#[test]
fn nothing_that_was_written_is_lost_by_a_kill() {
    for seed in 0..3 {
        crash_after_every_operation(Crash::Kill, AckLevel::Written, seed);
    }
    crash_after_every_operation(Crash::KillClean, AckLevel::Written, 9);
}

#[test]
fn nothing_that_was_synced_is_lost_with_the_power() {
    for seed in 0..3 {
        crash_after_every_operation(Crash::Power, AckLevel::Synced, seed);
    }
}

#[test]
fn without_evictions_every_written_part_is_read_back() {
    // In a device that is large enough, `Absent` is no answer.
    for stop_at in 0..30 {
        let mut world = World::new(16, 64 << 10, stop_at, |_| {});
        world.shuffle = true;
        let mut written = Vec::new();
        let tokens: Vec<_> = (0..40)
            .map(|key| {
                let version = world.version(u64::from(key));
                (key, version, world.begin_write(&put(&part(&name(key, 0), version, 5000))))
            })
            .collect();
        for _ in 0..stop_at {
            world.step();
        }
        for (key, version, token) in tokens {
            if world.answers.remove(&token) == Some(PartAnswer::Stored) {
                written.push((key, version));
            }
        }
        world.crash(Crash::Kill);
        for (key, version) in written {
            assert_eq!(world.held(&name(key, 0)), Some(version), "key {key} after {stop_at} operations");
        }
    }
}
