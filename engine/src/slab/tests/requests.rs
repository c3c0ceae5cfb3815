//! What each request is answered, and what it costs.

use std::time::Duration;

use hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;
use hedgerow_wire::part::{
    PartAnswer, PartConfirm, PartMeta, PartRead, PartWrite, RecordName, Standing, WritePurpose,
};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{AckLevel, Version};

use crate::slab::layout::{BLOCK_LEN, SLABS_START};
use crate::slab::testing::{Answer, EIO, Op, World, check_part, name, part, payload_of, put, tombstone};
use crate::slab::{IoError, IoErrorKind};

const SLAB: u32 = 256 << 10;

fn world() -> World {
    World::new(8, SLAB, 1, |_| {})
}

fn absent(answer: &Answer) -> Version {
    match answer {
        PartAnswer::Absent { forgotten_through, .. } => *forgotten_through,
        other => panic!("{other:?}"),
    }
}

#[test]
fn parts_of_every_length_come_back() {
    let mut world = world();
    let lens = [0, 1, 63, 64, 3000, 4096, 4097, 60_000, 100_000];
    for (key, len) in lens.into_iter().enumerate() {
        let meta = part(&name(key as u32, 0), world.version(1), len);
        world.put(&meta);
    }
    for (key, len) in lens.into_iter().enumerate() {
        match world.read(&name(key as u32, 0)) {
            PartAnswer::Part { meta, payload } => {
                check_part(&meta, &payload);
                assert_eq!(payload.range().len(), len as usize);
            }
            other => panic!("{other:?}"),
        }
    }
    let forgotten = absent(&world.read(&name(99, 0)));
    assert!(forgotten < world.version(0), "{forgotten}");
    let stats = world.stats();
    assert_eq!((stats.read_hits, stats.read_misses, stats.parts), (9, 1, 9));
    // One header block, and padding to the ends of blocks: nothing else but the parts.
    let superblocks = stats.superblock_writes * BLOCK_LEN as u64;
    let sum = stats.bytes_admitted + stats.bytes_padding + stats.bytes_tables + superblocks;
    assert_eq!(stats.bytes_written, sum);
}

#[test]
fn heads_and_tombstones_have_empty_payloads() {
    let mut world = world();
    let meta = tombstone(&name(1, 0), world.version(1));
    world.put(&meta);
    match world.read(&name(1, 0)) {
        PartAnswer::Part { meta: found, payload } => {
            assert_eq!(found, meta);
            assert!(payload.as_ref().is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_order_of_versions_decides_a_write() {
    let v = |n: u64, coordinator| Version {
        hlc: Version::hlc_from_wall_us(1_700_000_000_000_000) + n,
        coordinator,
    };
    let stored = || PartAnswer::Stored;
    let superseded = |version| PartAnswer::Superseded { version };
    // First write, second write, its answer, what is held then.
    let cases = [
        (v(10, 5), v(11, 1), stored(), v(11, 1)),
        (v(10, 5), v(10, 6), stored(), v(10, 6)),
        (v(10, 5), v(10, 5), stored(), v(10, 5)),
        (v(10, 5), v(10, 4), superseded(v(10, 5)), v(10, 5)),
        (v(10, 5), v(9, 9), superseded(v(10, 5)), v(10, 5)),
    ];
    for (first, second, expected, held) in cases {
        for (pending, forget_exact) in [(false, false), (false, true), (true, false)] {
            let mut world = world();
            let key = name(1, 0);
            let before = world.begin_write(&put(&part(&key, first, 500)));
            if !pending {
                assert_eq!(world.answer(before), stored());
            }
            if forget_exact {
                // As after a start: only the header on the device knows the coordinator.
                world.store().exact = crate::slab::exact::ExactVersions::new(1);
            }
            let answer = world.write(&put(&part(&key, second, 500)));
            assert_eq!(answer, expected, "{second} after {first}, pending {pending}");
            assert_eq!(world.held(&key), Some(held));
        }
    }
}

#[test]
fn a_drop_of_a_whole_clock_reads_nothing() {
    let mut world = world();
    let (key, version) = (name(1, 0), world.version(1));
    world.put(&part(&key, version, 500));
    world.store().exact = crate::slab::exact::ExactVersions::new(1);
    let reads = world.device.reads;
    assert_eq!(world.drop_record(&key, Version::last_of_clock(version.hlc - 1)), PartAnswer::Dropped);
    assert_eq!(world.device.reads, reads);
    assert_eq!(world.held(&key), Some(version), "a clock before it");
    // `held` has read the head.
    world.store().exact = crate::slab::exact::ExactVersions::new(1);
    let reads = world.device.reads;
    assert_eq!(world.drop_record(&key, Version::last_of_clock(version.hlc)), PartAnswer::Dropped);
    assert_eq!(world.device.reads, reads);
    assert_eq!(world.held(&key), None);
}

#[test]
fn a_write_that_is_repeated_is_stored_once() {
    let mut world = world();
    let write = put(&part(&name(1, 0), world.version(1), 500));
    let (a, b) = (world.begin_write(&write), world.begin_write(&write));
    assert_eq!((world.answer(a), world.answers.remove(&b)), (PartAnswer::Stored, Some(PartAnswer::Stored)));
    assert_eq!(world.write(&write), PartAnswer::Stored);
    assert_eq!(world.stats().parts_admitted, 1);
}

#[test]
fn refusals_do_not_touch_the_device() {
    let mut world = world();
    let (key, now) = (name(1, 0), world.now);
    let ahead =
        Version { hlc: Version::hlc_from_wall_us(now.wall_us + CLOCK_AHEAD_US_MAX + 1000), coordinator: 1 };
    let allowed =
        Version { hlc: Version::hlc_from_wall_us(now.wall_us + CLOCK_AHEAD_US_MAX - 1000), coordinator: 1 };
    let late = PartWrite { deadline: now.mono, ..put(&part(&key, world.version(1), 10)) };
    assert_eq!(world.write(&late), PartAnswer::Expired);
    match world.write(&put(&part(&key, ahead, 10))) {
        PartAnswer::ClockAhead { ahead_us } => {
            assert!((CLOCK_AHEAD_US_MAX..CLOCK_AHEAD_US_MAX + 2000).contains(&ahead_us))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.stats().commits, 0);
    assert_eq!(world.write(&put(&part(&key, allowed, 10))), PartAnswer::Stored);
    let reads = world.device.reads;
    let (token, read) = (world.token(), PartRead { name: key, version: None, deadline: now.mono });
    world.store().read(token, &read, now);
    world.drain();
    assert_eq!(world.answer(token), PartAnswer::Expired);
    let PartRead { name: RecordName { hash, record, .. }, deadline, .. } = read;
    let (token, confirm) = (world.token(), PartConfirm { hash, record, version: allowed, deadline });
    world.store().confirm(token, &confirm, now);
    world.drain();
    assert_eq!(world.answer(token), PartAnswer::Expired);
    assert_eq!(world.device.reads, reads);
    // A part that no slab can hold, and a payload that is not the part's.
    assert_eq!(world.write(&put(&part(&name(2, 0), allowed, SLAB))), PartAnswer::Failed);
    let token = world.token();
    world.store().write(token, &put(&part(&name(2, 0), allowed, 10)), &[0; 9], now);
    world.drain();
    assert_eq!(world.answer(token), PartAnswer::Failed);
}

#[test]
fn a_read_whose_deadline_passes_before_it_is_issued_is_not_issued() {
    let mut world = world();
    world.put(&part(&name(1, 0), world.version(1), 10));
    let (reads, mut now) = (world.device.reads, world.now);
    let (token, deadline) = (world.token(), now.mono + Duration::from_micros(10));
    world.store().read(token, &PartRead { name: name(1, 0), version: None, deadline }, now);
    now.mono = deadline;
    world.now = now;
    world.drain();
    assert_eq!(world.answer(token), PartAnswer::Expired);
    assert_eq!(world.device.reads, reads);
}

#[test]
fn repair_is_refused_where_anything_newer_is_held_or_was_forgotten() {
    let mut world = world();
    let (older, newer) = (world.version(1), world.version(9));
    let repair =
        |key, version| PartWrite { purpose: WritePurpose::Repair, ..put(&part(&name(key, 0), version, 10)) };
    world.put(&part(&name(1, 0), newer, 10));
    assert_eq!(world.write(&repair(1, older)), PartAnswer::Superseded { version: newer });
    assert_eq!(world.write(&repair(2, older)), PartAnswer::Stored);
    world.drop_record(&name(1, 0), newer);
    assert_eq!(world.write(&repair(3, older)), PartAnswer::Superseded { version: newer });
    assert_eq!(world.write(&repair(1, newer)), PartAnswer::Stored);
    // A put is not: the quorum decides about it.
    assert_eq!(world.write(&put(&part(&name(3, 0), older, 10))), PartAnswer::Stored);
    // Nor is a repair of what is held.
    assert_eq!(world.write(&repair(2, older)), PartAnswer::Stored);
}

#[test]
fn a_read_of_one_version_gets_it_or_is_told_which_is_held() {
    let mut world = world();
    let key = name(1, 0);
    let held = Version { coordinator: 7, ..world.version(5) };
    world.put(&part(&key, held, 9000));
    for (wanted, same) in
        [(held, true), (world.version(4), false), (Version { coordinator: 8, ..held }, false)]
    {
        for forget_exact in [false, true] {
            if forget_exact {
                world.store().exact = crate::slab::exact::ExactVersions::new(1);
            }
            let token = world.begin_read(&key, Some(wanted));
            match world.answer(token) {
                PartAnswer::Part { meta, .. } => assert!(same && meta.version == held),
                PartAnswer::Other { version } => assert!(!same && version == held),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_confirm_is_answered_from_the_index_and_says_what_that_does_not_tell() {
    let mut world = world();
    let key = name(1, 0);
    let held = Version { coordinator: 7, ..world.version(5) };
    world.put(&part(&key, held, 90_000));
    let cases = [
        (Version { hlc: held.hlc - 1, coordinator: 9 }, Standing::Newer, false),
        (Version { hlc: held.hlc + 1, coordinator: 0 }, Standing::Older, false),
        (held, Standing::Same, true),
        (Version { coordinator: 6, ..held }, Standing::Newer, true),
        (Version { coordinator: 8, ..held }, Standing::Older, true),
    ];
    for (version, expected, tie) in cases {
        for known in [true, false] {
            assert_eq!(world.held(&key), Some(held));
            if !known {
                world.store().exact = crate::slab::exact::ExactVersions::new(1);
            }
            let reads = world.device.reads;
            let expected = if tie && !known { Standing::SameClock } else { expected };
            assert_eq!(world.confirm(&key, version), PartAnswer::Held(expected), "{version}");
            assert_eq!(world.device.reads, reads);
        }
    }
    let other = world.confirm(&name(2, 0), held);
    assert!(absent(&other) < world.version(0), "{other:?}");
}

#[test]
fn a_part_at_another_place_is_damaged() {
    let mut world = world();
    let version = world.version(5);
    world.put(&part(&name(1, 0), version, 9000));
    world.put(&part(&name(1, 1), version, 9000));
    // The second part overwrites the first one: a write that went to the wrong place.
    let (from, to) = (SLABS_START as usize + 4 * BLOCK_LEN, SLABS_START as usize + BLOCK_LEN);
    world.device.bytes.copy_within(from..from + 3 * BLOCK_LEN, to);
    assert_eq!(world.read(&name(1, 0)), PartAnswer::Damaged);
    assert_eq!(world.held(&name(1, 1)), Some(version));
}

#[test]
fn an_older_part_of_the_record_at_the_place_of_the_newer_one_is_damaged() {
    let mut world = world();
    let (old, new) = (world.version(5), world.version(6));
    world.put(&part(&name(1, 0), old, 9000));
    world.put(&part(&name(1, 0), new, 9000));
    let (from, to) = (SLABS_START as usize + BLOCK_LEN, SLABS_START as usize + 4 * BLOCK_LEN);
    world.device.bytes.copy_within(from..from + 3 * BLOCK_LEN, to);
    assert_eq!(world.read(&name(1, 0)), PartAnswer::Damaged);
    let older = world.write(&put(&part(&name(1, 0), old, 9000)));
    assert_eq!(older, PartAnswer::Superseded { version: new });
}

#[test]
fn a_read_that_is_overtaken_by_a_write_teaches_nothing_wrong() {
    let mut world = world();
    let key = name(1, 0);
    let old = Version { coordinator: 1, ..world.version(5) };
    let new = Version { coordinator: 2, ..old };
    world.put(&part(&key, old, 100));
    let read = world.begin_read(&key, None);
    let held_back = world.device.under_way.pop().expect("a read is under way");
    world.put(&part(&key, new, 100));
    world.device.under_way.push(held_back);
    assert!(matches!(world.answer(read), PartAnswer::Part { meta, .. } if meta.version == old));
    assert_eq!(world.confirm(&key, old), PartAnswer::Held(Standing::Newer));
}

/// Makes the index confuse `other` with `key`: it points to the part of `key` for both.
fn collide(world: &mut World, key: u32, other: u32) {
    let entry = world.store().lookup(name(key, 0).hash, name(key, 0).record).expect("an entry");
    world.store().index.insert(name(other, 0).hash, name(other, 0).record, &entry).expect("room");
}

#[test]
fn a_collision_is_an_erasure_and_takes_nothing_from_the_other_key() {
    let mut world = world();
    let version = world.version(5);
    world.put(&part(&name(1, 0), version, 900));
    collide(&mut world, 1, 2);
    assert_eq!(world.read(&name(2, 0)), PartAnswer::Damaged);
    // The index alone cannot tell, and does not say that it is that version.
    assert_eq!(world.confirm(&name(2, 0), version), PartAnswer::Held(Standing::SameClock));
    assert_eq!(world.held(&name(1, 0)), Some(version));
    let stats = world.stats();
    assert_eq!((stats.collisions, stats.parts_damaged, stats.forgotten_through_hlc), (1, 0, 0));
    // An older write is not told that it was superseded by another key's part.
    let older = Version { hlc: version.hlc - 3, ..version };
    assert_eq!(world.write(&put(&part(&name(2, 0), older, 10))), PartAnswer::Stored);
    assert_eq!(world.held(&name(2, 0)), Some(older));
}

#[test]
fn what_expires_is_absent_and_forgotten() {
    let mut world = world();
    let (key, version) = (name(1, 0), world.version(5));
    let expires_ms = world.now.wall_ms() + 100;
    let meta = PartMeta { expires_ms, ..part(&key, version, 10) };
    for ack in [AckLevel::Buffered, AckLevel::Written] {
        let mut world = self::world();
        let token = world.begin_write(&PartWrite { ack, ..put(&meta) });
        if ack == AckLevel::Written {
            world.run();
        }
        assert!(matches!(world.begin_read(&key, None), _));
        world.advance(Duration::from_millis(100));
        let read = world.begin_read(&key, None);
        assert_eq!(absent(&world.answer(read)), version);
        assert_eq!(world.answer(token), PartAnswer::Stored);
    }
    world.put(&meta);
    assert_eq!(world.held(&key), Some(version));
}

#[test]
fn a_drop_takes_the_version_that_it_names_or_older_ones() {
    let held = Version { coordinator: 7, ..world().version(5) };
    let cases = [
        (Version { hlc: held.hlc - 1, coordinator: 9 }, true),
        (Version { coordinator: 6, ..held }, true),
        (held, false),
        (Version { coordinator: 8, ..held }, false),
        (Version { hlc: held.hlc + 1, coordinator: 0 }, false),
    ];
    for (version, stays) in cases {
        for forget_exact in [false, true] {
            let mut world = world();
            world.put(&part(&name(1, 0), held, 10));
            if forget_exact {
                world.store().exact = crate::slab::exact::ExactVersions::new(1);
            }
            assert_eq!(world.drop_record(&name(1, 0), version), PartAnswer::Dropped);
            world.run();
            match world.read(&name(1, 0)) {
                PartAnswer::Part { .. } => assert!(stays, "{version}"),
                other => assert!(!stays && absent(&other) >= held, "{version}"),
            }
        }
    }
}

#[test]
fn a_drop_reaches_what_is_under_way() {
    for ack in AckLevel::ALL {
        let mut world = world();
        let (key, version) = (name(1, 0), world.version(5));
        let token = world.begin_write(&PartWrite { ack: *ack, ..put(&part(&key, version, 10)) });
        world.drop_record(&key, version);
        assert_eq!(world.answer(token), PartAnswer::Stored);
        assert_eq!(absent(&world.read(&key)), version);
    }
}

#[test]
fn a_buffered_write_is_read_from_memory_until_the_device_has_it() {
    let mut world = world();
    let buffered = |meta: &PartMeta| PartWrite { ack: AckLevel::Buffered, ..put(meta) };
    let (first, second) =
        (part(&name(1, 0), world.version(1), 9000), part(&name(2, 0), world.version(2), 700));
    let other = part(&name(3, 0), world.version(3), 50);
    // The first is under way, the second in the buffer that takes parts, the third as well.
    for meta in [&first, &second, &other] {
        let token = world.begin_write(&buffered(meta));
        assert_eq!(world.answers.remove(&token), Some(PartAnswer::Stored));
    }
    let reads = world.device.reads;
    for meta in [&first, &second, &other] {
        let token = world.begin_read(&name(meta.key.as_bytes()[4] as u32 - 48, 0), None);
        match world.answers.remove(&token) {
            Some(PartAnswer::Part { meta: found, payload }) => {
                assert_eq!(found, *meta);
                check_part(&found, &payload);
            }
            other => panic!("{other:?}"),
        }
        let token = world.begin_confirm(&name(meta.key.as_bytes()[4] as u32 - 48, 0), meta.version);
        assert_eq!(world.answers.remove(&token), Some(PartAnswer::Held(Standing::Same)));
    }
    assert_eq!(world.device.reads, reads);
    world.run();
    assert_eq!(world.held(&name(2, 0)), Some(second.version));
    assert_eq!(world.stats().read_from_memory, 3);
}

#[test]
fn a_written_part_is_not_seen_before_the_device_has_it() {
    let mut world = world();
    let (old, new) = (world.version(1), world.version(2));
    world.put(&part(&name(1, 0), old, 100));
    let write = world.begin_write(&put(&part(&name(1, 0), new, 100)));
    let read = world.begin_read(&name(1, 0), None);
    assert!(matches!(world.answer(read), PartAnswer::Part { meta, .. } if meta.version == old));
    assert_eq!(world.answer(write), PartAnswer::Stored);
    assert_eq!(world.held(&name(1, 0)), Some(new));
}

#[test]
fn a_commit_takes_what_arrived_while_the_one_before_was_under_way() {
    let mut world = world();
    let tokens: Vec<_> =
        (0..20).map(|key| world.begin_write(&put(&part(&name(key, 0), world.version(1), 100)))).collect();
    assert_eq!(world.device.under_way.len(), 1);
    world.step();
    assert_eq!(world.answers.remove(&tokens[0]), Some(PartAnswer::Stored));
    assert_eq!((world.device.under_way.len(), world.stats().commits), (1, 2));
    world.step();
    assert!(tokens[1..].iter().all(|token| world.answers.remove(token) == Some(PartAnswer::Stored)));
    assert_eq!((world.device.under_way.len(), world.stats().pending_bytes), (0, 0));
}

#[test]
fn flushes_are_coalesced_and_come_after_the_write() {
    let mut world = world();
    let synced = |world: &mut World, key| {
        let write = PartWrite { ack: AckLevel::Synced, ..put(&part(&name(key, 0), world.version(1), 100)) };
        world.begin_write(&write)
    };
    let flushes = world.device.flushes;
    let first = synced(&mut world, 0);
    let others: Vec<_> = (1..10).map(|key| synced(&mut world, key)).collect();
    world.step();
    assert!(world.answers.is_empty(), "written is not synced");
    assert!(matches!(world.device.under_way.last(), Some((_, Op::Flush { .. }))));
    // The second batch completes while the first flush is under way: that flush is not for it.
    let (io, result) = world.device.complete(0);
    let now = world.now;
    world.store().complete(io, result, now);
    world.drain();
    assert_eq!(world.device.flushes - flushes, 1);
    world.step();
    assert_eq!(world.answers.remove(&first), Some(PartAnswer::Stored));
    assert!(world.answers.is_empty());
    world.run();
    assert!(others.iter().all(|token| world.answers.remove(token) == Some(PartAnswer::Stored)));
    assert_eq!(world.device.flushes - flushes, 2);
    // What is on the device already only needs the flush.
    let again = synced(&mut world, 5);
    assert_eq!(world.answer(again), PartAnswer::Stored);
    assert_eq!((world.device.flushes - flushes, world.stats().commits), (3, 2));
}

#[test]
fn past_every_bound_the_answer_is_overloaded_at_once() {
    let mut world = World::new(8, SLAB, 1, |config| {
        config.pending_bytes_max = 20_000;
        config.writes_max = 3;
        config.reads_max = 2;
    });
    let write = |world: &mut World, key, len| {
        let meta = part(&name(key, 0), world.version(1), len);
        world.begin_write(&put(&meta))
    };
    let fits = write(&mut world, 1, 15_000);
    let too_many_bytes = write(&mut world, 2, 15_000);
    assert_eq!(world.answers.remove(&too_many_bytes), Some(PartAnswer::Overloaded));
    write(&mut world, 3, 10);
    write(&mut world, 4, 10);
    let too_many = write(&mut world, 5, 10);
    assert_eq!(world.answers.remove(&too_many), Some(PartAnswer::Overloaded));
    assert_eq!(world.answer(fits), PartAnswer::Stored);
    let late = write(&mut world, 6, 15_000);
    assert_eq!(world.answer(late), PartAnswer::Stored);

    let first = world.begin_read(&name(1, 0), None);
    world.begin_read(&name(3, 0), None);
    // A cancelled read counts until the device is done with it.
    world.store().cancel(first);
    let refused = world.begin_read(&name(4, 0), None);
    assert_eq!(world.answers.remove(&refused), Some(PartAnswer::Overloaded));
    assert_eq!(world.stats().reads_under_way, 2);
    world.step();
    assert!(!world.answers.contains_key(&first));
    assert_eq!(world.stats().reads_under_way, 1);
    let again = world.begin_read(&name(4, 0), None);
    assert!(matches!(world.answer(again), PartAnswer::Part { .. }));
    let stats = world.stats();
    assert_eq!((stats.overloaded, stats.cancelled, stats.reads_under_way), (3, 1, 0));
}

#[test]
fn a_cancelled_read_that_was_not_issued_is_not_issued() {
    let mut world = world();
    world.put(&part(&name(1, 0), world.version(1), 10));
    let (token, now, reads) = (world.token(), world.now, world.device.reads);
    let read = PartRead { name: name(1, 0), version: None, deadline: Timestamp::NEVER };
    world.store().read(token, &read, now);
    world.store().cancel(token);
    world.drain();
    world.run();
    assert_eq!((world.device.reads, world.stats().reads_under_way), (reads, 0));
    assert!(world.answers.is_empty());
}

#[test]
fn a_cancelled_write_is_carried_out_without_an_answer() {
    let mut world = world();
    let (key, version) = (name(1, 0), world.version(1));
    let token = world.begin_write(&put(&part(&key, version, 10)));
    world.store().cancel(token);
    world.run();
    assert!(world.answers.is_empty());
    assert_eq!(world.held(&key), Some(version));
    assert_eq!(world.stats().requests_under_way, 0);
}

#[test]
fn a_failed_read_is_answered_and_keeps_the_part() {
    let mut world = world();
    let (key, version) = (name(1, 0), world.version(1));
    world.put(&part(&key, version, 10));
    world.device.fail_reads = true;
    assert_eq!(world.read(&key), PartAnswer::Failed);
    world.device.fail_reads = false;
    assert_eq!(world.held(&key), Some(version));
    assert_eq!(world.stats().read_errors, 1);
}

#[test]
fn a_failed_write_closes_its_slab_and_the_next_one_takes_over() {
    let mut world = world();
    let (key, old, new) = (name(1, 0), world.version(1), world.version(2));
    world.put(&part(&key, old, 10));
    world.device.fail_writes = true;
    let token = world.begin_write(&put(&part(&key, new, 10)));
    world.step();
    assert_eq!(world.answers.remove(&token), Some(PartAnswer::Failed));
    world.device.fail_writes = false;
    assert_eq!(world.held(&key), Some(old));
    world.put(&part(&key, new, 10));
    assert_eq!(world.held(&key), Some(new));
    let entry = world.store().lookup(key.hash, key.record).expect("an entry");
    assert_ne!(entry.slab, 0);
    assert_eq!(world.stats().write_errors, 1);
}

#[test]
fn a_newer_part_on_the_device_is_read_before_an_older_one_in_memory() {
    let mut world = World::new(8, SLAB, 1, |config| config.commit_len_max = 16 << 10);
    let key = name(1, 0);
    world.put(&part(&name(9, 0), world.version(0), 10));
    let (old, new) = (part(&key, world.version(2), 5000), part(&key, world.version(4), 10_000));
    world.begin_write(&PartWrite { ack: AckLevel::Buffered, ..put(&old) });
    let written = world.begin_write(&put(&new));
    world.begin_write(&put(&part(&name(8, 0), world.version(0), 10_000)));
    assert_eq!(world.device.under_way.len(), 2, "both batches are under way");
    let (io, result) = world.device.complete(1);
    let now = world.now;
    world.store().complete(io, result, now);
    world.drain();
    assert_eq!(world.answers.remove(&written), Some(PartAnswer::Stored));
    let confirm = world.begin_confirm(&key, old.version);
    assert_eq!(world.answers.remove(&confirm), Some(PartAnswer::Held(Standing::Newer)));
    assert_eq!(world.held(&key), Some(new.version));
}

#[test]
fn a_newer_write_that_fails_leaves_the_older_one_under_way() {
    for again in [1, 2, 3] {
        let mut world = World::new(8, SLAB, 1, |config| config.commit_len_max = 16 << 10);
        let key = name(1, 0);
        world.put(&part(&name(9, 0), world.version(0), 10));
        let versions = [world.version(2), world.version(4)];
        let first = world.begin_write(&put(&part(&key, versions[0], 5000)));
        let second = world.begin_write(&put(&part(&key, versions[1], 10_000)));
        world.begin_write(&put(&part(&name(8, 0), world.version(0), 10_000)));
        assert_eq!(world.device.under_way.len(), 2, "both batches are under way");
        world.device.fail_writes = true;
        let (io, result) = world.device.complete(1);
        world.device.fail_writes = false;
        let now = world.now;
        world.store().complete(io, result, now);
        world.drain();
        assert_eq!(world.answers.remove(&second), Some(PartAnswer::Failed));
        // What is written next is measured against the first one, whatever became of the second.
        let next = world.version(again * 2 - 1);
        let answer = world.write(&put(&part(&key, next, 300)));
        let expected = if next < versions[0] {
            PartAnswer::Superseded { version: versions[0] }
        } else {
            PartAnswer::Stored
        };
        assert_eq!(answer, expected);
        assert_eq!(world.answers.remove(&first), Some(PartAnswer::Stored));
        assert_eq!(world.held(&key), Some(next.max(versions[0])));
    }
}

#[test]
fn a_buffered_part_that_never_reaches_the_device_leaves_nothing_older() {
    let mut world = world();
    let (key, old, new) = (name(1, 0), world.version(1), world.version(2));
    world.put(&part(&key, old, 10));
    world.device.fail_writes = true;
    let token = world.begin_write(&PartWrite { ack: AckLevel::Buffered, ..put(&part(&key, new, 10)) });
    assert_eq!(world.answers.remove(&token), Some(PartAnswer::Stored));
    world.step();
    world.device.fail_writes = false;
    assert!(absent(&world.read(&key)) >= new);
}

#[test]
fn a_device_that_keeps_failing_is_set_aside_until_it_works_again() {
    let mut world = world();
    let key = name(1, 0);
    world.put(&part(&key, world.version(1), 10));
    world.device.fail_writes = true;
    let mut failed = 0;
    while !world.stats().set_aside {
        let version = world.version(10 + failed);
        assert_eq!(world.write(&put(&part(&key, version, 10))), PartAnswer::Failed);
        failed += 1;
        assert!(failed < 10);
    }
    let completed = world.device.completed;
    assert_eq!(world.read(&key), PartAnswer::Failed);
    assert_eq!(world.confirm(&key, world.version(1)), PartAnswer::Failed);
    assert_eq!(world.drop_record(&key, world.version(1)), PartAnswer::Failed);
    assert_eq!(world.device.completed, completed);
    // The first probe fails, the second does not.
    for works in [false, true] {
        world.device.fail_writes = !works;
        let at = world.store().next_deadline().expect("a probe is due");
        world.advance(at.since(world.now.mono));
        let now = world.now;
        world.store().tick(now);
        world.drain();
        world.run();
        assert_eq!(world.stats().set_aside, !works);
    }
    assert!(world.store().next_deadline().is_none());
    assert_eq!(world.held(&key).map(|version| version.coordinator), Some(1));
    let version = world.version(500);
    world.put(&part(&key, version, 10));
    assert_eq!(world.held(&key), Some(version));
}

#[test]
fn reads_that_keep_failing_set_the_shard_aside() {
    let mut world = World::new(8, SLAB, 1, |config| config.read_errors_max = 3);
    world.put(&part(&name(1, 0), world.version(1), 10));
    world.device.fail_reads = true;
    for _ in 0..3 {
        assert!(!world.stats().set_aside);
        assert_eq!(world.read(&name(1, 0)), PartAnswer::Failed);
    }
    assert!(world.stats().set_aside);
}

#[test]
fn a_full_index_refuses_new_records_and_takes_new_versions() {
    let mut world = World::new(8, SLAB, 1, |config| config.index_capacity = Some(20));
    // All in the open slab: nothing can be let go.
    let tokens: Vec<_> = (0..400)
        .map(|key| (key, world.begin_write(&put(&part(&name(key, 0), world.version(1), 10)))))
        .collect();
    world.run();
    let mut overloaded = 0;
    for (key, token) in tokens {
        match world.answers.remove(&token) {
            Some(PartAnswer::Stored) => assert!(world.held(&name(key, 0)).is_some()),
            Some(PartAnswer::Overloaded) => overloaded += 1,
            other => panic!("{other:?}"),
        }
    }
    let stats = world.stats();
    assert!(overloaded > 30 && stats.index_full >= overloaded, "{overloaded} overloaded, {stats:?}");
    assert_eq!(stats.parts, 400 - overloaded);
    let newer = world.version(7);
    world.put(&part(&name(0, 0), newer, 10));
    assert_eq!(world.held(&name(0, 0)), Some(newer));
}

#[test]
fn touch_says_whether_anything_as_new_is_held() {
    let mut world = world();
    assert!(!world.touch(&name(1, 0)));
    world.put(&part(&name(1, 0), world.version(1), 10));
    assert!(world.touch(&name(1, 0)) && !world.touch(&name(1, 1)));
    let (held, newer) = (world.version(1), world.version(2));
    assert!(world.touch_version(&name(1, 0), held));
    assert!(!world.touch_version(&name(1, 0), newer), "what is held is older");
    world.begin_write(&put(&part(&name(1, 0), newer, 10)));
    assert!(world.touch_version(&name(1, 0), newer), "it is on its way");
    assert!(!world.touch_version(&name(1, 0), world.version(3)));
}

#[test]
fn the_payload_says_where_it_is() {
    let mut world = world();
    let meta = part(&name(1, 0), world.version(1), 5000);
    world.put(&meta);
    let PartAnswer::Part { payload, .. } = world.read(&name(1, 0)) else { panic!() };
    assert_eq!(payload.buffer()[payload.range()], payload_of(&meta));
    assert_eq!(payload.buffer().len() % BLOCK_LEN, 0);
}

#[test]
fn errors_of_the_system_have_kinds() {
    for (os, kind) in [(28, IoErrorKind::NoSpace), (19, IoErrorKind::Gone), (EIO, IoErrorKind::Other)] {
        assert_eq!(IoError::from_os(os), IoError { kind, os });
    }
}

#[test]
fn an_index_that_fills_up_lets_the_oldest_slab_go() {
    let mut world = World::new(8, SLAB, 1, |config| config.index_capacity = Some(20));
    for key in 0..1000 {
        let meta = part(&name(key, 0), world.version(1), 10);
        world.put(&meta);
        assert_eq!(world.held(&name(key, 0)), Some(meta.version));
    }
    let stats = world.stats();
    assert!(stats.slabs_evicted > 0 && stats.parts < stats.index_slots, "{stats:?}");
}

#[test]
fn a_store_that_is_given_up_answers_everyone_at_once_and_for_good() {
    let mut world = world();
    world.put(&part(&name(1, 0), world.version(1), 5000));
    world.put(&part(&name(2, 0), world.version(1), 5000));
    let synced = PartWrite { ack: AckLevel::Synced, ..put(&part(&name(3, 0), world.version(2), 5000)) };
    let waiting = [
        world.begin_read(&name(1, 0), None),
        world.begin_write(&put(&part(&name(1, 0), world.version(2), 5000))),
        world.begin_write(&put(&part(&name(2, 0), world.version(2), 5000))),
        world.begin_write(&synced),
    ];
    assert!(!world.device.under_way.is_empty());
    let now = world.now;
    world.store().give_up(now);
    world.drain();
    for token in waiting {
        assert_eq!(world.answers.remove(&token), Some(PartAnswer::Failed), "{token:?}");
    }
    assert_eq!((world.stats().requests_under_way, world.stats().stuck), (0, true));
    // The device comes back after all, and time passes.
    for _ in 0..3 {
        world.run();
        world.advance(Duration::from_secs(3600));
        let now = world.now;
        world.store().tick(now);
        world.drain();
        assert_eq!(world.read(&name(1, 0)), PartAnswer::Failed);
        assert_eq!(world.write(&put(&part(&name(4, 0), world.version(3), 10))), PartAnswer::Failed);
    }
    assert!(world.answers.is_empty());
    assert_eq!(world.stats().pending_bytes, 0);
    // The next start finds what there is.
    world.crash(crate::slab::testing::Crash::Kill);
    assert!(world.held(&name(1, 0)).is_some() && world.held(&name(2, 0)).is_some());
    assert_eq!(world.write(&put(&part(&name(4, 0), world.version(3), 10))), PartAnswer::Stored);
}
