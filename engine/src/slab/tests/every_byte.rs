//! Damage behind the store's back, over a device with more than a hundred parts: every byte flipped in turn, and
//! parts, slabs, blocks and the whole device exchanged. No answer is ever wrong; the tables say how each was found.
//!
//! The long form flips every byte, the ordinary one of every [`STRIDE`] one:
//! `HEDGEROW_EVERY_BYTE=1 cargo test -p hedgerow-engine --lib every_byte -- --nocapture`
#![allow(clippy::print_stdout)] // the tables

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use hedgerow_wire::Version;
use hedgerow_wire::part::PartAnswer;

use crate::slab::damage::DamagedParts;
use crate::slab::layout::{BLOCK_LEN, ContentsEntry, SLABS_START, align_block, contents_start, slab_start};
use crate::slab::slabs::SlabState;
use crate::slab::table::{Tail, parse_tail};
use crate::slab::testing::{World, name, part, payload_of, put, tombstone};
use crate::slab::{OpenError, StoreConfig};

const SLAB: u32 = 64 << 10;
const SLABS: u32 = 8;
const KEYS: u32 = 100;
/// Bytes from one flipped byte to the next in the ordinary test; a prime, so that all columns of a block come up.
const STRIDE: usize = 521;

fn long() -> bool {
    std::env::var_os("HEDGEROW_EVERY_BYTE").is_some()
}

/// A device, and what is known of it.
struct Shard {
    /// Stopped cleanly: the image, and its snapshot.
    world: World,
    stopped: Vec<u8>,
    snapshot: Vec<u8>,
    /// Killed at the same moment.
    killed: Vec<u8>,
    /// The device as it was when a third of it was written.
    older: Vec<u8>,
    newest: BTreeMap<u32, Version>,
    written: HashSet<(u32, Version)>,
    regions: Vec<(Range<usize>, &'static str)>,
    /// Where the parts lie, in bytes of the device.
    parts: Vec<(u32, Range<usize>)>,
    /// Slabs that are scanned when nothing is damaged.
    scanned: u32,
}

impl Shard {
    fn new(daemon_id: u128, shard_index: u16) -> Shard {
        let mut world = World::new(SLABS, SLAB, 11, |config| {
            (config.daemon_id, config.shard_index) = (daemon_id, shard_index);
            config.commit_len_max = 16 << 10;
            config.free_slabs_target = 1;
            config.index_capacity = Some(200);
        });
        let (mut newest, mut written, mut older) = (BTreeMap::new(), HashSet::new(), Vec::new());
        let rounds = [0..KEYS, 0..30, 10..24];
        for (round, keys) in rounds.into_iter().enumerate() {
            for key in keys {
                let version = world.version(1000 * round as u64 + u64::from(key));
                let meta = match round == 2 && key % 3 == 0 {
                    true => tombstone(&name(key, 0), version),
                    false => part(&name(key, 0), version, 600 + 500 * ((key + round as u32) % 4)),
                };
                world.begin_write(&put(&meta));
                newest.insert(key, version);
                written.insert((key, version));
                if key % 6 == 5 {
                    world.run();
                }
            }
            world.run();
            if round == 0 {
                older = world.device.bytes.clone();
            }
        }
        assert!(world.answers.values().all(|answer| *answer == PartAnswer::Stored));
        assert!(world.stats().parts >= 100 && world.stats().slabs_evicted == 0, "{:?}", world.stats());
        let killed = world.device.bytes.clone();
        let (regions, parts) = regions(&mut world, &killed);
        world.stop();
        let (stopped, snapshot) =
            (world.device.bytes.clone(), world.snapshot.take().expect("the stop is clean"));
        let scanned = world.after(killed.clone(), None).open().expect("opens").slabs_scanned;
        Shard { world, stopped, snapshot, killed, older, newest, written, regions, parts, scanned }
    }

    fn region(&self, at: usize) -> &'static str {
        self.regions.iter().find(|(range, _)| range.contains(&at)).map_or("blank space", |(_, region)| region)
    }
}

/// Ranges of an image, each with what lies there.
type Regions = Vec<(Range<usize>, &'static str)>;
/// Keys, and where their parts lie.
type Places = Vec<(u32, Range<usize>)>;

/// What stands where.
fn regions(world: &mut World, image: &[u8]) -> (Regions, Places) {
    let shard_id = world.store().superblock.shard_id;
    let mut regions = vec![(0..3 * BLOCK_LEN, "superblock")];
    let mut places = Vec::new();
    let held: Vec<_> = world.store().slabs.held().collect();
    for (slab, _, state) in held {
        let start = slab_start(slab, SLAB) as usize;
        let sealed = state == SlabState::Sealed;
        let entries: Vec<ContentsEntry> = match sealed {
            true => match parse_tail(&image[start..start + SLAB as usize], shard_id, slab, SLAB) {
                Tail::Entries(_, entries) => entries,
                _ => panic!("slab {slab} has no table"),
            },
            false => world.store().growing[0].entries.clone(),
        };
        let either = |sealed_name, open_name| if sealed { sealed_name } else { open_name };
        regions.push((start..start + BLOCK_LEN, "slab header"));
        let end = entries.iter().map(|entry| align_block(entry.offset + entry.len())).max().expect("parts");
        for entry in &entries {
            let at = start + entry.offset as usize;
            let (head, part) = (at + usize::from(entry.head_len), at + entry.len() as usize);
            regions.push((at..head, either("part head", "part head, open slab")));
            regions.push((head..part, either("payload", "payload, open slab")));
            let key = (0..KEYS).find(|&key| name(key, 0).hash == entry.hash).expect("a key");
            places.push((key, at..part));
        }
        regions.push((start + BLOCK_LEN..start + end as usize, "padding"));
        if sealed {
            let table = start + contents_start(SLAB, entries.len()).expect("a table") as usize;
            let (trailer, entries_end) = (start + SLAB as usize - BLOCK_LEN, table + entries.len() * 64);
            regions.push((table..entries_end, "contents table"));
            regions.push((trailer..trailer + BLOCK_LEN, "trailer"));
        }
    }
    (regions, places)
}

/// What came of a kind of damage.
#[derive(Default)]
struct Tally {
    cases: u64,
    /// Every answer was the newest version.
    unharmed: u64,
    /// By how it was noticed; a case can be noticed in several ways.
    refused: u64,
    damaged: u64,
    tables: u64,
    snapshots: u64,
    unsure: u64,
    /// An older version, or none, is taken for the newest: by a shard that says that it cannot know ...
    behind_unsure: u64,
    /// ... and by one that does not.
    behind: u64,
    wrong: u64,
}

type Table = BTreeMap<&'static str, Tally>;

fn print(what: &str, table: &Table) {
    println!(
        "| {what} | cases | nothing lost | refused at open | parts `Damaged` | slabs scanned | snapshot refused | unsure | behind, unsure | behind | wrong |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (kind, t) in table {
        println!(
            "| {kind} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            t.cases,
            t.unharmed,
            t.refused,
            t.damaged,
            t.tables,
            t.snapshots,
            t.unsure,
            t.behind_unsure,
            t.behind,
            t.wrong
        );
    }
}

/// Opens a damaged image, with a snapshot or without, reads every key, and notes what came of it.
fn try_image(shard: &Shard, image: Vec<u8>, snapshot: Option<Vec<u8>>, tally: &mut Tally) {
    tally.cases += 1;
    let with_snapshot = snapshot.is_some();
    let mut world = shard.world.after(image, snapshot);
    let before = shard.world.now.wall_us;
    world.now.wall_us += 60_000_000;
    let progress = match world.open() {
        Ok(progress) => progress,
        Err(_) => return tally.refused += 1,
    };
    tally.snapshots += u64::from(with_snapshot && !progress.from_snapshot);
    tally.tables += u64::from(!progress.from_snapshot && progress.slabs_scanned > shard.scanned);
    let unsure = world.stats().unknown_through_hlc > Version::hlc_from_wall_us(before);
    tally.unsure += u64::from(unsure);
    let (mut unharmed, mut damaged, mut behind) = (true, false, false);
    for (&key, &newest) in &shard.newest {
        let (right, held) = match world.read(&name(key, 0)) {
            PartAnswer::Part { meta, payload } => {
                let true_part = meta.key == name(key, 0).key && shard.written.contains(&(key, meta.version));
                tally.wrong += u64::from(!true_part || payload.as_ref() != payload_of(&meta));
                (meta.version == newest, Some(meta.version))
            }
            PartAnswer::Absent { .. } => (false, None),
            PartAnswer::Damaged => {
                (damaged, unharmed) = (true, false);
                continue;
            }
            other => panic!("key {key}: {other:?}"),
        };
        unharmed &= right;
        behind |= held != Some(newest);
    }
    tally.unharmed += u64::from(unharmed);
    tally.damaged += u64::from(damaged);
    tally.behind_unsure += u64::from(behind && unsure);
    tally.behind += u64::from(behind && !unsure);
}

/// Bytes to flip.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(if long() { 1 } else { STRIDE })
}

#[test]
fn a_flipped_byte_after_a_kill_gives_no_wrong_answer() {
    let shard = Shard::new(0xdae0, 3);
    let mut table = Table::new();
    for at in places(shard.killed.len()) {
        let mut image = shard.killed.clone();
        image[at] ^= 1 << (at % 8);
        try_image(&shard, image, None, table.entry(shard.region(at)).or_default());
    }
    print("byte flipped after a kill", &table);
    assert!(table.values().all(|tally| tally.wrong == 0));
    // The last commits before a kill may look as if they had been torn.
    let mut sealed = table.iter().filter(|(region, _)| !region.ends_with("open slab"));
    assert!(sealed.all(|(_, tally)| tally.behind + tally.behind_unsure == 0));
}

#[test]
fn a_flipped_byte_after_a_clean_stop_gives_no_wrong_answer() {
    let shard = Shard::new(0xdae0, 3);
    let mut table = Table::new();
    for at in places(shard.stopped.len()) {
        let mut image = shard.stopped.clone();
        image[at] ^= 1 << (at % 8);
        let tally = table.entry(shard.region(at)).or_default();
        try_image(&shard, image, Some(shard.snapshot.clone()), tally);
    }
    for at in places(shard.snapshot.len()) {
        let mut snapshot = shard.snapshot.clone();
        snapshot[at] ^= 1 << (at % 8);
        let tally = table.entry("the snapshot's file").or_default();
        try_image(&shard, shard.stopped.clone(), Some(snapshot), tally);
    }
    print("byte flipped after a clean stop", &table);
    assert!(table.values().all(|tally| tally.wrong == 0 && tally.behind + tally.behind_unsure == 0));
    assert_eq!(table["the snapshot's file"].cases, table["the snapshot's file"].snapshots);
}

#[test]
fn a_byte_that_flips_under_an_open_store_gives_no_wrong_answer() {
    let shard = Shard::new(0xdae0, 3);
    let mut world = shard.world.after(shard.killed.clone(), None);
    world.open().expect("opens");
    let mut table = Table::new();
    let mut found = 0;
    for at in places(shard.killed.len()) {
        let tally = table.entry(shard.region(at)).or_default();
        tally.cases += 1;
        world.device.bytes[at] ^= 1 << (at % 8);
        // Only what lies there can be read from there.
        let struck = shard.parts.iter().filter(|(_, part)| part.contains(&at)).map(|&(key, _)| key);
        let keys: Vec<u32> = struck.chain([at as u32 % KEYS]).collect();
        let mut damaged = false;
        for key in keys {
            match world.read(&name(key, 0)) {
                PartAnswer::Part { meta, payload } => {
                    let right = meta.version == shard.newest[&key] && payload.as_ref() == payload_of(&meta);
                    tally.wrong += u64::from(!right);
                }
                PartAnswer::Damaged => damaged = true,
                other => panic!("key {key}: {other:?}"),
            }
        }
        tally.damaged += u64::from(damaged);
        tally.unharmed += u64::from(!damaged);
        found += u64::from(damaged);
        world.device.bytes[at] ^= 1 << (at % 8);
        world.store().damage = DamagedParts::new(100);
    }
    print("byte flipped under an open store", &table);
    assert_eq!(world.stats().parts_damaged, found);
    assert!(table.values().all(|tally| tally.wrong == 0));
    let found_in = |region: &str| table.get(region).is_none_or(|tally| tally.damaged == 0);
    assert!(["superblock", "slab header", "padding", "contents table", "trailer"].into_iter().all(found_in));
}

/// Damaged images of a kind, each opened as after a kill and as after a clean stop.
fn both(
    shard: &Shard,
    kind: &'static str,
    tables: &mut [Table; 2],
    damages: impl Iterator<Item = impl Fn(&mut Vec<u8>)>,
) {
    let every = if long() { 1 } else { 7 };
    for damage in damages.step_by(every) {
        let images = [(&shard.killed, None), (&shard.stopped, Some(shard.snapshot.clone()))];
        for ((image, snapshot), table) in images.into_iter().zip(tables.iter_mut()) {
            let mut image = image.clone();
            damage(&mut image);
            try_image(shard, image, snapshot, table.entry(kind).or_default());
        }
    }
}

fn copy(image: &mut [u8], other: &[u8], range: Range<usize>) {
    image[range.clone()].copy_from_slice(&other[range]);
}

fn swap(image: &mut [u8], a: Range<usize>, b: Range<usize>) {
    let kept = image[a.clone()].to_vec();
    image.copy_within(b.clone(), a.start);
    image[b].copy_from_slice(&kept);
}

fn slab_range(slab: u32) -> Range<usize> {
    slab_start(slab, SLAB) as usize..slab_start(slab + 1, SLAB) as usize
}

#[test]
fn exchanged_and_lost_pieces_give_no_wrong_answer() {
    let shard = Shard::new(0xdae0, 3);
    let (other_daemon, other_shard) = (Shard::new(0xbad, 3), Shard::new(0xdae0, 4));
    let mut tables = [Table::new(), Table::new()];
    let (parts, len) = (&shard.parts, shard.killed.len());
    let blocks = || (0..len / BLOCK_LEN).map(|block| block * BLOCK_LEN..(block + 1) * BLOCK_LEN);
    let pairs = |count: usize| (0..count).flat_map(move |a| (0..a).map(move |b| (a, b)));
    let same_len = pairs(parts.len()).filter(|&(a, b)| parts[a].1.len() == parts[b].1.len());
    both(
        &shard,
        "two parts swapped",
        &mut tables,
        same_len.map(|(a, b)| move |image: &mut Vec<u8>| swap(image, parts[a].1.clone(), parts[b].1.clone())),
    );
    let versions = pairs(parts.len()).filter(|&(a, b)| parts[a].0 == parts[b].0);
    both(
        &shard,
        "an older part put over a newer one",
        &mut tables,
        versions.map(|(a, b)| {
            let (newer, older) = (parts[a].1.clone(), parts[b].1.clone());
            let count = newer.len().min(older.len());
            move |image: &mut Vec<u8>| image.copy_within(older.start..older.start + count, newer.start)
        }),
    );
    both(
        &shard,
        "two slabs swapped",
        &mut tables,
        pairs(SLABS as usize)
            .map(|(a, b)| move |image: &mut Vec<u8>| swap(image, slab_range(a as u32), slab_range(b as u32))),
    );
    for (kind, other) in [
        ("a slab of another daemon's shard", &other_daemon),
        ("a slab of another shard of this daemon", &other_shard),
    ] {
        both(
            &shard,
            kind,
            &mut tables,
            (0..SLABS).map(|slab| move |image: &mut Vec<u8>| copy(image, &other.killed, slab_range(slab))),
        );
    }
    both(
        &shard,
        "a block zeroed",
        &mut tables,
        blocks().map(|block| move |image: &mut Vec<u8>| image[block.clone()].fill(0)),
    );
    both(
        &shard,
        "8 blocks zeroed",
        &mut tables,
        blocks().map(|block| {
            move |image: &mut Vec<u8>| image[block.start..(block.start + 8 * BLOCK_LEN).min(len)].fill(0)
        }),
    );
    let older = &shard.older;
    both(
        &shard,
        "a block as it was before",
        &mut tables,
        blocks().map(|block| move |image: &mut Vec<u8>| copy(image, older, block.clone())),
    );
    both(
        &shard,
        "a slab as it was before",
        &mut tables,
        (0..SLABS).map(|slab| move |image: &mut Vec<u8>| copy(image, older, slab_range(slab))),
    );
    both(
        &shard,
        "the whole device as it was before",
        &mut tables,
        [|image: &mut Vec<u8>| image.copy_from_slice(older)].into_iter(),
    );
    print("exchanged or lost, after a kill", &tables[0]);
    print("exchanged or lost, after a clean stop", &tables[1]);
    assert!(tables.iter().flat_map(BTreeMap::values).all(|tally| tally.wrong == 0));
}

#[test]
fn what_is_not_this_shards_device_is_refused() {
    let shard = Shard::new(0xdae0, 3);
    let refusal = |image: &[u8], tune: &dyn Fn(&mut StoreConfig)| {
        let mut world = shard.world.after(image.to_vec(), Some(shard.snapshot.clone()));
        tune(&mut world.config);
        world.open().map(|_| ()).expect_err("is refused")
    };
    let as_it_is = |_: &mut StoreConfig| {};
    for other in [Shard::new(0xbad, 3), Shard::new(0xdae0, 4)] {
        let error = refusal(&other.killed, &as_it_is);
        assert!(matches!(error, OpenError::OtherDaemon { .. } | OpenError::OtherShard { .. }), "{error}");
    }
    // Cut off at every block.
    for len in (0..shard.killed.len()).step_by(BLOCK_LEN) {
        let error =
            refusal(&shard.killed[..len.max(SLABS_START as usize)], &|config| config.device_len = len as u64);
        assert!(matches!(error, OpenError::Shrunk { .. } | OpenError::TooSmall { .. }), "{len}: {error}");
    }
}
