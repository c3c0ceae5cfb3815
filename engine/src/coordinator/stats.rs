//! Counters of a coordinator, for people and their dashboards.

use std::time::Duration;

use hedgerow_wire::types::Target;

/// Counters since the start, unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoordinatorStats {
    /// Reads begun.
    pub reads: u64,
    /// Reads answered with an object.
    pub reads_found: u64,
    /// Of these, without the confirmations.
    pub reads_unconfirmed: u64,
    /// Reads that missed.
    pub reads_not_found: u64,
    /// Reads that ended `Unavailable`.
    pub reads_unavailable: u64,
    /// Reads that ended at their deadline.
    pub reads_late: u64,
    /// Reads refused or ended for want of room.
    pub reads_overloaded: u64,
    /// Times that a read began anew because a write was under way.
    pub read_rounds: u64,
    /// Writes begun.
    pub writes: u64,
    /// Writes acknowledged.
    pub writes_acknowledged: u64,
    /// Writes answered `Superseded`.
    pub writes_superseded: u64,
    /// Writes whose outcome is not known.
    pub writes_indeterminate: u64,
    /// Writes that had no effect.
    pub writes_failed: u64,
    /// Part reads asked for requests, hedges and probes not included.
    pub part_reads: u64,
    /// Confirmations asked.
    pub confirms: u64,
    /// Part writes asked.
    pub part_writes: u64,
    /// Spares asked because a part was late.
    pub hedges: u64,
    /// Hedged reads whose spare came before the late part.
    pub hedges_won: u64,
    /// Hedges not sent because the budget was spent.
    pub hedges_over_budget: u64,
    /// Hedges not sent because most targets were late.
    pub hedges_most_late: u64,
    /// Asks made elsewhere from the start because a target is slow.
    pub avoided: u64,
    /// Probes of slow targets.
    pub probes: u64,
    /// Answers that were no use to a read: failed, damaged, overloaded, expired, or of a capped target.
    pub erasures: u64,
    /// Parts not written because their target is past its cap.
    pub writes_capped: u64,
    /// Answers to asks that were answered or given up before.
    pub answers_unknown: u64,
    /// Answers that contradict what was asked.
    pub answers_invalid: u64,
    /// Asks given up as lost.
    pub asks_lost: u64,
    /// Versions completed before they were returned.
    pub completions: u64,
    /// Parts stored by repairs.
    pub parts_repaired: u64,
    /// Bytes stored by repairs.
    pub bytes_repaired: u64,
    /// Now: records known to miss parts and left.
    pub under_redundant: u64,
    /// Notes of such records that were dropped because the list was full.
    pub repair_notes_dropped: u64,
    /// Repairs that did not get through.
    pub repairs_failed: u64,
    /// Remains of versions that cannot be assembled, dropped.
    pub remains_dropped: u64,
    /// Drops gathered to be sent.
    pub drops: u64,
    /// Drops given up because their target is stuck: past its cap, or silent for long.
    pub drops_lost: u64,
    /// Touches gathered to be sent.
    pub touches: u64,
    /// Touches given up because their target is stuck: past its cap, or silent for long.
    pub touches_lost: u64,
    /// Touched records that a target did not hold.
    pub touches_missed: u64,
    /// Versions given that were further ahead of the wall clock than shards accept.
    pub versions_ahead: u64,
    /// Now: operations under way.
    pub ops: u64,
    /// Now: asks in flight, withdrawn ones included.
    pub asks: u64,
}

/// What is known of one target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetStats {
    /// Which.
    pub target: Target,
    /// Mean latency of its part reads (exponentially weighted); zero if none was answered.
    pub latency_mean: Duration,
    /// Mean deviation from it.
    pub latency_deviation: Duration,
    /// Asks in flight, withdrawn ones included.
    pub in_flight_ops: u32,
    /// Bytes in flight, withdrawn asks included.
    pub in_flight_bytes: u64,
    /// It is avoided.
    pub slow: bool,
    /// Times that a part of it was late and a spare was asked elsewhere.
    pub hedges: u64,
    /// Answers that were no use.
    pub erasures: u64,
    /// Probes.
    pub probes: u64,
}
