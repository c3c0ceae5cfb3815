//! A random walk against a plain map: any order of completion, crashes, failures, clean stops.

use std::collections::HashMap;
use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartWrite, RecordName, Standing, WritePurpose, decode_part_head};
use hedgerow_wire::{AckLevel, Version};
use rand::{Rng, SeedableRng};

use crate::slab::Token;
use crate::slab::slabs::SlabState;
use crate::slab::testing::{Answer, Crash, World, check_part, name, part, put, tombstone};

/// What is known of a record from outside.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Acknowledged: nothing older may be given, and `Absent` must admit to have forgotten it.
    floor: Version,
    /// As `floor`, if the process were killed now.
    floor_killed: Version,
    /// As `floor`, if the power went now.
    floor_power: Version,
    /// The newest version that was ever tried.
    newest: Version,
    /// The oldest version below `floor` that was tried since: where the record was let go meanwhile, it
    /// may be what is held.
    late: Option<Version>,
}

impl Known {
    /// The oldest version that may be given, `self` being what was known when it was asked for.
    fn oldest(&self, now: &Known) -> Version {
        let late = [self.late, now.late].into_iter().flatten().min().unwrap_or(self.floor);
        late.min(self.floor)
    }
}

enum Asked {
    Write(PartWrite, u32, u32),
    Read(u32, u32),
    Confirm(u32, u32, Version),
}

struct Walk {
    world: World,
    known: HashMap<(u32, u32), Known>,
    asked: HashMap<Token, (Asked, Known)>,
    ticks: u64,
    stored: u64,
    damaged: u64,
    hits: u64,
    /// What happened, for whoever looks for a fault.
    history: Vec<(Option<(u32, u32)>, String)>,
    /// Payloads on the device are damaged now and then.
    damage: bool,
}

const KEYS: u32 = 30;

impl Walk {
    fn note(&mut self, key: Option<(u32, u32)>, what: String) {
        self.history.push((key, what));
    }

    fn show(&self, key: (u32, u32)) {
        for (_, what) in self.history.iter().filter(|(of, _)| of.is_none_or(|of| of == key)) {
            println!("{what}");
        }
    }

    fn name(&mut self) -> (RecordName, u32, u32) {
        let key = self.world.rng.random_range(0..KEYS);
        let record = if self.world.rng.random_bool(0.8) { 0 } else { self.world.rng.random_range(1..3) };
        (name(key, record), key, record)
    }

    fn version(&mut self, key: (u32, u32)) -> Version {
        self.ticks += 1;
        let newest = self.known.entry(key).or_default().newest;
        let coordinator = self.world.rng.random_range(1..3);
        match self.world.rng.random_range(0..10) {
            0 if newest != Version::ZERO => newest,
            1 if newest != Version::ZERO => Version { coordinator, ..newest },
            2 if newest != Version::ZERO => Version { hlc: newest.hlc - 3, coordinator },
            _ => Version { coordinator, ..self.world.version(self.ticks % 1000) },
        }
    }

    fn begin_write(&mut self) {
        let (name, key, record) = self.name();
        let version = self.version((key, record));
        let len = match self.world.rng.random_range(0..10) {
            // A stripe of an object that has a head is never empty.
            0 if record == 0 => 0,
            0..8 => self.world.rng.random_range(1..3000),
            _ => self.world.rng.random_range(3000..30_000),
        };
        let meta = if record == 0 && self.world.rng.random_bool(0.1) {
            tombstone(&name, version)
        } else {
            part(&name, version, len)
        };
        // A repeat must have the same bytes, so the length follows from the version.
        let meta =
            if meta.part_len() > 0 { part(&name, version, (version.hlc % 7919) as u32 + 1) } else { meta };
        let ack = AckLevel::ALL[self.world.rng.random_range(0..3)];
        let purpose = if self.world.rng.random_bool(0.1) { WritePurpose::Repair } else { WritePurpose::Put };
        let write = PartWrite { ack, purpose, ..put(&meta) };
        let known = self.known.entry((key, record)).or_default();
        known.newest = known.newest.max(version);
        if version < known.floor {
            known.late = Some(known.late.map_or(version, |late| late.min(version)));
        }
        let before = *known;
        let token = self.world.begin_write(&write);
        self.note(
            Some((key, record)),
            format!("{token:?} write {version} {ack:?} {purpose:?} {:?}", write.meta.kind),
        );
        self.asked.insert(token, (Asked::Write(write, key, record), before));
    }

    fn begin_read(&mut self) {
        let (name, key, record) = self.name();
        let known = self.known.get(&(key, record)).copied().unwrap_or_default();
        let token = if self.world.rng.random_bool(0.5) {
            let token = self.world.begin_read(&name, None);
            self.asked.insert(token, (Asked::Read(key, record), known));
            token
        } else {
            let version = self.version((key, record));
            let token = self.world.begin_confirm(&name, version);
            self.asked.insert(token, (Asked::Confirm(key, record, version), known));
            token
        };
        if self.world.rng.random_bool(0.1) {
            self.world.store().cancel(token);
            if !self.world.answers.contains_key(&token) {
                self.asked.remove(&token);
            }
        }
    }

    /// Looks at the answers that came.
    fn judge(&mut self) {
        let answers: Vec<_> = self.world.answers.drain().collect();
        for (token, answer) in answers {
            let (asked, before) = self.asked.remove(&token).expect("an answer to a question");
            let (Asked::Write(_, key, record) | Asked::Read(key, record) | Asked::Confirm(key, record, _)) =
                asked;
            self.note(Some((key, record)), format!("{token:?} {answer:?}").chars().take(150).collect());
            let oldest = before.oldest(&self.known.get(&(key, record)).copied().unwrap_or_default());
            let wrong = match &answer {
                PartAnswer::Absent { forgotten_through, .. } => *forgotten_through < before.floor,
                PartAnswer::Part { meta, .. } => meta.version < oldest,
                PartAnswer::Held(Standing::Same) => {
                    matches!(asked, Asked::Confirm(_, _, version) if version < oldest)
                }
                PartAnswer::Held(Standing::Older) => {
                    matches!(asked, Asked::Confirm(_, _, version) if version <= oldest)
                }
                PartAnswer::Damaged => !self.damage,
                _ => false,
            };
            if wrong {
                self.show((key, record));
            }
            match asked {
                Asked::Write(write, key, record) => self.judge_write(&write, (key, record), answer),
                Asked::Read(..) => self.judge_read(before, oldest, answer),
                Asked::Confirm(_, _, version) => judge_confirm(before, oldest, version, answer),
            }
        }
    }

    fn judge_write(&mut self, write: &PartWrite, key: (u32, u32), answer: Answer) {
        let known = self.known.entry(key).or_default();
        let version = write.meta.version;
        match answer {
            PartAnswer::Stored => {
                self.stored += 1;
                known.late = known.late.filter(|&late| late >= version);
                // After a drop or an eviction something older may be stored, and is then what is held.
                let lower = |floor: &mut Version| {
                    *floor = version.max(if version < *floor { Version::ZERO } else { *floor })
                };
                lower(&mut known.floor);
                if write.ack != AckLevel::Buffered {
                    lower(&mut known.floor_killed);
                }
                if write.ack == AckLevel::Synced {
                    lower(&mut known.floor_power);
                }
                known.floor_killed = known.floor_killed.min(known.floor);
                known.floor_power = known.floor_power.min(known.floor);
            }
            PartAnswer::Superseded { version: newer } => assert!(newer > version),
            PartAnswer::Overloaded | PartAnswer::Failed => {}
            other => panic!("a write was answered {other:?}"),
        }
    }

    fn judge_read(&mut self, before: Known, oldest: Version, answer: Answer) {
        match answer {
            PartAnswer::Part { meta, payload } => {
                self.hits += 1;
                check_part(&meta, &payload);
                assert!(meta.version >= oldest, "{} after {oldest}", meta.version);
            }
            PartAnswer::Absent { forgotten_through, .. } => {
                assert!(forgotten_through >= before.floor, "{forgotten_through} after {}", before.floor);
            }
            PartAnswer::Damaged if self.damage => self.damaged += 1,
            PartAnswer::Failed | PartAnswer::Overloaded => {}
            other => panic!("a read was answered {other:?}"),
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.world.answers.clear();
        self.asked.clear();
        self.lower_floors(crash);
        self.note(None, format!("crash {crash:?}"));
        self.world.crash(crash);
    }

    fn lower_floors(&mut self, crash: Crash) {
        for known in self.known.values_mut() {
            let floor = if crash == Crash::Power { known.floor_power } else { known.floor_killed };
            *known =
                Known { floor, floor_killed: floor, floor_power: floor.min(known.floor_power), ..*known };
        }
    }

    /// Flips a bit of the payload of a part that is held. Not where a crash would have to scan for it: a
    /// scan cannot tell damage from a write that never came to its end.
    fn flip(&mut self) {
        let (name, key, record) = self.name();
        let Some(located) = self.world.store().locate(name.hash, name.record) else { return };
        if self.world.store().slabs.state(located.slab()) != SlabState::Sealed {
            return;
        }
        let at = located.offset as usize + located.offset_in_bytes();
        let Ok(head) = decode_part_head(&self.world.device.bytes[at..]) else { return };
        if head.payload_len > 0 {
            self.note(Some((key, record)), format!("damage {}", head.meta.version));
            self.world.device.bytes[at + head.head_len + head.payload_len as usize / 2] ^= 1;
        }
    }

    fn step(&mut self, crash: Crash) {
        if self.damage && self.world.rng.random_bool(0.02) {
            self.flip();
        }
        match self.world.rng.random_range(0..1000) {
            0..300 => self.begin_write(),
            300..450 => self.begin_read(),
            450..470 => {
                let (name, key, record) = self.name();
                let version = self.version((key, record));
                self.note(Some((key, record)), format!("drop {version}"));
                self.world.drop_record(&name, version);
            }
            470..500 => {
                let (name, ..) = self.name();
                self.world.touch(&name);
            }
            500..990 => {
                self.world.step();
            }
            990..993 => self.world.advance(Duration::from_secs(200)),
            993..995 => self.crash(crash),
            995 => {
                self.world.run();
                self.judge();
                self.note(None, "stop".into());
                self.world.stop();
                self.judge();
                if self.world.snapshot.is_none() {
                    self.lower_floors(Crash::Kill);
                }
                self.world.device.fail_writes = false;
                self.world.open().expect("the device opens after a stop");
            }
            996 if !self.damage => {
                self.note(None, "writes fail".into());
                self.world.device.fail_writes = true;
            }
            _ => {
                self.note(None, "writes work".into());
                self.world.device.fail_writes = false;
                self.world.advance(Duration::from_secs(1));
                let now = self.world.now;
                self.world.store().tick(now);
                self.world.drain();
            }
        }
        self.world.advance(Duration::from_micros(100));
        self.judge();
    }
}

fn judge_confirm(before: Known, oldest: Version, version: Version, answer: Answer) {
    match answer {
        PartAnswer::Held(Standing::Older) => assert!(oldest < version, "older than {version}"),
        PartAnswer::Held(Standing::Same) => assert!(oldest <= version, "same as {version}"),
        PartAnswer::Held(Standing::SameClock) => assert!(oldest.hlc <= version.hlc, "clock of {version}"),
        PartAnswer::Absent { forgotten_through, .. } => {
            assert!(forgotten_through >= before.floor, "{forgotten_through} after {}", before.floor);
        }
        PartAnswer::Held(Standing::Newer) | PartAnswer::Failed => {}
        // Of the clock that it was asked about.
        PartAnswer::Damaged => assert!(oldest.hlc <= version.hlc, "clock of {version}"),
        other => panic!("a confirm was answered {other:?}"),
    }
}

fn walk(seed: u64, crash: Crash, steps: u32, damage: bool) {
    println!("walk({seed}, Crash::{crash:?}, {steps}, {damage})");
    let mut world = World::new(8, 128 << 10, seed, |config| config.commit_len_max = 32 << 10);
    world.shuffle = true;
    world.rng = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut walk = Walk {
        world,
        known: HashMap::new(),
        asked: HashMap::new(),
        ticks: 0,
        stored: 0,
        damaged: 0,
        hits: 0,
        history: Vec::new(),
        damage,
    };
    for _ in 0..steps {
        walk.step(crash);
    }
    walk.world.device.fail_writes = false;
    walk.world.run();
    walk.judge();
    let stats = walk.world.stats();
    assert!(
        walk.stored > u64::from(steps) / 20 && walk.hits > 10,
        "{} stored, {} hits",
        walk.stored,
        walk.hits
    );
    assert_eq!(damage, walk.damaged > 0);
    assert_eq!(stats.requests_under_way, 0);
    assert_eq!((stats.pending_bytes, stats.reads_under_way), (0, 0));
}

#[test]
fn random_walks_with_kills() {
    for seed in 0..12 {
        walk(seed, Crash::Kill, 4000, false);
    }
}

#[test]
fn random_walks_with_power_loss() {
    for seed in 100..106 {
        walk(seed, Crash::Power, 4000, false);
    }
}

#[test]
fn random_walks_with_damage() {
    for seed in 200..206 {
        walk(seed, Crash::Kill, 4000, true);
    }
}
