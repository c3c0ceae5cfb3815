//! Every crash of small worlds: after each operation of the device, with every allowed subset of the blocks that
//! are not certain, the device is opened again and compared with a plain model.
//!
//! A killed process leaves what the device has completed, and of each block under way the old one, the new one, or
//! a torn one. With the power goes, of the blocks that were not flushed, any subset as well.
//!
//! The long form: `HEDGEROW_CRASH_WORLDS=10 cargo test -p hedgerow-engine --lib every_crash -- --nocapture`. The number
//! is how many uncertain blocks are enumerated whole; beyond, see [`subsets`]. It also lets operations complete in
//! another order. Both forms print a table of what was tried.
#![allow(clippy::print_stdout)] // the table

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartMeta, PartWrite};
use hedgerow_wire::{AckLevel, Version};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::slab::layout::BLOCK_LEN;
use crate::slab::testing::{Crash, Device, Op, World, name, part, payload_of, put, tombstone};
use crate::slab::{OpenError, Token};

use AckLevel::{Buffered, Synced, Written};

const SLAB: u32 = 64 << 10;
const SECTOR_LEN: usize = 512;
/// Uncertain blocks that the ordinary test enumerates whole.
const WHOLE_MAX: usize = 2;
/// Of so many distinct images one is used again, and crashes again: in the ordinary test, and in the long form.
const SAMPLE: [u64; 2] = [400, 24];

/// A step of a world.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Writes the next version of a key, of so many bytes.
    Put(u32, u32, AckLevel),
    /// As `Put`, pinned: eviction keeps it.
    Pin(u32, u32, AckLevel),
    /// As `Put`, for one second.
    Brief(u32, u32, AckLevel),
    Delete(u32, AckLevel),
    Drop(u32),
    Touch(u32),
    /// The device completes so many operations.
    Let(usize),
    All,
    Seconds(u64),
    /// A clean stop, and the next start.
    Restart,
    /// Every write fails from now on, or works again.
    Fail(bool),
    /// An operation does not come back.
    GiveUp,
}

use Act::*;

/// Name, slabs, whether it begins with a blank device, what is done.
type Script = (&'static str, u32, bool, Vec<Act>);

fn worlds() -> Vec<Script> {
    let fill = |keys: std::ops::Range<u32>, ack: AckLevel| keys.map(move |key| Put(key, 14_000, ack));
    let fulls = |ack: AckLevel, gap: usize| {
        let mut acts = vec![Pin(1, 3000, ack), Put(2, 3000, ack), Delete(3, ack), All, Touch(2)];
        for key in 10..40 {
            acts.extend([Put(key, 14_000, ack), Let(gap)]);
            if key % 8 == 0 {
                acts.extend([Put(2, 2000, ack), Touch(2)]);
            }
        }
        acts
    };
    let overwrites = |ack| {
        vec![Put(1, 3000, ack), Put(2, 5000, ack), Let(1), Put(1, 9000, ack), Delete(2, ack), All]
            .into_iter()
            .chain([Put(2, 100, ack), Put(3, 0, ack), Put(1, 6000, ack), Let(1), Delete(1, ack), All])
            .collect::<Vec<_>>()
    };
    vec![
        ("format", 4, true, vec![Put(1, 3000, Synced), All, Put(2, 3000, Written), All]),
        ("overwrite, delete", 6, false, overwrites(Written)),
        ("overwrite, delete, synced", 6, false, overwrites(Synced)),
        (
            "levels mixed",
            6,
            false,
            vec![Put(1, 3000, Synced), All, Put(1, 3000, Written), Put(2, 200, Buffered), Let(1)]
                .into_iter()
                .chain([Put(2, 300, Written), Put(3, 5000, Synced), Put(1, 100, Buffered), Let(2)])
                .chain([Delete(3, Written), Put(1, 100, Synced), All])
                .collect(),
        ),
        (
            "drop, expiry",
            6,
            false,
            vec![Put(1, 3000, Written), Brief(2, 3000, Written), Put(3, 3000, Synced), All, Drop(1)]
                .into_iter()
                .chain([Put(4, 100, Written), Let(1), Seconds(2), Put(2, 100, Synced), All, Drop(3), All])
                .collect(),
        ),
        ("seal", 6, false, fill(1..10, Written).flat_map(|act| [act, Let(1)]).chain([All]).collect()),
        ("seal, synced", 6, false, fill(1..10, Synced).flat_map(|act| [act, Let(2)]).chain([All]).collect()),
        ("evict, keep, reuse", 4, false, fulls(Written, 2)),
        ("evict, keep, reuse, synced", 4, false, fulls(Synced, 4)),
        (
            "evict what is newer unflushed",
            4,
            false,
            // The first slab ends with a part that is written anew in the third, and one that is kept there.
            fill(10..13, Synced)
                .chain([Pin(2, 1000, Synced), Put(1, 1000, Synced), All])
                .chain(fill(20..24, Synced).flat_map(|act| [act, All]))
                .chain([Put(1, 2000, Written), All])
                .chain(fill(30..34, Written).flat_map(|act| [act, Let(2)]))
                .collect(),
        ),
        (
            "clean stops",
            6,
            false,
            vec![Put(1, 3000, Written), Put(2, 14_000, Synced), Restart, Put(1, 100, Written), Let(1)]
                .into_iter()
                .chain([Delete(2, Written), Restart, Restart, Put(2, 5000, Synced), All])
                .collect(),
        ),
        (
            "failed device, probe",
            6,
            false,
            vec![Put(1, 3000, Written), All, Fail(true), Put(1, 100, Written), Put(2, 100, Buffered), All]
                .into_iter()
                .chain([Put(3, 9, Written), All, Put(3, 8, Written), All, Fail(false), Seconds(2)])
                .chain([All, Put(1, 50, Written), Put(2, 50, Synced), All])
                .collect(),
        ),
        (
            "given up",
            6,
            false,
            vec![Put(1, 3000, Synced), All, Put(1, 100, Written), Put(2, 100, Buffered), GiveUp, Let(1)]
                .into_iter()
                .chain([Put(3, 9, Written), All])
                .collect(),
        ),
    ]
}

/// What is known of a key.
#[derive(Clone, Default, Hash)]
struct Known {
    /// Everything that was ever asked to be stored.
    tried: Vec<Tried>,
    /// Acknowledged in a way that outlasts a kill, and the power.
    floors: [Version; 2],
    /// The store has held it ever since.
    held: [bool; 2],
}

/// What of a part is compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Tried {
    version: Version,
    len: usize,
    expires_ms: u64,
}

type Model = BTreeMap<u32, Known>;

/// The row of a world.
#[derive(Default)]
struct Row {
    operations: u64,
    /// Moments at which it crashed, and those of them at which not all subsets were tried.
    points: u64,
    partly: u64,
    tried: u64,
    distinct: u64,
    /// Images of crashes of the recovery, and after it.
    again: u64,
    violations: Vec<String>,
}

/// A block that a crash leaves or not.
type Loose = (u64, Rc<[u8]>, usize);

struct Run {
    world: World,
    crash: Crash,
    blank: bool,
    whole_max: usize,
    model: Model,
    waiting: Vec<(Token, u32, Version, AckLevel)>,
    snapshot: Option<Vec<u8>>,
    unknown: u64,
    evicting: bool,
    ticks: u64,
    seen: HashSet<u64>,
    rng: SmallRng,
    row: Row,
}

/// The subsets of `count` blocks that are tried, and whether these are all: up to `whole_max` blocks all of them;
/// beyond, all prefixes, single omissions, single keeps, pairs, and 64 random ones.
fn subsets(count: usize, whole_max: usize, rng: &mut SmallRng) -> (Vec<Vec<bool>>, bool) {
    if count <= whole_max {
        let all = (0..1_usize << count).map(|bits| (0..count).map(|at| bits >> at & 1 == 1).collect());
        return (all.collect(), true);
    }
    let mut chosen: Vec<Vec<bool>> = (0..=count).map(|end| (0..count).map(|at| at < end).collect()).collect();
    for one in 0..count {
        chosen.push((0..count).map(|at| at != one).collect());
        chosen.push((0..count).map(|at| at == one).collect());
        if whole_max > WHOLE_MAX {
            chosen.extend((0..one).map(|two| (0..count).map(|at| at == one || at == two).collect()));
        }
    }
    let random = if whole_max > WHOLE_MAX { 64 } else { 4 };
    chosen.extend((0..random).map(|_| (0..count).map(|_| rng.random_bool(0.5)).collect()));
    (chosen, false)
}

/// The blocks of a device of which a crash may leave any.
fn loose(device: &Device, crash: Crash) -> Vec<Loose> {
    let unflushed = device.unflushed.iter().filter(|_| crash == Crash::Power);
    let under_way = device.under_way.iter().filter_map(|(_, op)| match op {
        Op::Write { offset, buf } => Some((*offset, buf.clone())),
        _ => None,
    });
    let writes: Vec<_> = unflushed.cloned().chain(under_way).collect();
    let blocks = writes.into_iter().flat_map(|(offset, buf)| {
        (0..buf.len()).step_by(BLOCK_LEN).map(move |at| (offset + at as u64, buf.clone(), at))
    });
    blocks.collect()
}

fn apply(image: &mut [u8], (offset, buf, at): &Loose, bytes: std::ops::Range<usize>) {
    let to = *offset as usize;
    image[to + bytes.start..to + bytes.end].copy_from_slice(&buf[at + bytes.start..at + bytes.end]);
}

/// Every image that a crash may leave, each given to `check`; whether all subsets were among them.
fn images(
    device: &Device,
    crash: Crash,
    whole_max: usize,
    rng: &mut SmallRng,
    mut check: impl FnMut(Vec<u8>),
) -> bool {
    let base = if crash == Crash::Power { &device.durable } else { &device.bytes };
    let blocks = loose(device, crash);
    let (chosen, whole) = subsets(blocks.len(), whole_max, rng);
    for subset in chosen {
        let mut image = base.clone();
        for (block, _) in blocks.iter().zip(&subset).filter(|(_, there)| **there) {
            apply(&mut image, block, 0..BLOCK_LEN);
        }
        check(image);
    }
    // One block torn between sectors, the others there or not.
    for torn in 0..blocks.len() {
        let cuts = [(4, true), (1, true), (1, false), (7, true)];
        for (cut, others) in cuts.into_iter().take(if whole_max > WHOLE_MAX { 4 } else { 1 }) {
            let mut image = base.clone();
            for (at, block) in blocks.iter().enumerate().filter(|&(at, _)| others || at == torn) {
                let end = if at == torn { cut * SECTOR_LEN } else { BLOCK_LEN };
                apply(&mut image, block, 0..end);
            }
            check(image);
        }
    }
    whole
}

/// What the store held, and has promised to hold, is found before anything is let go.
fn judge_held(world: &mut World, model: &Model, crash: Crash) -> Result<(), String> {
    let at = usize::from(crash == Crash::Power);
    for (&key, known) in model.iter().filter(|(_, known)| known.held[at]) {
        let name = name(key, 0);
        if world.store().lookup(name.hash, name.record).is_none() {
            return Err(format!("key {key}: {} is lost", known.floors[at]));
        }
    }
    Ok(())
}

/// Compares an open store with what is known; `lossy` if it may have let something go.
fn judge(world: &mut World, model: &Model, crash: Crash, lossy: bool) -> Result<(), String> {
    let floor_at = usize::from(crash == Crash::Power);
    for (&key, known) in model {
        let floor = known.floors[floor_at];
        let floor_part = known.tried.iter().find(|part| part.version == floor);
        let now_ms = world.now.wall_ms();
        let over = |part: &Tried| part.expires_ms != 0 && part.expires_ms <= now_ms;
        match world.read(&name(key, 0)) {
            PartAnswer::Part { meta, payload } => {
                let part = Tried { version: meta.version, len: meta.part_len(), expires_ms: meta.expires_ms };
                if !known.tried.contains(&part) || payload.as_ref() != payload_of(&meta) {
                    return Err(format!("key {key}: {} was never written", meta.version));
                }
                if meta.version < floor {
                    return Err(format!("key {key}: {} is older than {floor}", meta.version));
                }
                if over(&part) {
                    return Err(format!("key {key}: {} has expired", meta.version));
                }
            }
            PartAnswer::Absent { .. } if floor == Version::ZERO => {}
            PartAnswer::Absent { forgotten_through, .. } if forgotten_through < floor => {
                return Err(format!(
                    "key {key}: absent through {forgotten_through} confirms less than {floor}"
                ));
            }
            PartAnswer::Absent { .. } => {
                // Evicted before the crash, or by the store that goes on after it.
                let may = lossy || world.store().stats().slabs_evicted > 0;
                if !may && !floor_part.is_some_and(over) && !known.tried.iter().any(over) {
                    return Err(format!("key {key}: {floor} is lost"));
                }
            }
            other => return Err(format!("key {key}: {other:?}")),
        }
    }
    Ok(())
}

/// Writes something to a device that was recovered, and crashes again.
fn again(world: &mut World, model: &Model, crash: Crash) -> Result<(), String> {
    let mut model = model.clone();
    world.advance(Duration::from_secs(3));
    for key in [1, 2, 90] {
        let version = world.version(u64::from(key));
        let meta = part(&name(key, 0), version, 5000 + key);
        if world.write(&PartWrite { ack: Synced, ..put(&meta) }) != PartAnswer::Stored {
            continue;
        }
        let known = model.entry(key).or_default();
        known.tried.push(Tried { version, len: meta.part_len(), expires_ms: 0 });
        known.floors = [version; 2];
    }
    world.run();
    judge(world, &model, crash, true).map_err(|what| format!("used again: {what}"))?;
    world.crash(crash);
    judge(world, &model, crash, true).map_err(|what| format!("crashed again: {what}"))
}

impl Run {
    fn new(script: &Script, crash: Crash, whole_max: usize, shuffle: bool) -> Run {
        let &(_, slabs, blank, _) = script;
        let tune = |config: &mut crate::slab::StoreConfig| {
            config.commit_len_max = 16 << 10;
            config.index_capacity = Some(100);
            config.probe_interval_us = 1_000_000;
        };
        let mut world = match blank {
            true => World::blank(slabs, SLAB, 5, tune),
            false => World::new(slabs, SLAB, 5, tune),
        };
        world.shuffle = shuffle;
        Run {
            unknown: if blank { 0 } else { world.stats().unknown_through_hlc },
            world,
            crash,
            blank,
            whole_max,
            model: Model::new(),
            waiting: Vec::new(),
            snapshot: None,
            evicting: false,
            ticks: 0,
            seen: HashSet::new(),
            rng: SmallRng::seed_from_u64(7),
            row: Row::default(),
        }
    }

    /// Takes the answers that came, then crashes in every way.
    fn checkpoint(&mut self) {
        let answers = std::mem::take(&mut self.world.answers);
        self.waiting.retain(|&(token, key, version, ack)| {
            if answers.get(&token) == Some(&PartAnswer::Stored)
                && let Some(known) = self.model.get_mut(&key)
            {
                let outlasts = [ack != Buffered, ack == Synced];
                for at in (0..2).filter(|&at| outlasts[at]) {
                    known.floors[at] = version.max(known.floors[at]);
                    known.held[at] = true;
                }
            }
            !answers.contains_key(&token)
        });
        if let Some(store) = &self.world.store {
            self.evicting |= store.eviction.is_some() || store.stats().slabs_evicted > 0;
            for (&key, known) in &mut self.model {
                let name = name(key, 0);
                let held = store.lookup(name.hash, name.record).is_some();
                known.held = known.held.map(|ever_since| ever_since && held);
            }
        }
        let (crash, whole_max) = (self.crash, self.whole_max);
        let device = std::mem::replace(&mut self.world.device, Device::new(0, SLAB));
        let mut rng = self.rng.clone();
        let whole = images(&device, crash, whole_max, &mut rng, |image| self.try_image(image));
        self.rng = rng;
        self.row.points += 1;
        self.row.partly += u64::from(!whole);
        self.world.device = device;
    }

    /// Opens an image, without the snapshot of the last clean stop and with it, and compares.
    fn try_image(&mut self, image: Vec<u8>) {
        self.row.tried += 1;
        let mut hasher = DefaultHasher::new();
        (&image, &self.model, self.snapshot.is_some(), self.world.now.wall_us).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return;
        }
        self.row.distinct += 1;
        let sampled = self.row.distinct.is_multiple_of(SAMPLE[usize::from(self.whole_max > WHOLE_MAX)]);
        for snapshot in [Some(None), self.snapshot.clone().map(Some)].into_iter().flatten() {
            if let Err(what) = self.recover(image.clone(), snapshot, sampled) {
                self.row.violations.push(format!("operation {}: {what}", self.row.operations));
            }
        }
    }

    fn recover(&mut self, image: Vec<u8>, snapshot: Option<Vec<u8>>, sampled: bool) -> Result<(), String> {
        let mut world = self.world.after(image.clone(), snapshot.clone());
        // With the power, the machine goes as well.
        world.config.boot += u64::from(self.crash == Crash::Power);
        self.open(&mut world)?;
        judge(&mut world, &self.model, self.crash, self.evicting)?;
        if !sampled {
            return Ok(());
        }
        self.row.again += 1;
        again(&mut world, &self.model, self.crash)?;
        self.crash_while_opening(image, snapshot)
    }

    fn open(&self, world: &mut World) -> Result<(), String> {
        match world.open() {
            Ok(_) => {}
            // A device that was being formatted holds nothing yet.
            Err(OpenError::Foreign { .. } | OpenError::SuperblockDamaged { .. })
                if self.blank && self.model.is_empty() =>
            {
                return Err("a device that was being formatted is refused".into());
            }
            Err(error) => return Err(error.to_string()),
        }
        let unknown = world.stats().unknown_through_hlc;
        if !self.blank && unknown != self.unknown {
            return Err(format!("unknown_through went from {} to {unknown}", self.unknown));
        }
        judge_held(world, &self.model, self.crash)
    }

    /// Crashes after every operation of the recovery itself.
    fn crash_while_opening(&mut self, image: Vec<u8>, snapshot: Option<Vec<u8>>) -> Result<(), String> {
        let mut world = self.world.after(image, snapshot.clone());
        world.config.boot += u64::from(self.crash == Crash::Power);
        let mut opening = world.begin_open();
        let mut found = Ok(());
        let mut rng = self.rng.clone();
        while world.step_open(&mut opening) {
            while let Some(effect) = opening.poll() {
                assert!(world.device.take(effect).is_none(), "an opening only uses the device");
            }
            images(&world.device, self.crash, self.whole_max, &mut rng, |image| {
                self.row.again += 1;
                let mut next = world.after(image, snapshot.clone());
                next.config.boot += u64::from(self.crash == Crash::Power);
                let result = self
                    .open(&mut next)
                    .and_then(|()| judge(&mut next, &self.model, self.crash, self.evicting));
                if let (Ok(()), Err(what)) = (&found, result) {
                    found = Err(format!("crashed while opening: {what}"));
                }
            });
        }
        found
    }

    fn step(&mut self) -> bool {
        let more = self.world.step();
        if more {
            self.row.operations += 1;
            self.checkpoint();
        }
        more
    }

    fn write(&mut self, meta: PartMeta, key: u32, ack: AckLevel) {
        let part = Tried { version: meta.version, len: meta.part_len(), expires_ms: meta.expires_ms };
        self.model.entry(key).or_default().tried.push(part);
        let token = self.world.begin_write(&PartWrite { ack, ..put(&meta) });
        self.waiting.push((token, key, meta.version, ack));
        self.checkpoint();
    }

    fn act(&mut self, act: Act) {
        self.ticks += 1;
        self.world.advance(Duration::from_micros(100));
        let version = self.world.version(self.ticks % 100);
        match act {
            Put(key, len, ack) => self.write(part(&name(key, 0), version, len), key, ack),
            Pin(key, len, ack) => {
                let meta = PartMeta { pinned: true, ..part(&name(key, 0), version, len) };
                self.write(meta, key, ack);
            }
            Brief(key, len, ack) => {
                let expires_ms = self.world.now.wall_ms() + 1000;
                self.write(PartMeta { expires_ms, ..part(&name(key, 0), version, len) }, key, ack);
            }
            Delete(key, ack) => self.write(tombstone(&name(key, 0), version), key, ack),
            Drop(key) => {
                self.world.drop_record(&name(key, 0), version);
                self.checkpoint();
            }
            Touch(key) => {
                self.world.touch(&name(key, 0));
            }
            Let(count) => {
                for _ in 0..count {
                    self.step();
                }
            }
            All => while self.step() {},
            Seconds(seconds) => {
                self.world.advance(Duration::from_secs(seconds));
                let now = self.world.now;
                self.world.store().tick(now);
                self.world.drain();
                self.checkpoint();
            }
            Restart => self.restart(),
            Fail(fail) => self.world.device.fail_writes = fail,
            GiveUp => {
                let now = self.world.now;
                self.world.store().give_up(now);
                self.world.drain();
                self.checkpoint();
            }
        }
    }

    fn restart(&mut self) {
        let now = self.world.now;
        self.world.store().begin_close(now);
        self.world.drain();
        self.checkpoint();
        while self.step() {}
        assert!(self.world.store().closed(), "the stop does not end");
        let mut bytes = Vec::new();
        assert!(self.world.store().snapshot(&mut bytes), "the stop is not clean");
        self.world.store = None;
        self.snapshot = Some(bytes.clone());
        self.world.snapshot = Some(bytes);
        self.checkpoint();
        self.open_step_by_step();
    }

    fn open_step_by_step(&mut self) {
        let mut opening = self.world.begin_open();
        while self.world.step_open(&mut opening) {
            while let Some(effect) = opening.poll() {
                assert!(self.world.device.take(effect).is_none(), "an opening only uses the device");
            }
            self.row.operations += 1;
            self.checkpoint();
        }
        self.world.store = Some(opening.finish().expect("the device opens"));
        self.world.drain();
        self.checkpoint();
    }
}

fn run(script: &Script, crash: Crash, whole_max: usize, shuffle: bool) -> Row {
    let mut run = Run::new(script, crash, whole_max, shuffle);
    if run.blank {
        run.open_step_by_step();
    }
    for &act in &script.3 {
        run.act(act);
    }
    let stored = run.model.values().filter(|known| known.floors[0] > Version::ZERO).count();
    assert!(stored > 0, "{}: nothing was acknowledged", script.0);
    run.row
}

fn crash_in_every_way(crash: Crash) {
    let whole_max = std::env::var("HEDGEROW_CRASH_WORLDS")
        .map_or(WHOLE_MAX, |text| text.parse().expect("HEDGEROW_CRASH_WORLDS is a number of blocks"));
    let what = if crash == Crash::Power { "power" } else { "kill" };
    println!(
        "| world | completes | crash | operations | crash points | of these not whole | images | distinct | crashed again | violations |"
    );
    println!("|---|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut wrong: Vec<String> = Vec::new();
    let orders: &[(&str, bool)] = &[("in order", false), ("in any order", true)];
    for script in worlds() {
        let name = script.0;
        for &(order, shuffle) in &orders[..1 + usize::from(whole_max > WHOLE_MAX)] {
            let row = run(&script, crash, whole_max, shuffle);
            let Row { operations, points, partly, tried, distinct, again, violations } = row;
            println!(
                "| {name} | {order} | {what} | {operations} | {points} | {partly} | {tried} | {distinct} | {again} | {} |",
                violations.len()
            );
            wrong.extend(
                violations.first().map(|first| format!("{name}: {} times: {first}", violations.len())),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_kill_at_any_moment_loses_nothing_written() {
    crash_in_every_way(Crash::KillClean);
}

#[test]
fn a_power_loss_at_any_moment_loses_nothing_synced() {
    crash_in_every_way(Crash::Power);
}
