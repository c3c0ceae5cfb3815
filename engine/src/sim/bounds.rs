//! What a member has taken and has to give back, and how much it may take.

use super::core::Core;
use super::coverage::{Coverage, Rare};
use super::shard::Shard;
use crate::coordinator::limits::{PROBES_IN_FLIGHT_MAX, REPAIRS_MAX};

/// Bounds that are exceeded.
pub(super) fn beyond(core: &Core, shards: &[Shard]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at_most = |what: &str, is: u64, most: u64| {
        if is > most {
            found.push(format!("member {}: {what}: {is}, at most {most}", core.id));
        }
    };
    let ops_max = core.config.ops_max + REPAIRS_MAX;
    at_most("operations", core.coordinator.stats().ops, ops_max as u64);
    for target in core.coordinator.target_stats() {
        let asks_max = core.config.target_ops_max + u32::from(PROBES_IN_FLIGHT_MAX);
        at_most("asks of a target", u64::from(target.in_flight_ops), u64::from(asks_max));
    }
    let memory = core.memory.stats();
    at_most("bytes in memory", memory.bytes, memory.capacity_bytes);
    for shard in shards {
        let Some(store) = &shard.store else { continue };
        let stats = store.stats();
        at_most("reads of a device", stats.reads_under_way, shard.config.reads_max as u64);
        // The last write that is taken may be as long as a batch.
        let pending_max = shard.config.pending_bytes_max + shard.config.commit_len_max as usize;
        at_most("bytes to be written", stats.pending_bytes, pending_max as u64);
    }
    found
}

/// What is still taken, though the world is idle.
pub(super) fn leaks(core: &Core, shards: &[Shard]) -> Vec<String> {
    let mut found = Vec::new();
    let mut none = |what: &str, count: u64| {
        if count > 0 {
            found.push(format!("member {}: {what}: {count}", core.id));
        }
    };
    let stats = core.coordinator.stats();
    none("operations", stats.ops);
    none("asks", stats.asks);
    for target in core.coordinator.target_stats() {
        none("asks in flight at a target", u64::from(target.in_flight_ops));
        none("bytes in flight at a target", target.in_flight_bytes);
    }
    none("calls", core.calls.len() as u64);
    none("calls that wait for the coordinator", core.call_of.len() as u64);
    none("gates", core.gates.len() as u64);
    none("stripes", core.bytes.len() as u64);
    none("waiters", core.deadlines.len() as u64);
    let (direct, asked) = core.unanswered();
    none("requests of others", direct as u64);
    none("asks of others", asked as u64);
    for shard in shards {
        none("device operations", shard.device.under_way.len() as u64);
        let Some(store) = &shard.store else { continue };
        let stats = store.stats();
        none("requests of a store", stats.requests_under_way);
        none("reads of a store", stats.reads_under_way);
        none("bytes to be written", stats.pending_bytes);
    }
    found
}

/// Counts the rare states that a process and its stores kept count of.
pub(super) fn count(core: Option<&Core>, shards: &[Shard], coverage: &mut Coverage) {
    if let Some(core) = core {
        let stats = core.coordinator.stats();
        coverage.states(Rare::HedgeWon, stats.hedges_won);
        coverage.states(Rare::HedgeBeatenByOriginal, stats.hedges.saturating_sub(stats.hedges_won));
        coverage.states(Rare::ReadRepair, stats.parts_repaired);
    }
    for store in shards.iter().filter_map(|shard| shard.store.as_ref()) {
        coverage.states(Rare::SlabReusedUnderReader, store.stats().slabs_left_read);
    }
}
