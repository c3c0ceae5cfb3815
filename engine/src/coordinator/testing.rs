//! A deterministic world around one coordinator: targets that hold parts, with delays, losses and
//! faults as told; a clock that steps from event to event.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use hedgerow_wire::part::{
    PartAnswer, PartConfirm, PartDrop, PartKind, PartMeta, PartRead, PartTouch, RecordName, Standing,
    WritePurpose,
};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{
    AckLevel, Code, Key, KeyHash, Member, Namespace, ObjectChecksum, ReadPolicy, Record, Target, Version,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Action, AskId, Config, Coordinator, OpId, ReadOutcome, ReadRequest, WriteOutcome, WriteRequest};
use crate::ring::{Ring, TargetSpec};

/// What the world's payloads are: enough to see a mix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bytes {
    pub(super) version: Version,
    pub(super) part: u8,
}

/// What was asked of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Read(PartRead),
    Confirm(PartConfirm),
    Write { op: OpId, meta: PartMeta, purpose: WritePurpose, deadline: Timestamp, ack: AckLevel },
    Drop(Vec<PartDrop>),
    Touch(Vec<PartTouch>),
}

impl Asked {
    /// One letter: r(ead), c(onfirm), w(rite), x (repair), d(rop), t(ouch).
    pub(super) fn letter(&self) -> char {
        match self {
            Asked::Read(_) => 'r',
            Asked::Confirm(_) => 'c',
            Asked::Write { purpose: WritePurpose::Put, .. } => 'w',
            Asked::Write { purpose: WritePurpose::Repair, .. } => 'x',
            Asked::Drop(_) => 'd',
            Asked::Touch(_) => 't',
        }
    }
}

/// What is wrong with a part that stays held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Damage {
    /// Its payload: which version it is, is known.
    Payload,
    /// Its head: only the clock of its version is known.
    Head,
}

/// How a target behaves: as a shard's store does.
#[derive(Clone, Debug)]
pub(super) struct SimTarget {
    pub(super) parts: BTreeMap<(KeyHash, Record), PartMeta>,
    pub(super) damaged: BTreeMap<(KeyHash, Record), Damage>,
    /// The index keeps clocks: without this, a confirmation of the same clock does not say more.
    pub(super) exact: bool,
    pub(super) forgotten: Version,
    /// It may have held anything up to this, and knows nothing of it.
    pub(super) unknown: Version,
    /// Time from ask to answer.
    pub(super) delay: Duration,
    /// Answers from the index alone take this.
    pub(super) index_delay: Duration,
    /// Never answers (what it was asked it does all the same, if `deaf` is false).
    pub(super) silent: bool,
    /// Does not even hear.
    pub(super) deaf: bool,
    /// The device fails every read.
    pub(super) fail_reads: bool,
    /// Answers this to everything.
    pub(super) always: Option<PartAnswer<Bytes>>,
    /// The next writes are answered so instead of being done.
    pub(super) refuse_writes: Vec<PartAnswer<Bytes>>,
}

impl SimTarget {
    fn new() -> SimTarget {
        SimTarget {
            parts: BTreeMap::new(),
            damaged: BTreeMap::new(),
            exact: true,
            forgotten: Version::ZERO,
            unknown: Version::ZERO,
            delay: Duration::from_micros(300),
            index_delay: Duration::from_micros(20),
            silent: false,
            deaf: false,
            fail_reads: false,
            always: None,
            refuse_writes: Vec::new(),
        }
    }

    pub(super) fn forget(&mut self, hash: KeyHash, record: Record) {
        self.damaged.remove(&(hash, record));
        if let Some(meta) = self.parts.remove(&(hash, record)) {
            self.forgotten = self.forgotten.max(meta.version);
        }
    }

    fn read(&self, read: &PartRead) -> PartAnswer<Bytes> {
        let at = (read.name.hash, read.name.record);
        let damage = self.damaged.get(&at);
        match self.parts.get(&at) {
            None => self.absent(),
            Some(_) if self.fail_reads => PartAnswer::Failed,
            Some(_) if damage == Some(&Damage::Head) => PartAnswer::Damaged,
            Some(meta) if read.version.is_some_and(|wanted| wanted != meta.version) => {
                PartAnswer::Other { version: meta.version }
            }
            Some(_) if damage.is_some() => PartAnswer::Damaged,
            Some(meta) => {
                let payload = Bytes { version: meta.version, part: meta.part };
                PartAnswer::Part { meta: meta.clone(), payload }
            }
        }
    }

    fn absent(&self) -> PartAnswer<Bytes> {
        let forgotten_through = self.forgotten.max(self.unknown);
        PartAnswer::Absent { forgotten_through, unknown: self.unknown > self.forgotten }
    }

    fn confirm(&self, confirm: &PartConfirm) -> PartAnswer<Bytes> {
        let Some(meta) = self.parts.get(&(confirm.hash, confirm.record)) else {
            return self.absent();
        };
        let damage = self.damaged.get(&(confirm.hash, confirm.record));
        let exact = self.exact && damage != Some(&Damage::Head);
        PartAnswer::Held(match meta.version.cmp(&confirm.version) {
            _ if !exact && meta.version.hlc == confirm.version.hlc && damage.is_some() => {
                return PartAnswer::Damaged;
            }
            _ if !exact && meta.version.hlc == confirm.version.hlc => Standing::SameClock,
            Ordering::Less => Standing::Older,
            Ordering::Equal if damage.is_some() => return PartAnswer::Damaged,
            Ordering::Equal => Standing::Same,
            Ordering::Greater => Standing::Newer,
        })
    }

    fn write(&mut self, meta: &PartMeta, purpose: WritePurpose) -> PartAnswer<Bytes> {
        if !self.refuse_writes.is_empty() {
            return self.refuse_writes.remove(0);
        }
        let at = (meta.key_hash(), meta.record);
        let held = self.parts.get(&at).map(|held| held.version);
        let damaged = match self.damaged.get(&at) {
            Some(Damage::Payload) => held == Some(meta.version),
            Some(Damage::Head) => held.is_some_and(|held| held.hlc == meta.version.hlc),
            None => false,
        };
        if let Some(version) = held.filter(|&held| held > meta.version && !damaged) {
            return PartAnswer::Superseded { version };
        }
        if purpose == WritePurpose::Repair && self.forgotten > meta.version && !damaged {
            return PartAnswer::Superseded { version: self.forgotten };
        }
        if held != Some(meta.version) || damaged {
            self.parts.insert(at, meta.clone());
            self.damaged.remove(&at);
        }
        PartAnswer::Stored
    }

    fn handle(&mut self, asked: &Asked, now: Timestamp) -> PartAnswer<Bytes> {
        if let Some(answer) = &self.always {
            return answer.clone();
        }
        match asked {
            Asked::Read(read) if read.deadline <= now => PartAnswer::Expired,
            Asked::Read(read) => self.read(read),
            Asked::Confirm(confirm) if confirm.deadline <= now => PartAnswer::Expired,
            Asked::Confirm(confirm) => self.confirm(confirm),
            Asked::Write { deadline, .. } if *deadline <= now => PartAnswer::Expired,
            Asked::Write { meta, purpose, .. } => self.write(meta, *purpose),
            Asked::Touch(_) => PartAnswer::Dropped,
            Asked::Drop(drops) => {
                for drop in drops {
                    let at = (drop.hash, drop.record);
                    if self.parts.get(&at).is_some_and(|held| held.version <= drop.version) {
                        self.forget(drop.hash, drop.record);
                    }
                }
                PartAnswer::Dropped
            }
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Arrive { ask: Option<AskId>, target: Target, asked: Asked },
    Answer { ask: AskId, answer: PartAnswer<Bytes> },
    Rebuilt { op: OpId },
}

/// Chances of trouble on the way, each from 0 to 1.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Trouble {
    pub(super) lose: f64,
    pub(super) repeat: f64,
    /// Delays are multiplied by up to this much.
    pub(super) stretch: f64,
}

/// The world.
pub(super) struct World {
    pub(super) now: Now,
    pub(super) coordinator: Coordinator<Bytes>,
    pub(super) targets: BTreeMap<Target, SimTarget>,
    pub(super) code: Code,
    pub(super) trouble: Trouble,
    pub(super) random: SmallRng,
    ring: Ring,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    pending: BTreeMap<u64, Event>,
    sequence: u64,
    /// What the shell holds for writes and repairs.
    pub(super) bodies: BTreeMap<OpId, PartMeta>,
    pub(super) reads: BTreeMap<OpId, (Timestamp, ReadOutcome<Bytes>)>,
    pub(super) writes: BTreeMap<OpId, (Timestamp, WriteOutcome)>,
    pub(super) released: BTreeSet<OpId>,
    /// Everything asked, in order: when, whom, what.
    pub(super) log: Vec<(Timestamp, Target, Asked)>,
    pub(super) withdrawn: usize,
}

pub(super) const MS: Duration = Duration::from_millis(1);
const START_S: u64 = 1_000_000;

impl World {
    /// A world of `targets` targets, each a failure domain of its own.
    pub(super) fn new(code: &str, targets: u16, configure: impl FnOnce(&mut Config)) -> World {
        let code: Code = code.parse().unwrap();
        let mut config = Config::new(code);
        configure(&mut config);
        let target = |member| Target { member: Member(member), shard: 0 };
        let spec = |member| TargetSpec { target: target(member), domain: u32::from(member), weight: 1 };
        let ring = Ring::new(&(0..targets).map(spec).collect::<Vec<_>>());
        World {
            now: Now { mono: Timestamp(1_000_000_000), wall_us: START_S * 1_000_000 },
            coordinator: Coordinator::new(config, ring.clone(), 1, 42),
            targets: (0..targets).map(|member| (target(member), SimTarget::new())).collect(),
            code,
            trouble: Trouble::default(),
            random: SmallRng::seed_from_u64(1),
            ring,
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            bodies: BTreeMap::new(),
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            released: BTreeSet::new(),
            log: Vec::new(),
            withdrawn: 0,
        }
    }

    pub(super) fn name(&self, key: &str) -> RecordName {
        let key = Key::new(key.as_bytes()).unwrap();
        let namespace = Namespace(0);
        let hash = key.hash(namespace);
        RecordName { namespace, key, hash, record: Record::OBJECT }
    }

    /// The targets of a record, in ring order.
    pub(super) fn order(&self, name: &RecordName) -> Vec<Target> {
        self.ring.targets(name.hash, self.targets.len()).to_vec()
    }

    /// The target at position `slot` of the ring order of `name`.
    pub(super) fn at(&mut self, name: &RecordName, slot: usize) -> &mut SimTarget {
        let target = self.order(name)[slot];
        self.targets.get_mut(&target).unwrap()
    }

    /// A version given `seconds` before the world began.
    pub(super) fn old(seconds: u64) -> Version {
        Version { hlc: (START_S - seconds) << 16, coordinator: 9 }
    }

    /// Meta of part 0 of a stripe whose parts have 64 KiB.
    pub(super) fn meta(name: &RecordName, version: Version, code: Code) -> PartMeta {
        let stripe_len = (code.k() as u32) << 16;
        PartMeta {
            kind: if name.record == Record::OBJECT { PartKind::Sole } else { PartKind::Stripe },
            pinned: false,
            namespace: name.namespace,
            namespace_generation: 0,
            key: name.key.clone(),
            record: name.record,
            version,
            object_len: u64::from(stripe_len),
            object_checksum: ObjectChecksum::NONE,
            stripe_len,
            stripe_size: 1 << 20,
            part: 0,
            code,
            created_ms: 0,
            expires_ms: 0,
            encryption_key_id: 0,
            encryption_nonce: [0; 12],
            tags: Default::default(),
        }
    }

    pub(super) fn tombstone(&self, name: &RecordName, version: Version) -> PartMeta {
        let code = self.coordinator.tombstone_code();
        PartMeta { kind: PartKind::Tombstone, stripe_len: 0, ..World::meta(name, version, code) }
    }

    /// Puts the parts of `meta` at these positions of the ring order, whatever is there.
    pub(super) fn place(&mut self, name: &RecordName, meta: &PartMeta, slots: &[usize]) {
        for &slot in slots {
            let part = PartMeta { part: slot as u8, ..meta.clone() };
            self.at(name, slot).parts.insert((name.hash, name.record), part);
        }
    }

    pub(super) fn request(&self, name: &RecordName) -> ReadRequest {
        ReadRequest {
            name: name.clone(),
            version: None,
            code_hint: None,
            stripe_len: None,
            range: None,
            policy: ReadPolicy::Default,
            strict: false,
            immutable: false,
            deadline: self.now.mono + 100 * MS,
        }
    }

    pub(super) fn begin_read(&mut self, request: ReadRequest) -> OpId {
        let op = self.coordinator.read(request, self.now);
        self.drain();
        op
    }

    pub(super) fn begin_write(&mut self, meta: PartMeta, time: Duration) -> OpId {
        let deadline = self.now.mono + time;
        self.begin(WriteRequest { meta, ack: AckLevel::Written, deadline })
    }

    pub(super) fn begin(&mut self, request: WriteRequest) -> OpId {
        let meta = request.meta.clone();
        let op = self.coordinator.write(request, self.now);
        self.bodies.insert(op, meta);
        self.drain();
        op
    }

    /// Reads, and waits for the outcome.
    pub(super) fn read(&mut self, request: ReadRequest) -> ReadOutcome<Bytes> {
        let deadline = request.deadline;
        let op = self.begin_read(request);
        self.run_while(|world| !world.reads.contains_key(&op));
        let (at, outcome) = self.reads[&op].clone();
        assert!(at <= deadline, "the outcome came {:?} after the deadline", at.since(deadline));
        outcome
    }

    /// Reads `name` with the defaults.
    pub(super) fn get(&mut self, name: &RecordName) -> ReadOutcome<Bytes> {
        self.read(self.request(name))
    }

    /// Writes, and waits for the outcome.
    pub(super) fn write(&mut self, meta: PartMeta, time: Duration) -> WriteOutcome {
        let deadline = self.now.mono + time;
        let op = self.begin_write(meta, time);
        self.run_while(|world| !world.writes.contains_key(&op));
        let (at, outcome) = self.writes[&op];
        assert!(at <= deadline, "the outcome came {:?} after the deadline", at.since(deadline));
        outcome
    }

    /// Puts `name` in the configured code; returns its version.
    pub(super) fn put(&mut self, name: &RecordName) -> Version {
        let version = self.coordinator.next_version(name.hash, self.now);
        let outcome = self.write(World::meta(name, version, self.code), 100 * MS);
        assert!(matches!(outcome, WriteOutcome::Acknowledged { .. }), "{outcome:?}");
        version
    }

    /// Steps from event to event while `go` says so.
    pub(super) fn run_while(&mut self, go: impl Fn(&World) -> bool) {
        let mut steps = 0;
        while go(self) {
            assert!(self.step(Timestamp::NEVER), "nothing will ever happen again");
            steps += 1;
            assert!(steps < 1_000_000, "the world does not come to rest");
        }
    }

    /// Lets `time` pass.
    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now.mono + time;
        while self.step(until) {}
        self.advance(until);
    }

    fn advance(&mut self, to: Timestamp) {
        let passed = to.since(self.now.mono);
        self.now.mono = to;
        self.now.wall_us += passed.as_nanos().div_ceil(1000) as u64;
    }

    /// The next event not after `until`. False if there is none.
    fn step(&mut self, until: Timestamp) -> bool {
        let event = self.events.peek().map(|Reverse((at, _))| Timestamp(*at));
        let timer = self.coordinator.next_deadline();
        let Some(at) = [event, timer].into_iter().flatten().min().filter(|&at| at <= until) else {
            return false;
        };
        self.advance(at.max(self.now.mono));
        if event.is_some_and(|event| event <= at) {
            let Some(Reverse((_, sequence))) = self.events.pop() else { return false };
            let event = self.pending.remove(&sequence).unwrap();
            self.happen(event);
        } else {
            self.coordinator.tick(self.now);
        }
        self.drain();
        true
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        let at = self.now.mono + after;
        self.events.push(Reverse((at.0, self.sequence)));
        self.pending.insert(self.sequence, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Rebuilt { op } => self.coordinator.rebuilt(op, self.now),
            Event::Answer { ask, answer } => self.coordinator.answer(ask, answer, self.now),
            Event::Arrive { ask, target, asked } => {
                let sim = self.targets.get_mut(&target).unwrap();
                if sim.deaf {
                    return;
                }
                let answer = sim.handle(&asked, self.now.mono);
                let from_index = !matches!(answer, PartAnswer::Part { .. } | PartAnswer::Stored);
                let delay = if from_index { sim.index_delay } else { sim.delay };
                let silent = sim.silent;
                let Some(ask) = ask.filter(|_| !silent) else { return };
                let stretch = self.stretch();
                self.schedule(delay.mul_f64(stretch), Event::Answer { ask, answer: answer.clone() });
                if self.random.random_bool(self.trouble.repeat) {
                    let again = delay.mul_f64(3.0 * stretch);
                    self.schedule(again, Event::Answer { ask, answer });
                }
            }
        }
    }

    fn stretch(&mut self) -> f64 {
        if self.trouble.stretch > 1.0 { self.random.random_range(1.0..self.trouble.stretch) } else { 1.0 }
    }

    fn send(&mut self, ask: Option<AskId>, target: Target, asked: Asked) {
        self.log.push((self.now.mono, target, asked.clone()));
        if self.random.random_bool(self.trouble.lose) {
            return;
        }
        let delay = Duration::from_micros(1).mul_f64(self.stretch());
        self.schedule(delay, Event::Arrive { ask, target, asked });
    }

    /// Does what the coordinator wants done.
    pub(super) fn drain(&mut self) {
        while let Some(action) = self.coordinator.poll() {
            match action {
                Action::AskRead { ask, target, read } => self.send(Some(ask), target, Asked::Read(read)),
                Action::AskConfirm { ask, target, confirm } => {
                    self.send(Some(ask), target, Asked::Confirm(confirm));
                }
                Action::AskWrite { ask, op, target, part, purpose, deadline, ack } => {
                    // The write's own actions come before `write` has returned its id.
                    let body = self.bodies.get(&op).cloned();
                    let meta = body.expect("the shell holds what is written");
                    let meta = PartMeta { part, ..meta };
                    self.send(Some(ask), target, Asked::Write { op, meta, purpose, deadline, ack });
                }
                Action::AskDrop { target, drops } => self.send(None, target, Asked::Drop(drops)),
                Action::Touch { target, touches } => self.send(None, target, Asked::Touch(touches)),
                Action::Withdraw { .. } => self.withdrawn += 1,
                Action::ReadDone { op, outcome } => {
                    assert!(self.reads.insert(op, (self.now.mono, outcome)).is_none(), "two outcomes");
                }
                Action::WriteDone { op, outcome } => {
                    assert!(self.writes.insert(op, (self.now.mono, outcome)).is_none(), "two outcomes");
                }
                Action::Release { op } => {
                    assert!(self.released.insert(op), "released twice");
                    self.bodies.remove(&op);
                }
                Action::Rebuild { op, meta, have, want } => {
                    assert!(have.len() >= meta.code.k() && !want.is_empty(), "{have:?} for {want:?}");
                    assert!(have.iter().all(|(part, b)| b.version == meta.version && b.part == *part));
                    self.bodies.insert(op, meta);
                    self.schedule(Duration::from_micros(10), Event::Rebuilt { op });
                }
            }
        }
    }

    /// What was asked since the log had `from` entries, as letters by position in the ring order of
    /// `name`: "0r 1r 2c".
    pub(super) fn asked(&self, name: &RecordName, from: usize) -> String {
        let order = self.order(name);
        let word = |(_, target, asked): &(Timestamp, Target, Asked)| {
            let slot = order.iter().position(|other| other == target).unwrap();
            format!("{slot}{}", asked.letter())
        };
        self.log[from..].iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// The positions in the ring order that hold `version` of `name`.
    pub(super) fn holders(&mut self, name: &RecordName, version: Version) -> Vec<usize> {
        let at = (name.hash, name.record);
        let order = self.order(name);
        (0..order.len())
            .filter(|&slot| self.targets[&order[slot]].parts.get(&at).is_some_and(|m| m.version == version))
            .collect()
    }
}

/// The version, parts and confirmation of a read that found something; panics otherwise.
pub(super) fn found(outcome: &ReadOutcome<Bytes>) -> (Version, Vec<u8>, bool) {
    let ReadOutcome::Found { meta, parts, confirmed, .. } = outcome else {
        panic!("not found: {outcome:?}");
    };
    assert!(parts.iter().all(|(number, bytes)| bytes.version == meta.version && bytes.part == *number));
    (meta.version, parts.iter().map(|&(number, _)| number).collect(), *confirmed)
}
