//! The coordinator: turns one client request into part requests and back.
//!
//! One per core, a state machine without I/O, clock or randomness of its own. It holds keys, targets,
//! times and opaque payload handles `B`; it moves no bytes. After every call of a `&mut` method the
//! shell takes [`Coordinator::poll`] until it is `None`, and calls [`Coordinator::tick`] at
//! [`Coordinator::next_deadline`].

pub mod api;
pub mod config;
pub mod limits;
pub mod stats;

use std::marker::PhantomData;

use hedgerow_wire::part::{PartAnswer, PartDrop, RecordName};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{Code, KeyHash, Record, Target, Version};

pub use api::{Action, AskId, Miss, OpId, Parts, ReadOutcome, ReadRequest, WriteOutcome, WriteRequest};
pub use config::Config;
pub use stats::{CoordinatorStats, TargetStats};

use crate::ring::Ring;

/// See the module.
pub struct Coordinator<B> {
    config: Config,
    ring: Ring,
    payloads: PhantomData<B>,
}

#[allow(unused_variables)]
impl<B: Clone> Coordinator<B> {
    /// A coordinator over the targets of `ring`, with at least `config.code.n()` of them. `seed`
    /// decides ties only.
    pub fn new(config: Config, ring: Ring, coordinator_id: u16, seed: u64) -> Self {
        Coordinator { config, ring, payloads: PhantomData }
    }

    /// The code to put into the meta of a tombstone: copies on all n targets of the configured code.
    pub fn tombstone_code(&self) -> Code {
        Code::new(1, (self.config.code.n() - 1) as u8).unwrap_or(self.config.code)
    }

    /// A version for a write of `hash`: higher than every one that this coordinator gave, was shown by
    /// [`Coordinator::observe`] or saw in an answer for it, and not below the wall clock. When it is
    /// further ahead than shards accept, `versions_ahead` counts it (and they answer `ClockAhead`).
    pub fn next_version(&mut self, hash: KeyHash, now: Now) -> Version {
        Version { hlc: Version::hlc_from_wall_us(now.wall_us), coordinator: 0 }
    }

    /// Every version given from now on is higher than `version` (at start: the highest recovered).
    pub fn observe(&mut self, version: Version) {}

    /// Begins a read. Its outcome is a [`Action::ReadDone`], before its deadline.
    pub fn read(&mut self, request: ReadRequest, now: Now) -> OpId {
        OpId(0)
    }

    /// Begins a write. [`Action::WriteDone`] comes before its deadline, [`Action::Release`] later.
    pub fn write(&mut self, request: WriteRequest, now: Now) -> OpId {
        OpId(0)
    }

    /// Drops what all targets of a record hold of it up to `version`. Batched; may be lost.
    pub fn drop_record(&mut self, drop: PartDrop, now: Now) {}

    /// Target `from` evicted these (each named as the drop of it): what the records' other targets
    /// hold is dropped too, and of a stripe the object record everywhere.
    pub fn evicted(&mut self, evicted: &[PartDrop], from: Target, now: Now) {}

    /// A record with `code` was used: its targets are told. Batched; may be lost.
    pub fn touch(&mut self, name: &RecordName, code: Code, now: Now) {}

    /// `target` does not hold a record that it was told of as used: it is completed if the name is
    /// still known (a touch names it by hash only).
    pub fn touch_missed(&mut self, hash: KeyHash, record: Record, target: Target, now: Now) {}

    /// The outcome is no longer wanted: no `ReadDone` or `WriteDone` follows. A write's parts may be
    /// stored all the same; its [`Action::Release`] follows.
    pub fn cancel(&mut self, op: OpId, now: Now) {}

    /// The answer to an ask. Answers to asks unknown, or answered before, are counted and ignored.
    pub fn answer(&mut self, ask: AskId, answer: PartAnswer<B>, now: Now) {}

    /// The shell has the parts that [`Action::Rebuild`] asked for.
    pub fn rebuilt(&mut self, op: OpId, now: Now) {}

    /// The shell could not rebuild (the parts contradict each other, or there is no memory).
    pub fn rebuild_failed(&mut self, op: OpId, now: Now) {}

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {}

    /// The next thing that the shell has to do.
    pub fn poll(&mut self) -> Option<Action<B>> {
        None
    }

    /// When [`Coordinator::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Counters.
    pub fn stats(&self) -> CoordinatorStats {
        CoordinatorStats::default()
    }

    /// What is known of each target.
    pub fn target_stats(&self) -> Vec<TargetStats> {
        Vec::new()
    }
}
