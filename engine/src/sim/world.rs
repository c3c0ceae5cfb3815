//! The world: takes what happens next until nothing does, and asks the judge of every answer.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Record, Target, Version};

use super::bounds;
use super::coverage::Coverage;
use super::env::{Delivery, Env, Event, Setup};
use super::facts::{Answer, Facts, Held, Loss, LossKind};
use super::frames;
use super::judge::Judge;
use super::member::{Down, Member};
use super::network::Packet;
use super::plan::{DeviceFault, FaultWhat, Plan};
use super::trace::LINES_KEPT;

/// How long after the last operation and the last fault a world is given to become idle.
const IDLE_WITHIN: Duration = Duration::from_secs(600);
/// How long a client waits until it asks a member that does not run.
const CONNECT_TAKES: Duration = Duration::from_micros(50);

/// What a run was.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Hash of all lines of the trace: equal for equal plans.
    pub trace_hash: u64,
    /// The last lines of it.
    pub tail: Vec<String>,
    /// Operations of clients.
    pub ops: u64,
    /// Requests to targets.
    pub part_requests: u64,
    /// Operations of devices.
    pub device_ops: u64,
    /// Packets between members.
    pub packets: u64,
    /// Everything that happened.
    pub events: u64,
    /// Which faults and rare states there were.
    pub coverage: Coverage,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// Runs a plan until nothing more happens, or something happened that may not.
pub fn run(plan: &Plan, judge: &mut Judge) -> RunReport {
    run_traced(plan, judge, LINES_KEPT)
}

/// As [`run`]; the report has up to `lines_kept` lines of the trace.
pub fn run_traced(plan: &Plan, judge: &mut Judge, lines_kept: usize) -> RunReport {
    World::new(plan, lines_kept).run(judge)
}

struct World<'a> {
    plan: &'a Plan,
    setup: Rc<Setup>,
    members: Vec<Member>,
    env: Env,
    /// Operations that clients wait for.
    open: BTreeSet<u32>,
    events: u64,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, lines_kept: usize) -> World<'a> {
        let setup = Setup::new(plan);
        let mut env = Env::new(plan, lines_kept);
        for (at, fault) in plan.faults.iter().enumerate() {
            env.schedule(fault.at, Event::Fault(at));
            env.schedule(fault.until, Event::FaultEnd(at));
        }
        for (at, op) in plan.ops.iter().enumerate() {
            env.schedule(op.at, Event::Client(at));
        }
        let members = (0..plan.shape.members).map(|id| Member::new(id, &setup, &mut env)).collect();
        World { plan, setup, members, env, open: BTreeSet::new(), events: 0 }
    }

    fn run(mut self, judge: &mut Judge) -> RunReport {
        let last_op = self.plan.ops.last().map_or(Timestamp(0), |op| op.at + op.deadline);
        let last_fault = self.plan.faults.iter().map(|fault| fault.until).max().unwrap_or(Timestamp(0));
        let end = last_op.max(last_fault) + IDLE_WITHIN;
        while judge.violation().is_none()
            && let Some(event) = self.env.next()
            && self.env.now <= end
        {
            self.events += 1;
            self.happen(event, judge);
            self.hand_out(judge);
        }
        if judge.violation().is_none() {
            judge.finished(self.env.now, &self);
        }
        if let Some(violation) = judge.violation() {
            self.env.trace.line(self.env.now, format_args!("{violation}"));
        }
        self.report()
    }

    fn report(mut self) -> RunReport {
        for member in &self.members {
            bounds::count(member.core.as_ref(), &member.shards, &mut self.env.coverage);
        }
        let completed = self.members.iter().flat_map(|member| &member.shards).map(|shard| shard.completed);
        RunReport {
            trace_hash: self.env.trace.hash(),
            ops: self.plan.ops.len() as u64,
            part_requests: self.env.part_requests,
            device_ops: completed.sum(),
            packets: self.env.network.sent,
            events: self.events,
            coverage: self.env.coverage,
            ended_at: self.env.now,
            tail: self.env.trace.into_last(),
        }
    }

    /// Hands answers to the clients that still wait for them.
    fn hand_out(&mut self, judge: &mut Judge) {
        for (op, answer) in std::mem::take(&mut self.env.answers) {
            if self.open.remove(&op) {
                self.env.trace.line(self.env.now, format_args!("op {op} {}", Told(&answer)));
                judge.answered(op, &answer, self.env.now, self);
            }
        }
    }

    fn happen(&mut self, event: Event, judge: &mut Judge) {
        if let Some((member, life)) = event.of() {
            let member = &self.members[usize::from(member)];
            if life.is_some_and(|life| life != self.env.lives[usize::from(member.id)]) {
                return;
            }
            if let Some(until) = member.frozen_until {
                return self.env.schedule(until, event);
            }
        }
        let env = &mut self.env;
        match event {
            Event::Client(at) => self.send(at, judge),
            Event::Arrive(at, expected) => self.arrive(at, expected),
            Event::Cancel(at) => self.cancel(at, judge),
            Event::Fault(at) => self.begin_fault(at),
            Event::FaultEnd(at) => self.end_fault(at),
            Event::Io { member, shard, io, .. } => {
                let (what, offset, len) =
                    self.members[usize::from(member)].shards[usize::from(shard)].told(io);
                env.trace.line(env.now, format_args!("{member}.{shard} {what} {} {offset}+{len}", io.0));
                self.members[usize::from(member)].io(usize::from(shard), io, env);
            }
            Event::Deliver(delivery) => self.deliver(*delivery),
            Event::Reset { member, peer, .. } => {
                env.trace.line(env.now, format_args!("{member} lost its connection to {peer}"));
                self.members[usize::from(member)].with(env, |core, site| core.reset(peer, site));
            }
            Event::Restart { member, .. } => {
                env.trace.line(env.now, format_args!("{member} is started again"));
                let restarted = &mut self.members[usize::from(member)];
                restarted.stop(Down::Dead, env);
                restarted.start(env);
                self.tell_peers(member);
            }
            Event::Timer { member, number, .. } => {
                self.members[usize::from(member)].with(env, |core, site| core.timer(number, site));
            }
            Event::Turn { member, .. } => {
                self.members[usize::from(member)].with(env, |core, site| core.turn(site));
            }
        }
    }

    /// A client sends an operation.
    fn send(&mut self, at: usize, judge: &mut Judge) {
        let op = self.plan.ops[at];
        judge.invoked(&op, self.env.now);
        self.open.insert(op.id);
        self.env.trace.line(self.env.now, format_args!("op {} {:?} of key {}", op.id, op.kind, op.key));
        self.env.schedule(self.env.now, Event::Arrive(at, judge.expected(&op)));
        if let Some(after) = op.cancel_after {
            self.env.schedule(self.env.now + after, Event::Cancel(at));
        }
    }

    fn home_of(&self, at: usize) -> usize {
        usize::from(self.setup.home(self.setup.name(self.plan.ops[at].key).hash))
    }

    fn arrive(&mut self, at: usize, expected: Version) {
        let (op, home) = (self.plan.ops[at], self.home_of(at));
        let (member, env) = (&mut self.members[home], &mut self.env);
        if let Some(until) = member.frozen_until {
            return env.schedule(until, Event::Arrive(at, expected));
        }
        if member.with(env, |core, site| core.begin_call(op, expected, site)).is_none() {
            env.answer(op.id, Answer::Broken);
        }
    }

    fn cancel(&mut self, at: usize, judge: &mut Judge) {
        let (op, home) = (self.plan.ops[at].id, self.home_of(at));
        if self.open.remove(&op) {
            self.env.trace.line(self.env.now, format_args!("op {op} is cancelled"));
            judge.answered(op, &Answer::Cancelled, self.env.now, self);
            self.members[home].with(&mut self.env, |core, site| core.cancel_call(op, site));
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let env = &mut self.env;
        let Delivery { from, from_life, to, to_life, answer, .. } = delivery;
        let member = &mut self.members[usize::from(to)];
        match &delivery.packet {
            Packet::Frame(frame) => {
                env.trace.line(env.now, format_args!("{from} -> {to} {}", frames::Told(frame)));
            }
            Packet::Evicted(target, parts) => {
                let count = parts.len();
                env.trace.line(env.now, format_args!("{from} -> {to} {count} evicted by {target}"));
            }
        }
        if member.core.is_some() && to_life == env.lives[usize::from(to)] {
            member.with(env, |core, site| core.receive(delivery, site));
        } else if !answer && member.down != Some(Down::Dark) {
            // Nobody listens there, and the machine says so.
            let reset = Event::Reset { member: from, life: from_life, peer: to };
            env.schedule(env.now + CONNECT_TAKES, reset);
        }
    }

    fn begin_fault(&mut self, at: usize) {
        let (fault, env) = (self.plan.faults[at], &mut self.env);
        env.trace.line(env.now, format_args!("fault {at} {:?}", fault.what));
        env.coverage.fault(fault.what.kind());
        let member = |member: u8| usize::from(member);
        match fault.what {
            FaultWhat::Device { member: id, shard, kind } => {
                let shard = &mut self.members[member(id)].shards[usize::from(shard)];
                shard.faults.push((at, fault.until, kind));
                if kind == DeviceFault::Replaced {
                    env.ledger.lost(shard.target, env.now, LossKind::Blank);
                }
            }
            FaultWhat::Link { from, to, kind } => env.network.begin_fault(at, from, to, kind),
            FaultWhat::Stop { member: id } => {
                let member = &mut self.members[member(id)];
                if member.down.is_none() {
                    member.frozen_until = member.frozen_until.max(Some(fault.until));
                    env.ledger.away.push((id, env.now, fault.until));
                }
            }
            FaultWhat::Kill { member: id } => self.take_down(id, Down::Dead, fault.until),
            FaultWhat::PowerLoss { member: id } => self.take_down(id, Down::Dark, fault.until),
            FaultWhat::ClockJump { member: id, us } => self.members[member(id)].clock.jump(us),
            FaultWhat::ClockDrift { member: id, ppm } => {
                self.members[member(id)].clock.drift(i64::from(ppm), env.now);
            }
            FaultWhat::EpochBehind { member: id } => self.members[member(id)].set_behind(true),
        }
    }

    fn end_fault(&mut self, at: usize) {
        let (fault, env) = (self.plan.faults[at], &mut self.env);
        env.trace.line(env.now, format_args!("fault {at} ends"));
        match fault.what {
            FaultWhat::Device { member, shard, kind } => {
                let member = &mut self.members[usize::from(member)];
                member.shards[usize::from(shard)].faults.retain(|(other, ..)| *other != at);
                if kind == DeviceFault::Replaced {
                    self.replace_device(at);
                }
            }
            FaultWhat::Link { from, to, .. } => env.network.end_fault(at, from, to),
            FaultWhat::Stop { member } => {
                let frozen_until = &mut self.members[usize::from(member)].frozen_until;
                *frozen_until = frozen_until.filter(|until| *until > env.now);
            }
            FaultWhat::Kill { member } | FaultWhat::PowerLoss { member } => self.bring_up(member),
            FaultWhat::ClockJump { .. } => {}
            FaultWhat::ClockDrift { member, .. } => {
                self.members[usize::from(member)].clock.drift(0, env.now);
            }
            FaultWhat::EpochBehind { member } => self.members[usize::from(member)].set_behind(false),
        }
    }

    /// A member goes down; those that ask it learn of it if its machine says so.
    fn take_down(&mut self, id: u8, down: Down, until: Timestamp) {
        let (member, env) = (&mut self.members[usize::from(id)], &mut self.env);
        env.ledger.away.push((id, env.now, until));
        member.stop(down, env);
        if down == Down::Dead {
            self.tell_peers(id);
        }
    }

    /// Whoever asks a member finds its connection broken.
    fn tell_peers(&mut self, id: u8) {
        for peer in (0..self.plan.shape.members).filter(|&peer| peer != id) {
            let wait = CONNECT_TAKES + self.env.draw_us(200);
            let life = self.env.lives[usize::from(peer)];
            self.env.schedule(self.env.now + wait, Event::Reset { member: peer, life, peer: id });
        }
    }

    /// A member that is down starts, unless it is to be down for longer.
    fn bring_up(&mut self, id: u8) {
        let now = self.env.now;
        let is_down = |what: FaultWhat| matches!(what, FaultWhat::Kill { member } | FaultWhat::PowerLoss { member } if member == id);
        let longer =
            self.plan.faults.iter().any(|fault| is_down(fault.what) && fault.at <= now && fault.until > now);
        if !longer && self.members[usize::from(id)].down.is_some() {
            self.members[usize::from(id)].start(&mut self.env);
            self.tell_peers(id);
        }
    }

    /// A blank device is in place of the one that was taken away, and the member is started with it.
    fn replace_device(&mut self, at: usize) {
        let FaultWhat::Device { member: id, shard, .. } = self.plan.faults[at].what else { return };
        let (member, env) = (&mut self.members[usize::from(id)], &mut self.env);
        let runs = member.down.is_none();
        if runs {
            member.stop(Down::Dead, env);
            env.ledger.away.push((id, env.now, env.now));
        }
        let shard = &mut member.shards[usize::from(shard)];
        shard.replace_device();
        env.ledger.lost(shard.target, env.now, LossKind::Blank);
        if runs {
            member.start(env);
            self.tell_peers(id);
        }
    }
}

impl Facts for World<'_> {
    fn targets(&self, key: u16) -> Vec<Target> {
        let hash = self.setup.name(key).hash;
        self.setup.ring.targets(hash, self.plan.shape.code.n()).to_vec()
    }

    fn losses(&self, target: Target) -> &[Loss] {
        self.env.ledger.losses(target)
    }

    fn let_go(&self, target: Target, key: u16) -> Version {
        self.env.ledger.highest_let_go(target, key)
    }

    fn forgotten_hlc(&self, target: Target) -> u64 {
        let shard = &self.members[usize::from(target.member.0)].shards[usize::from(target.shard)];
        shard.store.as_ref().map_or(0, |store| store.stats().forgotten_through_hlc)
    }

    fn held(&self, target: Target, key: u16) -> Held {
        let member = &self.members[usize::from(target.member.0)];
        if member.core.is_none() {
            return Held::Away;
        }
        member.shards[usize::from(target.shard)].held(self.setup.name(key).hash, Record::OBJECT)
    }

    fn home_was_away(&self, key: u16, from: Timestamp, to: Timestamp) -> bool {
        let home = self.setup.home(self.setup.name(key).hash);
        self.env.ledger.away.iter().any(|&(id, begin, end)| id == home && begin <= to && end >= from)
    }

    fn beyond_bounds(&self) -> Vec<String> {
        let found = |member: &Member| {
            member.core.as_ref().map(|core| bounds::beyond(core, &member.shards)).unwrap_or_default()
        };
        self.members.iter().flat_map(found).collect()
    }

    fn leaks(&self) -> Vec<String> {
        let found = |member: &Member| {
            member.core.as_ref().map(|core| bounds::leaks(core, &member.shards)).unwrap_or_default()
        };
        self.members.iter().flat_map(found).collect()
    }
}

/// An answer as the trace has it.
struct Told<'a>(&'a Answer);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Answer::Found(found) => write!(
                f,
                "found {} of {} bytes, version {}.{}{}{}",
                found.bytes.len(),
                found.object_len,
                found.version.hlc,
                found.version.coordinator,
                if found.confirmed { "" } else { ", unconfirmed" },
                if found.from_memory { ", from memory" } else { "" },
            ),
            other => write!(f, "{other:?}"),
        }
    }
}
