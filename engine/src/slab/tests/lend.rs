//! Slabs that are lent out: nothing is written to them meanwhile, and nothing is lost.

use std::time::Duration;

use hedgerow_wire::Version;

use crate::slab::LentSlab;
use crate::slab::testing::{Crash, World, name, part};

const SLAB: u32 = 256 << 10;
const SLABS: u32 = 12;

/// What anybody may write to a lent slab.
fn write_through(world: &mut World, lent: &LentSlab) {
    let range = lent.offset as usize..(lent.offset + lent.len) as usize;
    world.device.bytes[range].fill(0);
}

fn put(world: &mut World, key: u32) -> (u32, Version) {
    let version = world.version(0);
    world.put(&part(&name(key, 0), version, 16_000));
    world.advance(Duration::from_micros(100));
    (key, version)
}

/// Whether the part is there, with the right bytes.
fn holds(world: &mut World, (key, version): (u32, Version)) -> bool {
    world.held(&name(key, 0)) == Some(version)
}

#[test]
fn slabs_that_are_used_are_lent_once_each_while_enough_are_free() {
    let mut world = World::new(SLABS, SLAB, 5, |_| {});
    let mut lent = Vec::new();
    while let Some(slab) = world.store().lend() {
        assert_eq!(slab.len, u64::from(SLAB));
        lent.push(slab);
    }
    // Two that eviction keeps, one to write to, and what is being written to already.
    assert!((SLABS as usize - 5..=SLABS as usize - 3).contains(&lent.len()), "{}", lent.len());
    let mut offsets: Vec<u64> = lent.iter().map(|slab| slab.offset).collect();
    offsets.dedup();
    assert_eq!(offsets.len(), lent.len());
    let count = lent.len();
    lent.into_iter().for_each(|slab| world.store().take_back(slab, false));
    let lent: Vec<LentSlab> = std::iter::from_fn(|| world.store().lend()).collect();
    assert_eq!(lent.len(), count, "those that were not used are lent again");
    lent.into_iter().for_each(|slab| world.store().take_back(slab, true));
    let again: Vec<LentSlab> = std::iter::from_fn(|| world.store().lend()).collect();
    assert!(again.len() <= 3, "those that were lent are not lent again: {}", again.len());
}

#[test]
fn nothing_is_written_to_a_slab_that_is_lent() {
    let mut world = World::new(SLABS, SLAB, 6, |_| {});
    let mut parts = vec![put(&mut world, 0)];
    let mut key = 1;
    // While slabs are lent, given back and lent again, the others are filled, and let go.
    for _ in 0..3 * SLABS {
        let lent = world.store().lend();
        for _ in 0..10 {
            parts.push(put(&mut world, key));
            key += 1;
        }
        if let Some(lent) = lent {
            write_through(&mut world, &lent);
            world.store().take_back(lent, true);
        }
    }
    let held = parts.into_iter().filter(|&part| holds(&mut world, part)).count();
    assert_eq!(held as u64, world.stats().parts, "all that the index knows is there");
    assert!(world.stats().slabs_evicted > 0);
}

#[test]
fn a_crash_while_a_slab_is_lent_loses_nothing() {
    let mut world = World::new(SLABS, SLAB, 7, |_| {});
    let parts: Vec<(u32, Version)> = (0..20).map(|key| put(&mut world, key)).collect();
    let lent = world.store().lend().expect("a free slab");
    write_through(&mut world, &lent);
    drop(lent);
    world.crash(Crash::Kill);
    assert!(parts.into_iter().all(|part| holds(&mut world, part)));
    for key in 100..200 {
        let part = put(&mut world, key);
        assert!(holds(&mut world, part));
    }
}
