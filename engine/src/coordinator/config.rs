//! What can be set about a coordinator.

use std::time::Duration;

use crate::mistakes::{Mistake, planted};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{Code, ReadPolicy};

/// What can be set about a coordinator. `Config::new(code)` has the defaults.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The configured code: every object's own has the same m and at most its k.
    pub code: Code,
    /// What [`ReadPolicy::Default`] means; never `Default` itself.
    pub policy: ReadPolicy,
    /// Spare part reads that are earned by each part read (0.1: 10 % extra). 0: no hedging.
    pub hedge_ratio: f64,
    /// Most spare part reads that can be saved up: covers the time to notice a slow target.
    pub hedge_burst: u32,
    /// No part is late sooner than this.
    pub hedge_floor: Duration,
    /// Every part that a read waits for is late after this (if most targets are not).
    pub hedge_ceiling: Duration,
    /// A target is slow when its latency is so many times the median of the others.
    pub slow_factor: f64,
    /// And when it is above that median by at least this.
    pub slow_floor: Duration,
    /// A slow target is probed this often at most.
    pub probe_interval: Duration,
    /// A read that has its parts, but whose missing confirmations are all late, is answered
    /// unconfirmed after so long a wait for them.
    pub confirm_patience: Duration,
    /// Outcomes are emitted so long before the deadline, or an eighth of the time given if that is less:
    /// see [`Config::answer_by`].
    pub answer_margin: Duration,
    /// After the quorum, targets that have not answered a write are waited for so long.
    pub straggler_grace: Duration,
    /// Most asks in flight at one target, withdrawn ones included.
    pub target_ops_max: u32,
    /// Most bytes in flight at one target, withdrawn asks included.
    pub target_bytes_max: u64,
    /// Most reads and writes under way; more are `Overloaded`.
    pub ops_max: usize,
    /// Bytes per second that background completion may write.
    pub repair_bytes_per_s: u64,
    /// Most bytes that background completion can save up.
    pub repair_burst_bytes: u64,
    /// Time that one background repair gets.
    pub repair_deadline: Duration,
}

impl Config {
    /// When an answer has to be ready for a request that is taken up at `now`, so that it is there by
    /// its `deadline`.
    pub fn answer_by(&self, deadline: Timestamp, now: Timestamp) -> Timestamp {
        if planted(Mistake::DeadlineMargin) {
            return deadline + self.answer_margin;
        }
        deadline - self.answer_margin.min(deadline.since(now) / 8)
    }

    /// The defaults for `code`.
    pub fn new(code: Code) -> Config {
        Config {
            code,
            policy: ReadPolicy::Hedged,
            hedge_ratio: 0.1,
            hedge_burst: 512,
            hedge_floor: Duration::from_micros(200),
            hedge_ceiling: Duration::from_millis(50),
            slow_factor: 3.0,
            slow_floor: Duration::from_micros(300),
            probe_interval: Duration::from_millis(20),
            confirm_patience: Duration::from_millis(10),
            answer_margin: Duration::from_millis(1),
            straggler_grace: Duration::from_secs(1),
            target_ops_max: 512,
            target_bytes_max: 64 << 20,
            ops_max: 8192,
            repair_bytes_per_s: 32 << 20,
            repair_burst_bytes: 16 << 20,
            repair_deadline: Duration::from_secs(5),
        }
    }
}
