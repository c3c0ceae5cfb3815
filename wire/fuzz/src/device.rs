//! A device that somebody has tampered with: superblock, slab headers, contents tables, parts, and the snapshot of the
//! last stop.

mod edits;

use hedgerow_engine::slab::StoreConfig;
use hedgerow_wire::part::PartAnswer;

use crate::disk::Disk;
use crate::world::{self, World};
use edits::{Edited, Input};

/// The input is a list of edits of the image of a device that a real store has written ([`edits`]). The device is
/// refused with a reason, or it opens, and then it works: what is written is read again, now and after the next start.
pub fn device(bytes: &[u8]) {
    let mut input = Input(bytes);
    let how = input.byte();
    let image = world::image();
    let bytes = if how & 1 == 0 { &image.killed } else { &image.stopped };
    let mut edited =
        Edited { bytes: bytes.clone(), snapshot: (how & 2 != 0).then(|| image.snapshot.clone()) };
    while input.more() {
        edited.edit(&mut input);
    }
    let Edited { bytes, snapshot } = edited;
    let config = StoreConfig { boot: if how & 4 == 0 { 1 } else { 2 }, ..image.config.clone() };
    match World::open(config.clone(), bytes, snapshot, world::now()) {
        Ok(world) => use_store(world, config, how & 8 != 0),
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a word"),
    }
}

fn use_store(mut world: World, config: StoreConfig, fill: bool) {
    let names = &world::image().names;
    for (i, name) in names.iter().enumerate() {
        world.confirm(name, world::version(i));
        if let PartAnswer::Part { meta, payload } = world.read(name) {
            assert!(meta.key == name.key && meta.record == name.record, "another record's part: {meta:?}");
            assert_eq!(payload.as_ref().len(), meta.part_len());
        }
    }
    world.verify();
    if fill {
        // As much as the device holds, so that every slab is let go once.
        for i in 0..24 {
            world.put(&world::part(&world::name(&format!("filler-{i}")), world::version(200 + i), 14_000));
        }
    }
    let new = world::part(&world::name("new"), world::version(1000), 5000);
    let stored = world.put(&new) == PartAnswer::Stored;
    let check = |world: &mut World| match world.read(&world::name("new")) {
        PartAnswer::Part { meta, payload } => {
            assert!(meta == new && payload.as_ref() == world::payload_of(&new), "another part: {meta:?}");
        }
        other => assert!(!stored, "what was stored is not read: {other:?}"),
    };
    check(&mut world);
    let now = world.now;
    let (Disk { bytes, .. }, snapshot) = world.close();
    match World::open(config, bytes, snapshot, now) {
        Ok(mut world) => check(&mut world),
        Err(error) => panic!("a device that was open does not open again: {error}"),
    }
}
