//! Random operations on a few keys with random trouble, against what may be returned.
//!
//! Replay one seed: `HEDGEROW_SEED=17 cargo test -p hedgerow-engine coordinator::tests::model`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, RecordName};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{Code, ReadPolicy, Version};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::testing::{Damage, MS, Trouble, World};
use super::super::{Miss, OpId, ReadOutcome, WriteOutcome};

/// What is known of one key.
#[derive(Default)]
struct Model {
    /// The highest version that was acknowledged, or returned as confirmed.
    certain: Version,
    /// A target has let a part go, or its device was replaced.
    lost: bool,
    /// Versions whose writes were answered as without effect.
    void: BTreeSet<Version>,
    /// Codes of the versions written.
    codes: BTreeMap<Version, (Code, bool)>,
}

struct Play {
    world: World,
    names: Vec<RecordName>,
    models: Vec<Model>,
    /// Key, when it began, what was certain then, by when it has to end.
    reads: BTreeMap<OpId, (usize, Version, Timestamp, bool)>,
    writes: BTreeMap<OpId, (usize, Version, Timestamp)>,
    seen: usize,
    found: usize,
    confirmed: usize,
    replaced: usize,
    random: SmallRng,
    seed: u64,
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut random = SmallRng::seed_from_u64(seed);
        let codes = ["4+2", "1+1", "2+1", "1+2", "3+3", "2+0", "6+4"];
        let code = codes[random.random_range(0..codes.len())];
        let spare = random.random_range(0..3);
        let n = code.parse::<Code>().unwrap().n() as u16;
        let mut world = World::new(code, n + spare, |config| {
            config.straggler_grace = 20 * MS;
            config.repair_deadline = 50 * MS;
            config.target_ops_max = 64;
        });
        world.random = SmallRng::seed_from_u64(seed ^ 1);
        let harsh = random.random_range(0.0..1.0);
        world.trouble = Trouble { lose: 0.02 * harsh, repeat: 0.1 * harsh, stretch: 1.0 + 30.0 * harsh };
        let names: Vec<RecordName> = (0..4).map(|index| world.name(&format!("key {index}"))).collect();
        Play {
            models: names.iter().map(|_| Model::default()).collect(),
            names,
            world,
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            seen: 0,
            found: 0,
            confirmed: 0,
            replaced: 0,
            random,
            seed,
        }
    }

    fn step(&mut self) {
        let key = self.random.random_range(0..self.names.len());
        match self.random.random_range(0..100) {
            0..=54 => self.begin_read(key),
            55..=84 => self.begin_write(key),
            85..=91 => self.disturb(),
            92..=94 => self.heal(),
            95..=96 => self.damage(key),
            97 if self.random.random_bool(0.3) => self.replace(),
            _ => {
                let running: Vec<OpId> = self.reads.keys().copied().collect();
                if let Some(op) = running.first() {
                    self.world.coordinator.cancel_read(*op, self.world.now);
                    self.reads.remove(op);
                }
            }
        }
        let pause = [0, 10, 100, 300, 1000, 5000][self.random.random_range(0..6)];
        self.world.run_for(Duration::from_micros(pause));
        self.judge();
    }

    fn begin_read(&mut self, key: usize) {
        let mut request = self.world.request(&self.names[key]);
        request.deadline = self.world.now.mono + self.random.random_range(1..60) * MS;
        request.strict = self.random.random_bool(0.3);
        request.policy = if self.random.random_bool(0.2) { ReadPolicy::All } else { ReadPolicy::Default };
        if self.random.random_bool(0.5) {
            let code = self.world.code;
            request.code_hint =
                Some(Code::new(self.random.random_range(1..=code.k() as u8), code.m() as u8).unwrap());
        }
        let (deadline, strict) = (request.deadline, request.strict);
        let certain = self.models[key].certain;
        let op = self.world.begin_read(request);
        self.reads.insert(op, (key, certain, deadline, strict));
    }

    fn begin_write(&mut self, key: usize) {
        let name = self.names[key].clone();
        let version = self.world.coordinator.next_version(name.hash, self.world.now);
        assert!(self.models[key].codes.keys().all(|&other| other < version), "versions rise");
        let k = self.random.random_range(1..=self.world.code.k() as u8);
        let code = Code::new(k, self.world.code.m() as u8).unwrap();
        let deleted = self.random.random_bool(0.15);
        let meta = match deleted {
            true => self.world.tombstone(&name, version),
            false => World::meta(&name, version, code),
        };
        self.models[key].codes.insert(version, (code, deleted));
        let time = self.random.random_range(1..60) * MS;
        let deadline = self.world.now.mono + time;
        let op = self.world.begin_write(meta, time);
        self.writes.insert(op, (key, version, deadline));
    }

    fn disturb(&mut self) {
        let count = self.world.targets.len();
        let victim = self.random.random_range(0..count);
        let target = self.world.targets.values_mut().nth(victim).unwrap();
        match self.random.random_range(0..6) {
            0 => target.silent = true,
            1 => target.deaf = true,
            2 => target.always = Some(PartAnswer::Failed),
            3 => target.always = Some(PartAnswer::Overloaded),
            4 => target.delay = 20 * MS,
            _ => target.refuse_writes = vec![PartAnswer::Overloaded; 3],
        }
    }

    fn heal(&mut self) {
        for target in self.world.targets.values_mut() {
            target.silent = false;
            target.deaf = false;
            target.always = None;
            target.delay = Duration::from_micros(300);
        }
    }

    /// The process starts anew, and a target with a blank device: it may have held anything up to then.
    fn replace(&mut self) {
        for op in std::mem::take(&mut self.reads).into_keys() {
            self.world.coordinator.cancel_read(op, self.world.now);
        }
        self.heal();
        while self.world.coordinator.stats().ops > 0 {
            self.world.run_for(10 * MS);
            self.judge();
        }
        let given = self.models.iter().flat_map(|model| model.codes.keys()).max().copied();
        let victim = self.random.random_range(0..self.world.targets.len());
        let target = self.world.targets.values_mut().nth(victim).unwrap();
        target.parts.clear();
        target.damaged.clear();
        (target.forgotten, target.unknown) = (Version::ZERO, given.unwrap_or_default());
        self.models.iter_mut().for_each(|model| model.lost = true);
        self.replaced += 1;
    }

    /// Damages a part, or evicts it.
    fn damage(&mut self, key: usize) {
        let slot = self.random.random_range(0..self.world.code.n());
        let name = self.names[key].clone();
        let forget = self.random.random_bool(0.3);
        let damage = if self.random.random_bool(0.5) { Damage::Head } else { Damage::Payload };
        self.models[key].lost |= forget;
        let target = self.world.at(&name, slot);
        if forget {
            target.forget(name.hash, name.record);
        } else if target.parts.contains_key(&(name.hash, name.record)) {
            target.damaged.insert((name.hash, name.record), damage);
        }
    }

    fn judge(&mut self) {
        let now = self.world.now.mono;
        let mut overdue = self
            .writes
            .iter()
            .filter(|(op, (.., deadline))| !self.world.writes.contains_key(op) && *deadline < now);
        assert!(overdue.next().is_none(), "a write is past its deadline, seed {}", self.seed);
        let done: Vec<OpId> =
            self.writes.keys().filter(|op| self.world.writes.contains_key(op)).copied().collect();
        for op in done {
            let (key, version, deadline) = self.writes.remove(&op).unwrap();
            let (at, outcome) = self.world.writes[&op];
            assert!(at <= deadline, "seed {}", self.seed);
            let model = &mut self.models[key];
            match outcome {
                WriteOutcome::Acknowledged { .. } => model.certain = model.certain.max(version),
                WriteOutcome::Superseded { version: newer } => assert!(newer > version),
                WriteOutcome::Indeterminate => {}
                _ => {
                    model.void.insert(version);
                }
            }
        }
        let done: Vec<OpId> =
            self.reads.keys().filter(|op| self.world.reads.contains_key(op)).copied().collect();
        // Those that ended together may say what the others did not know when they began.
        for op in done {
            let read = self.reads.remove(&op).unwrap();
            self.judge_read(op, read);
        }
        let overdue = self.reads.values().any(|&(_, _, deadline, _)| deadline < now);
        assert!(!overdue, "a read is past its deadline, seed {}", self.seed);
    }

    fn judge_read(&mut self, op: OpId, (key, certain, deadline, strict): (usize, Version, Timestamp, bool)) {
        let seed = self.seed;
        let (at, outcome) = self.world.reads[&op].clone();
        assert!(at <= deadline, "seed {seed}");
        self.seen += 1;
        let model = &mut self.models[key];
        match outcome {
            ReadOutcome::Found { meta, parts, confirmed, .. } => {
                let (code, deleted) = model.codes[&meta.version];
                assert!(!deleted, "a deleted object was found, seed {seed}");
                assert_eq!(meta.code, code, "seed {seed}");
                assert_eq!(parts.len(), code.k(), "seed {seed}");
                let mut numbers = BTreeSet::new();
                for (number, bytes) in &parts {
                    assert!(bytes.version == meta.version && bytes.part == *number, "a mix, seed {seed}");
                    assert!(numbers.insert(*number), "a part twice, seed {seed}");
                }
                assert!(confirmed || !strict, "seed {seed}");
                assert!(!model.void.contains(&meta.version), "a void write was found, seed {seed}");
                self.found += 1;
                if confirmed {
                    self.confirmed += 1;
                    assert!(meta.version >= certain, "{} < {certain}, seed {seed}", meta.version);
                    model.certain = model.certain.max(meta.version);
                }
            }
            ReadOutcome::NotFound { why: Miss::Deleted(version) } => {
                assert!(model.codes[&version].1, "seed {seed}");
                assert!(!model.void.contains(&version), "a void delete was found, seed {seed}");
            }
            ReadOutcome::NotFound { why: Miss::Absent } => {
                assert!(certain == Version::ZERO || model.lost, "no miss of what is there, seed {seed}");
            }
            _ => {}
        }
    }
}

fn play(seed: u64, steps: usize) -> Play {
    let mut play = Play::new(seed);
    for _ in 0..steps {
        play.step();
    }
    // All is well again: everything ends, and nothing stays in flight that was answered.
    play.heal();
    play.world.trouble = Trouble::default();
    play.world.run_for(500 * MS);
    play.judge();
    assert!(play.reads.is_empty() && play.writes.is_empty(), "seed {seed}");
    play
}

#[test]
fn random_operations_with_random_trouble_keep_every_promise() {
    if let Ok(seed) = std::env::var("HEDGEROW_SEED") {
        play(seed.parse().unwrap(), 400);
        return;
    }
    let (mut seen, mut found, mut confirmed, mut replaced) = (0, 0, 0, 0);
    for seed in 0..60 {
        let play = play(seed, 400);
        seen += play.seen;
        found += play.found;
        confirmed += play.confirmed;
        replaced += play.replaced;
    }
    assert!(replaced > 30, "{replaced} devices were replaced");
    // The promises are not kept by answering nothing.
    assert!(found * 3 > seen, "{found} of {seen} found");
    assert!(confirmed * 5 > found * 3, "{confirmed} of {found} confirmed");
}

#[test]
fn without_trouble_every_acknowledged_write_is_found() {
    for seed in 0..10 {
        let mut play = Play::new(seed);
        play.world.trouble = Trouble::default();
        for _ in 0..100 {
            let key = play.random.random_range(0..4);
            let name = play.names[key].clone();
            let version = play.world.put(&name);
            let outcome = play.world.get(&name);
            let ReadOutcome::Found { meta, confirmed, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!((meta.version, confirmed), (version, true), "seed {seed}");
        }
    }
}
