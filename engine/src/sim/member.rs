//! A member: its shards and its clock, and the process that runs on them, from one start to the next.

use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{Member as MemberId, Target, Version};
use rand::Rng;
use rand::rngs::SmallRng;

use super::bounds;
use super::clock::Clock;
use super::core::{Core, Site};
use super::coverage::Rare;
use super::env::{Env, Event, Setup};
use super::facts::{Answer, LossKind};
use super::shard::{Done, Out, Shard};
use crate::codec::Codec;
use crate::coordinator::Config;
use crate::slab::device::Crash;
use crate::slab::layout::SLABS_START;
use crate::slab::{IoId, Store, StoreConfig};

/// How long before the world begins the devices were formatted: so long that nothing of then can be as new.
const FORMATTED_BEFORE_US: u64 = 2 * CLOCK_AHEAD_US_MAX;
/// How long somebody takes to see to a device that could not be opened, and to start the member again.
const OPERATOR_TAKES: Duration = Duration::from_secs(1);
/// The topology that members know, and the one before it.
const EPOCH: u64 = 2;

/// A member.
pub(super) struct Member {
    pub(super) id: u8,
    setup: Rc<Setup>,
    config: Config,
    pub(super) clock: Clock,
    epoch: u64,
    pub(super) shards: Vec<Shard>,
    codec: Codec,
    /// Nothing while it is down, or opens its devices.
    pub(super) core: Option<Core>,
    /// It stands still until then.
    pub(super) frozen_until: Option<Timestamp>,
    /// It is down; whether its power is gone, so that nothing says so.
    pub(super) down: Option<Down>,
}

/// How a member is down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Down {
    /// Its process is not there: who asks learns so at once.
    Dead,
    /// The machine is not there: who asks learns nothing.
    Dark,
}

fn store_config(setup: &Setup, shard: u16, rng: &mut SmallRng) -> StoreConfig {
    let shape = setup.shape;
    let device_len = SLABS_START + u64::from(shape.slabs) * u64::from(shape.slab_len);
    StoreConfig {
        parity: shape.code.m() as u8,
        boot: 1,
        slab_len: shape.slab_len,
        index_capacity: Some((device_len / 512) as usize),
        commit_len_max: *pick(&[16 << 10, 64 << 10], rng),
        pending_bytes_max: *pick(&[64 << 10, 1 << 20], rng),
        writes_max: *pick(&[24, 4096], rng),
        reads_max: *pick(&[16, 1024], rng),
        free_slabs_target: *pick(&[1, 2], rng),
        exact_versions: *pick(&[4, 256], rng),
        discard: rng.random_bool(0.5),
        ..StoreConfig::new(0x51_0000 + u128::from(shard), shard, device_len, rng.random())
    }
}

fn coordinator_config(setup: &Setup, rng: &mut SmallRng) -> Config {
    Config {
        hedge_burst: *pick(&[16, 512], rng),
        target_ops_max: *pick(&[16, 512, 512], rng),
        target_bytes_max: *pick(&[128 << 10, 64 << 20], rng),
        ops_max: *pick(&[32, 8192, 8192], rng),
        ..Config::new(setup.shape.code)
    }
}

fn pick<'a, T>(from: &'a [T], rng: &mut SmallRng) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

impl Member {
    /// A member that runs on devices that were formatted long ago.
    pub(super) fn new(id: u8, setup: &Rc<Setup>, env: &mut Env) -> Member {
        let clock = Clock::new(env.rng.random_range(-400..400));
        let config = coordinator_config(setup, &mut env.rng);
        let shard = |shard| {
            let target = Target { member: MemberId(u16::from(id)), shard };
            Shard::new(target, store_config(setup, shard, &mut env.rng))
        };
        let shards = (0..u16::from(setup.shape.shards_per_member)).map(shard).collect();
        let codec = Codec::new();
        let setup = setup.clone();
        let mut member = Member {
            id,
            setup,
            config,
            clock,
            epoch: EPOCH,
            shards,
            codec,
            core: None,
            frozen_until: None,
            down: None,
        };
        let now = clock.now(env.now);
        let before = Now { wall_us: now.wall_us - FORMATTED_BEFORE_US, ..now };
        for shard in &mut member.shards {
            shard.open_at_once(before).unwrap_or_else(|error| panic!("a blank device opens: {error}"));
        }
        member.begin(env);
        member
    }

    fn life(&self, env: &Env) -> u32 {
        env.lives[usize::from(self.id)]
    }

    /// Its process, if it runs, and where.
    pub(super) fn with<T>(
        &mut self,
        env: &mut Env,
        run: impl FnOnce(&mut Core, &mut Site<'_>) -> T,
    ) -> Option<T> {
        let core = self.core.as_mut()?;
        let mut site = Site {
            shards: &mut self.shards,
            clock: self.clock,
            codec: &mut self.codec,
            epoch: self.epoch,
            env,
        };
        Some(run(core, &mut site))
    }

    /// Another topology from now on: the one before, or the present one.
    pub(super) fn set_behind(&mut self, behind: bool) {
        self.epoch = EPOCH - u64::from(behind);
    }

    /// The devices are open: the process begins to serve.
    fn begin(&mut self, env: &mut Env) {
        let highest = self.shards.iter().filter_map(|shard| shard.store.as_ref()).map(Store::highest_version);
        let highest = highest.max().unwrap_or(Version::ZERO);
        let core = Core::new(self.id, self.life(env), self.setup.clone(), self.config.clone(), highest);
        self.core = Some(core);
        for shard in &mut self.shards {
            if let Some(store) = &mut shard.store {
                store.raise_unknown(highest);
            }
        }
        self.with(env, |core, site| core.pump(site));
        if self.shards.iter().any(|shard| shard.store.is_none()) {
            let event = Event::Restart { member: self.id, life: self.life(env) };
            env.schedule(env.now + OPERATOR_TAKES, event);
        }
    }

    /// The process dies; calls that were under way have no answer.
    pub(super) fn stop(&mut self, down: Down, env: &mut Env) {
        let crash = if down == Down::Dark { Crash::Power } else { Crash::Kill };
        let kind = if down == Down::Dark { LossKind::Unflushed } else { LossKind::Memory };
        bounds::count(self.core.as_ref(), &self.shards, &mut env.coverage);
        if let Some(core) = self.core.take() {
            core.calls.keys().for_each(|&call| env.answer(call, Answer::Broken));
        }
        for shard in &mut self.shards {
            if shard.crash(crash, &mut env.rng) {
                env.coverage.state(Rare::CrashDuringCommit);
            }
            shard.config.boot += u64::from(down == Down::Dark);
            env.ledger.lost(shard.target, env.now, kind);
        }
        self.down = Some(down);
        self.frozen_until = None;
        env.lives[usize::from(self.id)] += 1;
    }

    /// The process starts, and opens its devices.
    pub(super) fn start(&mut self, env: &mut Env) {
        self.down = None;
        let now = self.clock.now(env.now);
        for at in 0..self.shards.len() {
            let mut out = Vec::new();
            self.shards[at].begin_open(now, &mut env.rng, &mut out);
            self.schedule(at, out, env);
        }
    }

    /// Device operations of openings are started.
    fn schedule(&self, at: usize, out: Vec<Out>, env: &mut Env) {
        let life = self.life(env);
        for out in out {
            if let Out::Started(io, time) = out {
                env.schedule(env.now + time, Event::Io { member: self.id, shard: at as u8, life, io });
            }
        }
    }

    /// A device operation's time is over.
    pub(super) fn io(&mut self, at: usize, io: IoId, env: &mut Env) {
        let now = self.clock.now(env.now);
        let mut out = Vec::new();
        let shard = &mut self.shards[at];
        match shard.complete(io, now, &mut env.rng, &mut out) {
            Done::Unknown => {}
            Done::Later(until) => {
                let life = self.life(env);
                let wait = env.draw_us(50);
                env.schedule(until + wait, Event::Io { member: self.id, shard: at as u8, life, io });
            }
            Done::Complete(loss) => {
                if let Some(kind) = loss {
                    env.ledger.lost(shard.target, env.now, kind);
                }
                self.schedule(at, out, env);
                self.opened(env);
                self.with(env, |core, site| core.pump(site));
            }
        }
    }

    /// If the last device is open now, the process begins.
    fn opened(&mut self, env: &mut Env) {
        if self.core.is_some() {
            return;
        }
        for shard in &mut self.shards {
            match shard.finish_open() {
                None => {}
                Some(Ok(scanned)) => {
                    if scanned && shard.tore {
                        env.coverage.state(Rare::RecoveredTornTail);
                    }
                    // What a device lied about shows when it is opened.
                    if shard.lied {
                        env.ledger.lost(shard.target, env.now, LossKind::Noticed);
                    }
                }
                Some(Err(error)) => {
                    let target = shard.target;
                    env.trace.line(env.now, format_args!("{target} cannot be opened: {error}"));
                    env.ledger.lost(target, env.now, LossKind::Noticed);
                }
            }
        }
        if self.shards.iter().all(|shard| !shard.opens()) {
            self.begin(env);
        }
    }
}
