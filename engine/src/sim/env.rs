//! What all members of a world share: the time, the queue of what is to come, chance, the links, the trace,
//! and the ledger of what was lost.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::part::RecordName;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Key, KeyHash, Member, Namespace, Record, Target, Version};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::coverage::{Coverage, Rare};
use super::facts::{Answer, Loss, LossKind};
use super::network::{Network, Packet};
use super::plan::{Plan, Shape};
use super::trace::Trace;
use crate::ring::{Ring, TargetSpec};
use crate::slab::IoId;

/// What happens at some time. A `life` is that of the member's process: what is meant for an earlier one is
/// nobody's.
pub(super) enum Event {
    /// A client sends an operation of the plan.
    Client(usize),
    /// It reaches the home; with the version that its condition expects.
    Arrive(usize, Version),
    /// The client cancels it.
    Cancel(usize),
    /// A fault of the plan begins.
    Fault(usize),
    /// It ends.
    FaultEnd(usize),
    /// A device operation is done.
    Io { member: u8, shard: u8, life: u32, io: IoId },
    /// A packet arrives.
    Deliver(Box<Delivery>),
    /// The connection by which a member asks another one breaks.
    Reset { member: u8, life: u32, peer: u8 },
    /// Somebody sees to a member whose devices could not all be opened, and starts it again.
    Restart { member: u8, life: u32 },
    /// A state machine wants to be ticked, if this is still the timer that was set last.
    Timer { member: u8, life: u32, number: u64 },
    /// The next task runs.
    Turn { member: u8, life: u32 },
}

impl Event {
    /// The member whose process has to run for it.
    pub(super) fn of(&self) -> Option<(u8, Option<u32>)> {
        match *self {
            Event::Client(_) | Event::Arrive(..) | Event::Cancel(_) => None,
            Event::Fault(_) | Event::FaultEnd(_) => None,
            Event::Io { member, life, .. }
            | Event::Reset { member, life, .. }
            | Event::Restart { member, life }
            | Event::Timer { member, life, .. }
            | Event::Turn { member, life } => Some((member, Some(life))),
            Event::Deliver(ref delivery) => Some((delivery.to, None)),
        }
    }
}

/// A packet on its way.
pub(super) struct Delivery {
    pub(super) from: u8,
    pub(super) from_life: u32,
    pub(super) to: u8,
    pub(super) to_life: u32,
    /// Whether it is an answer.
    pub(super) answer: bool,
    pub(super) packet: Packet,
}

struct Entry {
    at: Timestamp,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What does not change in a run.
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) shape: Shape,
    pub(super) ring: Ring,
    names: Vec<RecordName>,
    keys: BTreeMap<KeyHash, u16>,
}

impl Setup {
    /// The ring and the names of a plan.
    pub(super) fn new(plan: &Plan) -> Rc<Setup> {
        let shape = plan.shape;
        let mut specs = Vec::new();
        for member in 0..u16::from(shape.members) {
            for shard in 0..u16::from(shape.shards_per_member) {
                let target = Target { member: Member(member), shard };
                specs.push(TargetSpec { target, domain: u32::from(member), weight: 1 });
            }
        }
        let count = plan.ops.iter().map(|op| usize::from(op.key) + 1).max().unwrap_or(0);
        let names: Vec<RecordName> = (0..count).map(name).collect();
        let keys = names.iter().zip(0..).map(|(name, key)| (name.hash, key)).collect();
        Rc::new(Setup { seed: plan.seed, shape, ring: Ring::new(&specs), names, keys })
    }

    /// The object record of a key.
    pub(super) fn name(&self, key: u16) -> &RecordName {
        &self.names[usize::from(key)]
    }

    /// The key with a hash.
    pub(super) fn key(&self, hash: KeyHash) -> Option<u16> {
        self.keys.get(&hash).copied()
    }

    /// The member that owns a key.
    pub(super) fn home(&self, hash: KeyHash) -> u8 {
        let high = (hash.0 >> 64) as u64;
        ((u128::from(high) * u128::from(self.shape.members)) >> 64) as u8
    }
}

fn name(key: usize) -> RecordName {
    let namespace = Namespace(7);
    let text = format!("key-{key}");
    let key = Key::new(text.as_bytes()).unwrap_or_else(|error| panic!("a short key: {error}"));
    RecordName { namespace, hash: key.hash(namespace), key, record: Record::OBJECT }
}

/// What was lost and let go, by whom, and when.
#[derive(Default)]
pub(super) struct Ledger {
    losses: BTreeMap<Target, Vec<Loss>>,
    let_go: BTreeMap<(Target, u16), Version>,
    /// When members stood still, or were not there.
    pub(super) away: Vec<(u8, Timestamp, Timestamp)>,
    /// The highest version of each key that was acknowledged.
    pub(super) acknowledged: BTreeMap<u16, Version>,
}

impl Ledger {
    /// A target lost something.
    pub(super) fn lost(&mut self, target: Target, at: Timestamp, kind: LossKind) {
        self.losses.entry(target).or_default().push(Loss { at, kind });
    }

    /// What a target lost.
    pub(super) fn losses(&self, target: Target) -> &[Loss] {
        self.losses.get(&target).map_or(&[], Vec::as_slice)
    }

    /// A target let a version go.
    pub(super) fn let_go(&mut self, target: Target, key: u16, version: Version) {
        let highest = self.let_go.entry((target, key)).or_insert(version);
        *highest = version.max(*highest);
    }

    /// The highest version of a key that a target let go.
    pub(super) fn highest_let_go(&self, target: Target, key: u16) -> Version {
        self.let_go.get(&(target, key)).copied().unwrap_or(Version::ZERO)
    }
}

/// What all members share.
pub(super) struct Env {
    pub(super) now: Timestamp,
    pub(super) rng: SmallRng,
    pub(super) trace: Trace,
    pub(super) coverage: Coverage,
    pub(super) network: Network,
    pub(super) ledger: Ledger,
    /// The life of each member.
    pub(super) lives: Vec<u32>,
    /// What clients are answered.
    pub(super) answers: Vec<(u32, Answer)>,
    /// Requests to targets.
    pub(super) part_requests: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    next_number: u64,
}

impl Env {
    /// Nothing has happened yet.
    pub(super) fn new(plan: &Plan, lines_kept: usize) -> Env {
        let members = usize::from(plan.shape.members);
        Env {
            now: Timestamp(1),
            rng: SmallRng::seed_from_u64(plan.seed ^ 0x5157_a6d0_77aa_91c3),
            trace: Trace::new(lines_kept),
            coverage: Coverage::default(),
            network: Network::new(members),
            ledger: Ledger::default(),
            lives: vec![1; members],
            answers: Vec::new(),
            part_requests: 0,
            queue: BinaryHeap::new(),
            next_number: 0,
        }
    }

    /// Something is to happen, at `at` or now if that has passed.
    pub(super) fn schedule(&mut self, at: Timestamp, event: Event) {
        let at = at.max(self.now);
        self.queue.push(Reverse(Entry { at, number: self.next_number, event }));
        self.next_number += 1;
    }

    /// Takes what happens next, and goes there in time.
    pub(super) fn next(&mut self) -> Option<Event> {
        let Reverse(entry) = self.queue.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    /// A while of up to so many microseconds.
    pub(super) fn draw_us(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(0..=most))
    }

    /// Sends a packet from one member's process to another's. `answer`: of the one that was asked; who waits
    /// for it is then the receiver.
    pub(super) fn send(&mut self, from: u8, to: u8, to_life: u32, answer: bool, packet: Packet) {
        let fate = self.network.send(from, to, packet, self.now, &mut self.rng);
        let from_life = self.lives[usize::from(from)];
        for (at, packet) in fate.arrivals.into_iter().flatten() {
            let delivery = Delivery { from, from_life, to, to_life, answer, packet };
            self.schedule(at, Event::Deliver(Box::new(delivery)));
        }
        if let Some(at) = fate.broken_at {
            let (member, peer) = if answer { (to, from) } else { (from, to) };
            let life = if answer { to_life } else { from_life };
            self.schedule(at, Event::Reset { member, life, peer });
        }
    }

    /// A client gets its answer.
    pub(super) fn answer(&mut self, op: u32, answer: Answer) {
        self.answers.push((op, answer));
    }

    /// A rare state was met.
    pub(super) fn met(&mut self, rare: Rare) {
        self.coverage.state(rare);
    }
}
