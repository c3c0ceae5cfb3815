//! The process of a member: its coordinator, memory tier and calls, and the loop that carries events between
//! them and the shards, in the order in which the shell's `Core::pump` does. It dies with the process; the
//! shards' devices do not.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use hedgerow_wire::frame::{Op, Status, flags};
use hedgerow_wire::part::{PartAnswer, PartDrop, PartMeta, PartTouch, PartWrite};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{Code, KeyHash, Target, Version};

use super::bytes::Slice;
use super::clock::Clock;
use super::coverage::Rare;
use super::env::{Delivery, Env, Event, Setup};
use super::frames::{self, Asked};
use super::home::{Call, InMemory, Task};
use super::network::{Packet, Received};
use super::parts::{self, OpBytes};
use super::shard::{Out, Request, Shard, StoreAnswer};
use crate::codec::Codec;
use crate::coordinator::{Action, AskId, Config, Coordinator, OpId};
use crate::gates::Gates;
use crate::memory::MemoryTier;
use crate::slab::{EvictedPart, Token};

/// Where a process runs: what it finds there.
pub(super) struct Site<'a> {
    pub(super) shards: &'a mut [Shard],
    pub(super) clock: Clock,
    pub(super) codec: &'a mut Codec,
    /// The topology that the member knows.
    pub(super) epoch: u64,
    pub(super) env: &'a mut Env,
}

impl Site<'_> {
    /// The member's clocks.
    pub(super) fn now(&self) -> Now {
        self.clock.now(self.env.now)
    }
}

/// A request of another member that a shard has not answered.
struct Direct {
    from: u8,
    from_life: u32,
    op: Op,
    id: u64,
    shard: u16,
    deadline: Timestamp,
}

/// Who is to be told when a time has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiter {
    /// A request of another member.
    Direct(u64),
    /// A call at a gate.
    Gate(u32),
}

/// The process of a member.
pub(super) struct Core {
    pub(super) id: u8,
    life: u32,
    pub(super) setup: Rc<Setup>,
    pub(super) coordinator: Coordinator<Slice>,
    pub(super) config: Config,
    pub(super) memory: MemoryTier<InMemory>,
    /// The codes of objects that were met.
    pub(super) shapes: BTreeMap<KeyHash, Code>,
    pub(super) gates: Gates<u32>,
    pub(super) calls: BTreeMap<u32, Call>,
    pub(super) call_of: HashMap<OpId, u32>,
    pub(super) bytes: HashMap<OpId, OpBytes>,
    /// Asks of other members' shards that are not answered.
    asked: BTreeMap<AskId, u8>,
    direct: BTreeMap<u64, Direct>,
    pub(super) deadlines: BTreeSet<(Timestamp, Waiter)>,
    next_number: u64,
    answered: VecDeque<(AskId, PartAnswer<Slice>)>,
    tasks: VecDeque<Task>,
    out: Vec<Out>,
    turn_is_due: bool,
    next_deadline: Timestamp,
    armed: Timestamp,
    /// Number of the timer that was set last.
    timer: u64,
}

/// In the high half of the tokens of other members' requests; those of the coordinator have none.
const DIRECT: u128 = 1 << 64;

impl Core {
    /// A process that begins with shards that have seen versions up to `highest`.
    pub(super) fn new(id: u8, life: u32, setup: Rc<Setup>, config: Config, highest: Version) -> Core {
        let seed = setup.seed ^ u64::from(id) << 32 ^ u64::from(life);
        let mut coordinator = Coordinator::new(config.clone(), setup.ring.clone(), u16::from(id), seed);
        coordinator.observe(highest);
        Core {
            id,
            life,
            coordinator,
            config,
            memory: MemoryTier::new(setup.shape.memory_bytes, 64),
            setup,
            shapes: BTreeMap::new(),
            gates: Gates::default(),
            calls: BTreeMap::new(),
            call_of: HashMap::new(),
            bytes: HashMap::new(),
            asked: BTreeMap::new(),
            direct: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_number: 1,
            answered: VecDeque::new(),
            tasks: VecDeque::new(),
            out: Vec::new(),
            turn_is_due: false,
            next_deadline: Timestamp::NEVER,
            armed: Timestamp::NEVER,
            timer: 0,
        }
    }

    /// Requests of other members that are not answered, and asks of theirs.
    pub(super) fn unanswered(&self) -> (usize, usize) {
        (self.direct.len(), self.asked.len())
    }

    /// Carries events until nothing more happens, and ticks what is due.
    pub(super) fn pump(&mut self, site: &mut Site<'_>) {
        let now = site.now();
        if self.next_deadline <= now.mono {
            self.coordinator.tick(now);
            site.shards.iter_mut().for_each(|shard| shard.tick(now));
        }
        while let Some(&(at, waiter)) = self.deadlines.first()
            && at <= now.mono
        {
            self.deadlines.pop_first();
            match waiter {
                Waiter::Direct(number) => self.give_up_direct(number, site),
                Waiter::Gate(call) => self.gate_is_late(call, site),
            }
        }
        while self.carry(site, now) {}
        let of_shards = site.shards.iter().filter_map(Shard::next_deadline).min();
        let of_waiters = self.deadlines.first().map(|&(at, _)| at);
        let next = of_shards.into_iter().chain(self.coordinator.next_deadline()).min();
        self.next_deadline = next.unwrap_or(Timestamp::NEVER);
        let wake = next.into_iter().chain(of_waiters).min().unwrap_or(Timestamp::NEVER);
        if wake < self.armed {
            // A timer wakes a little late, and never at once.
            let late = site.env.draw_us(60) + std::time::Duration::from_micros(1);
            self.armed = wake;
            self.timer += 1;
            let event = Event::Timer { member: self.id, life: self.life, number: self.timer };
            site.env.schedule(wake.max(now.mono) + late, event);
        }
    }

    /// A timer is due; unless another one was set since.
    pub(super) fn timer(&mut self, number: u64, site: &mut Site<'_>) {
        if number == self.timer {
            self.armed = Timestamp::NEVER;
            site.env.trace.line(site.env.now, format_args!("{} timer", self.id));
            self.pump(site);
        }
    }

    /// Carries what there is once around; whether there was anything.
    fn carry(&mut self, site: &mut Site<'_>, now: Now) -> bool {
        let mut busy = false;
        while let Some(action) = self.coordinator.poll() {
            busy = true;
            self.act(action, site, now);
        }
        for at in 0..site.shards.len() {
            let mut out = std::mem::take(&mut self.out);
            site.shards[at].drain(now, &mut site.env.rng, &mut out);
            for out in out.drain(..) {
                busy = true;
                self.take_out(at, out, site, now);
            }
            self.out = out;
        }
        while let Some((ask, answer)) = self.answered.pop_front() {
            busy = true;
            self.notice(&answer, site);
            self.coordinator.answer(ask, answer, now);
        }
        busy
    }

    /// What a shard's store puts out.
    pub(super) fn take_out(&mut self, at: usize, out: Out, site: &mut Site<'_>, now: Now) {
        match out {
            Out::Started(io, time) => {
                let event = Event::Io { member: self.id, shard: at as u8, life: self.life, io };
                site.env.schedule(now.mono + time, event);
            }
            Out::Answer(token, answer) => self.shard_answered(token, &answer, site),
            Out::Evicted(parts) => self.evicted(at, &parts, site, now),
        }
    }

    /// A shard of this member has an answer.
    fn shard_answered(&mut self, token: Token, answer: &StoreAnswer, site: &mut Site<'_>) {
        let number = token.0 as u64;
        if token.0 < DIRECT {
            let at = site.env.now;
            site.env
                .trace
                .line(at, format_args!("{} answers itself {number:x} {}", self.id, frames::Variant(answer)));
            let answer = answer.clone().map(|payload| Slice::of_payload(&payload));
            self.answered.push_back((AskId(number), answer));
        } else if let Some(direct) = self.direct.remove(&number) {
            self.deadlines.remove(&(direct.deadline, Waiter::Direct(number)));
            let (at, id, from) = (site.env.now, direct.id, direct.from);
            site.env
                .trace
                .line(at, format_args!("{} answers {from} {id:x} {}", self.id, frames::Variant(answer)));
            let frame = frames::answer(direct.op, direct.id, answer);
            site.env.send(self.id, direct.from, direct.from_life, true, Packet::Frame(frame));
        }
    }

    /// A shard of this member has let parts go: their homes are to know.
    fn evicted(&mut self, at: usize, parts: &[EvictedPart], site: &mut Site<'_>, now: Now) {
        let target = site.shards[at].target;
        let reading = site.shards[at].store.as_ref().is_some_and(|store| store.stats().reads_under_way > 0);
        if reading {
            site.env.met(Rare::EvictionDuringRead);
        }
        let mut of_homes: BTreeMap<u8, Vec<PartDrop>> = BTreeMap::new();
        for &EvictedPart { hash, record, version } in parts {
            if let Some(key) = self.setup.key(hash) {
                site.env.ledger.let_go(target, key, version);
            }
            of_homes.entry(self.setup.home(hash)).or_default().push(PartDrop { hash, record, version });
        }
        for (home, parts) in of_homes {
            if home == self.id {
                self.coordinator.evicted(&parts, target, now);
            } else {
                let life = site.env.lives[usize::from(home)];
                site.env.send(self.id, home, life, false, Packet::Evicted(target, Rc::from(parts)));
            }
        }
    }

    fn act(&mut self, action: Action<Slice>, site: &mut Site<'_>, now: Now) {
        match action {
            Action::AskRead { ask, target, read } => self.ask(ask, target, &Request::Read(read), &[], site),
            Action::AskConfirm { ask, target, confirm } => {
                self.ask(ask, target, &Request::Confirm(confirm), &[], site);
            }
            Action::AskWrite { ask, op, target, part, purpose, deadline, ack } => {
                let found = self.bytes.get(&op).and_then(|bytes| bytes.part(part));
                match found {
                    Some((meta, payload)) => {
                        let write = Box::new(PartWrite { meta, ack, purpose, deadline });
                        self.ask(ask, target, &Request::Write(write), payload.as_ref(), site);
                    }
                    // The bytes were let go: for the coordinator the target has not got its part.
                    None => self.answered.push_back((ask, PartAnswer::Failed)),
                }
            }
            Action::AskDrop { target, drops } => match self.local(target) {
                Some(at) => site.shards[at].drop_records(&drops, now),
                None => {
                    let frame = frames::drops(site.epoch, target.shard, &drops);
                    self.post(target, frame, site);
                }
            },
            Action::Touch { target, touches } => match self.local(target) {
                Some(at) => {
                    let missed = site.shards[at].touch(&touches);
                    self.touch_missed(target, &missed, now);
                }
                None => {
                    let frame = frames::touches(site.epoch, target.shard, &touches);
                    self.post(target, frame, site);
                }
            },
            Action::Withdraw { ask, target } => {
                // Another member's shard is not told: its answer comes all the same.
                if let Some(at) = self.local(target) {
                    site.shards[at].withdraw(Token(u128::from(ask.0)));
                }
            }
            Action::ReadDone { op, outcome } => {
                if let Some(call) = self.call_of.remove(&op) {
                    self.spawn(Task::ReadDone(call, Box::new(outcome)), site);
                }
            }
            Action::WriteDone { op, outcome } => {
                if let Some(call) = self.call_of.remove(&op) {
                    self.spawn(Task::WriteDone(call, outcome), site);
                }
            }
            Action::Release { op } => drop(self.bytes.remove(&op)),
            Action::Rebuild { op, meta, have, want } => {
                let Some(rebuilt) = parts::rebuild(site.codec, &meta, &have, &want) else {
                    return self.coordinator.rebuild_failed(op, now);
                };
                self.bytes.insert(op, OpBytes::Rebuilt { meta: Box::new(meta), parts: rebuilt });
                self.coordinator.rebuilt(op, now);
            }
        }
    }

    fn touch_missed(&mut self, target: Target, missed: &[PartTouch], now: Now) {
        for touch in missed {
            self.coordinator.touch_missed(touch.hash, touch.record, target, now);
        }
    }

    /// Where among this member's shards a target is, if it is one of them.
    fn local(&self, target: Target) -> Option<usize> {
        (target.member.0 == u16::from(self.id)).then_some(usize::from(target.shard))
    }

    fn ask(&mut self, ask: AskId, target: Target, request: &Request, payload: &[u8], site: &mut Site<'_>) {
        let now = site.now();
        site.env.part_requests += 1;
        if let Some(at) = self.local(target) {
            site.env.trace.line(now.mono, format_args!("{} asks {target} {request} {:x}", self.id, ask.0));
            self.see_laggard(at, request, site);
            if !site.shards[at].ask(Token(u128::from(ask.0)), request, payload, now) {
                self.answered.push_back((ask, PartAnswer::Failed));
            }
            return;
        }
        match frames::ask(site.epoch, ask.0, target.shard, request, payload, now.mono) {
            Some(frame) => {
                self.asked.insert(ask, target.member.0 as u8);
                self.post(target, frame, site);
            }
            None => self.answered.push_back((ask, PartAnswer::Expired)),
        }
    }

    fn post(&self, target: Target, frame: Rc<[u8]>, site: &mut Site<'_>) {
        let peer = target.member.0 as u8;
        let life = site.env.lives[usize::from(peer)];
        site.env.send(self.id, peer, life, false, Packet::Frame(frame));
    }

    /// A packet of another member arrives.
    pub(super) fn receive(&mut self, delivery: Delivery, site: &mut Site<'_>) {
        let now = site.now();
        match delivery.packet {
            Packet::Evicted(target, ref parts) => self.coordinator.evicted(parts, target, now),
            Packet::Frame(ref frame) => match site.env.network.receive(delivery.from, self.id, frame.clone())
            {
                Some(received) if received.header.has(flags::ANSWER) => {
                    let ask = AskId(received.header.request_id);
                    self.asked.remove(&ask);
                    if received.header.op != Op::PartDrop {
                        self.answered.push_back((ask, frames::answered(&received)));
                    }
                }
                Some(received) => self.serve(&delivery, &received, site),
                None => {
                    site.env.met(Rare::FrameRefused);
                    let (member, peer, life) = match delivery.answer {
                        true => (self.id, delivery.from, self.life),
                        false => (delivery.from, self.id, delivery.from_life),
                    };
                    let wait = site.env.draw_us(1000);
                    site.env.schedule(now.mono + wait, Event::Reset { member, life, peer });
                }
            },
        }
        self.pump(site);
    }

    /// Serves a request of another member.
    fn serve(&mut self, delivery: &Delivery, received: &Received, site: &mut Site<'_>) {
        let (now, op, id) = (site.now(), received.header.op, received.header.request_id);
        let (id_here, from, from_life) = (self.id, delivery.from, delivery.from_life);
        let reply = |frame, site: &mut Site<'_>| {
            site.env.send(id_here, from, from_life, true, Packet::Frame(frame));
        };
        if received.header.topology_epoch != site.epoch {
            site.env.met(Rare::EpochRefused);
            // A touch is not answered.
            return if op != Op::Touch {
                reply(frames::refusal(op, id, Status::Refused), site)
            };
        }
        let Ok((shard, asked)) = frames::asked(received, now.mono) else {
            return reply(frames::refusal(op, id, Status::BadRequest), site);
        };
        let at = usize::from(shard);
        match asked {
            Asked::Drops(drops) => {
                site.shards[at].drop_records(&drops, now);
                reply(frames::answer(op, id, &PartAnswer::Dropped), site);
            }
            Asked::Touches(touches) => drop(site.shards[at].touch(&touches)),
            Asked::Request(request, payload, deadline) => {
                let line = format_args!("{from} asks {} {request} {id:x}", site.shards[at].target);
                site.env.trace.line(now.mono, line);
                self.see_laggard(at, &request, site);
                let number = self.next_number;
                self.next_number += 1;
                let token = Token(DIRECT | u128::from(number));
                if !site.shards[at].ask(token, &request, payload.as_ref(), now) {
                    return reply(frames::answer(op, id, &PartAnswer::Failed), site);
                }
                self.direct.insert(number, Direct { from, from_life, op, id, shard, deadline });
                self.deadlines.insert((deadline, Waiter::Direct(number)));
            }
        }
    }

    /// Nobody waits for the answer any more.
    fn give_up_direct(&mut self, number: u64, site: &mut Site<'_>) {
        let Some(direct) = self.direct.remove(&number) else { return };
        site.shards[usize::from(direct.shard)].cancel(Token(DIRECT | u128::from(number)));
        let frame = frames::answer(direct.op, direct.id, &PartAnswer::Expired);
        site.env.send(self.id, direct.from, direct.from_life, true, Packet::Frame(frame));
    }

    /// The connection by which this member asks another one is broken.
    pub(super) fn reset(&mut self, peer: u8, site: &mut Site<'_>) {
        let lost: Vec<AskId> =
            self.asked.iter().filter(|(_, asked)| **asked == peer).map(|(&ask, _)| ask).collect();
        for ask in lost {
            self.asked.remove(&ask);
            self.answered.push_back((ask, PartAnswer::Failed));
        }
        self.pump(site);
    }

    /// A task is to run, after those that are waiting.
    pub(super) fn spawn(&mut self, task: Task, site: &mut Site<'_>) {
        self.tasks.push_back(task);
        self.arm_turn(site);
    }

    fn arm_turn(&mut self, site: &mut Site<'_>) {
        if !self.turn_is_due && !self.tasks.is_empty() {
            self.turn_is_due = true;
            let wait = site.env.draw_us(6);
            let at = site.env.now + wait;
            site.env.schedule(at, Event::Turn { member: self.id, life: self.life });
        }
    }

    /// The next task runs.
    pub(super) fn turn(&mut self, site: &mut Site<'_>) {
        self.turn_is_due = false;
        if let Some(task) = self.tasks.pop_front() {
            self.run(task, site);
        }
        self.pump(site);
        self.arm_turn(site);
    }

    /// Counts what is rare in an answer.
    fn notice(&mut self, answer: &PartAnswer<Slice>, site: &mut Site<'_>) {
        if let PartAnswer::Part { meta, .. } = answer
            && let Some(key) = self.setup.key(meta.key_hash())
            && site.env.ledger.acknowledged.get(&key).is_some_and(|newest| meta.version < *newest)
        {
            site.env.met(Rare::StaleVersionSeen);
        }
    }

    /// Counts a tombstone that comes to a target that missed what it deletes.
    fn see_laggard(&self, at: usize, request: &Request, site: &mut Site<'_>) {
        let Request::Write(write) = request else { return };
        let PartMeta { kind: hedgerow_wire::part::PartKind::Tombstone, record, .. } = write.meta else {
            return;
        };
        let hash = write.meta.key_hash();
        let newest = self.setup.key(hash).and_then(|key| site.env.ledger.acknowledged.get(&key).copied());
        let held = site.shards[at].held(hash, record);
        if matches!((held, newest), (super::facts::Held::Whole { version, .. }, Some(newest)) if version < newest)
        {
            site.env.met(Rare::TombstoneMeetsLaggard);
        }
    }
}
