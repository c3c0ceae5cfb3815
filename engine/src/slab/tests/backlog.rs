//! Writes that come faster than slabs are let go.

use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartWrite};
use hedgerow_wire::time::Timestamp;

use crate::slab::testing::{World, name, part, put};
use crate::slab::{StoreConfig, Token};

const SLAB: u32 = 256 << 10;
const SLABS: u32 = 8;

/// A store whose slabs are all taken, though nothing of it is on the device yet; the last writes wait.
fn full() -> (World, Vec<Token>) {
    full_with(|_| {})
}

fn full_with(tune: impl FnOnce(&mut StoreConfig)) -> (World, Vec<Token>) {
    let mut world = World::new(SLABS, SLAB, 5, tune);
    let mut tokens = Vec::new();
    while world.stats().writes_delayed < 10 {
        let key = tokens.len() as u32;
        tokens.push(world.begin_write(&put(&part(&name(key, 0), world.version(u64::from(key)), 16_000))));
        assert!(tokens.len() < 1000, "nothing waits");
    }
    (world, tokens)
}

#[test]
fn writes_wait_for_a_slab_and_are_stored() {
    let (mut world, tokens) = full();
    assert!(world.answers.is_empty());
    world.run();
    for &token in &tokens {
        assert_eq!(world.answers.remove(&token), Some(PartAnswer::Stored));
    }
    let stats = world.stats();
    assert_eq!((stats.overloaded, stats.pending_bytes, stats.requests_under_way), (0, 0, 0), "{stats:?}");
    for key in tokens.len() as u32 - 10..tokens.len() as u32 {
        assert_eq!(world.held(&name(key, 0)), Some(world.version(u64::from(key))), "{key}");
    }
}

#[test]
fn the_newest_of_the_versions_that_wait_is_held() {
    let (mut world, _) = full();
    let (newer, older) = (world.version(5000), world.version(4000));
    let first = world.begin_write(&put(&part(&name(1, 0), newer, 16_000)));
    let second = world.begin_write(&put(&part(&name(1, 0), older, 16_000)));
    world.run();
    assert_eq!(world.answers.remove(&first), Some(PartAnswer::Stored));
    assert_eq!(world.answers.remove(&second), Some(PartAnswer::Superseded { version: newer }));
    assert_eq!(world.held(&name(1, 0)), Some(newer));
}

#[test]
fn a_write_that_is_overtaken_while_it_waits_leaves_no_batch_without_parts() {
    // Every part has a batch of its own, as long as that part.
    let (mut world, _) = full_with(|config| config.commit_len_max = 4096);
    let (newer, older) = (world.version(5000), world.version(4000));
    let first = world.begin_write(&put(&part(&name(1, 0), newer, 16_000)));
    let overtaken = world.begin_write(&put(&part(&name(1, 0), older, 1_000)));
    let longer = world.begin_write(&put(&part(&name(6000, 0), newer, 30_000)));
    // The device refuses a write of nothing.
    world.run();
    assert_eq!(world.answers.remove(&first), Some(PartAnswer::Stored));
    assert_eq!(world.answers.remove(&overtaken), Some(PartAnswer::Superseded { version: newer }));
    assert_eq!(world.answers.remove(&longer), Some(PartAnswer::Stored));
}

#[test]
fn what_waits_for_too_long_has_expired() {
    let (mut world, _) = full();
    let at = |after: u64| Timestamp(1_000_000_000 + after * 1_000_000);
    let write = |world: &World, key, deadline| PartWrite {
        deadline,
        ..put(&part(&name(key, 0), world.version(9000), 16_000))
    };
    let late = world.begin_write(&write(&world, 5000, at(7)));
    let soon = world.begin_write(&write(&world, 5001, at(3)));
    let tick = |world: &mut World| {
        let now = world.now;
        world.store().tick(now);
        world.drain();
    };
    let bytes = world.stats().pending_bytes;
    for (after, answered) in [(2, 0), (1, 1), (3, 1), (1, 2)] {
        world.advance(Duration::from_millis(after));
        tick(&mut world);
        assert_eq!(world.answers.len(), answered, "at {:?}", world.now);
    }
    for token in [late, soon] {
        assert_eq!(world.answers.remove(&token), Some(PartAnswer::Expired));
    }
    assert!(world.stats().pending_bytes < bytes);
    assert_eq!(world.store().next_deadline(), None, "those that are left wait for ever");
    world.run();
    assert_eq!((world.held(&name(5000, 0)), world.stats().pending_bytes), (None, 0));
}

#[test]
fn what_is_cancelled_while_it_waits_is_not_written() {
    let (mut world, tokens) = full();
    let last = *tokens.last().expect("a token");
    assert!(world.store().awaits(last));
    world.store().cancel(last);
    assert!(!world.store().awaits(last));
    world.drain();
    world.run();
    assert_eq!(world.answers.len(), tokens.len() - 1);
    assert_eq!(world.held(&name(tokens.len() as u32 - 1, 0)), None);
    assert_eq!(world.stats().pending_bytes, 0);
}

#[test]
fn nothing_waits_for_a_device_that_is_given_up() {
    let (mut world, tokens) = full();
    let now = world.now;
    world.store().give_up(now);
    world.drain();
    assert!(tokens.iter().all(|token| world.answers.remove(token) == Some(PartAnswer::Failed)));
}

#[test]
fn a_stop_does_not_wait_for_what_waits() {
    let (mut world, tokens) = full();
    world.stop();
    let of = |answer: PartAnswer<_>| {
        tokens.iter().filter(|token| world.answers.get(token) == Some(&answer)).count()
    };
    let (stored, failed) = (of(PartAnswer::Stored), of(PartAnswer::Failed));
    assert_eq!((stored, failed), (tokens.len() - 10, 10));
    world.open().expect("the device opens");
    assert_eq!(world.held(&name(0, 0)), Some(world.version(0)));
}

#[test]
fn beyond_the_bound_on_bytes_nothing_waits() {
    let mut world = World::new(SLABS, SLAB, 5, |config| config.pending_bytes_max = 3 << 20);
    let tokens: Vec<Token> =
        (0..400).map(|key| world.begin_write(&put(&part(&name(key, 0), world.version(1), 16_000)))).collect();
    let refused = tokens.iter().filter(|token| world.answers.get(token) == Some(&PartAnswer::Overloaded));
    let (refused, stats) = (refused.count() as u64, world.stats());
    assert!(refused > 0 && stats.overloaded == refused && stats.writes_delayed > 0, "{refused}: {stats:?}");
    assert!(stats.pending_bytes <= 3 << 20, "{stats:?}");
}
