//! What a core counts. Summed over the cores when somebody asks.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use hdrhistogram::Histogram;
use hedgerow_wire::frame::{Op, Status};

use crate::coordinator::CoordinatorStats;
use crate::slab::StoreStats;

/// Operations whose latency is recorded, with their names in the stats.
pub const TIMED: [(Op, &str); 4] =
    [(Op::Get, "get"), (Op::Put, "put"), (Op::Delete, "delete"), (Op::Stat, "stat")];

/// Longest latency that is told apart, in nanoseconds.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// Counters of one core.
pub struct Counters {
    frames: [Cell<u64>; 32],
    refused: [Cell<u64>; 32],
    sent_bytes: Cell<u64>,
    memory_hits: Cell<u64>,
    device_reads: Cell<u64>,
    /// Bytes of new files that were written before their first use.
    pub written_through_bytes: Cell<u64>,
    latencies: RefCell<[Histogram<u64>; TIMED.len()]>,
}

impl Default for Counters {
    fn default() -> Counters {
        // Two digits: an error below 1 %, and 32 KiB a histogram.
        let histogram = || match Histogram::new_with_bounds(100, LATENCY_MAX_NS, 2) {
            Ok(histogram) => histogram,
            Err(error) => panic!("the bounds are constants: {error}"),
        };
        Counters {
            frames: Default::default(),
            refused: Default::default(),
            sent_bytes: Cell::new(0),
            memory_hits: Cell::new(0),
            device_reads: Cell::new(0),
            written_through_bytes: Cell::new(0),
            latencies: RefCell::new(std::array::from_fn(|_| histogram())),
        }
    }
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

impl Counters {
    /// A frame has come.
    pub fn frame(&self, op: Op) {
        add(&self.frames[op as usize], 1);
    }

    /// A request was answered with another status than `Ok`.
    pub fn refused(&self, status: Status) {
        add(&self.refused[status as usize], 1);
    }

    /// Bytes of an object were sent.
    pub fn sent(&self, from_memory: bool, bytes: u64) {
        add(if from_memory { &self.memory_hits } else { &self.device_reads }, 1);
        add(&self.sent_bytes, bytes);
    }

    /// A request was answered so long after its frame was complete.
    pub fn latency(&self, op: Op, latency: Duration) {
        if let Some(place) = TIMED.iter().position(|(timed, _)| *timed == op) {
            let ns = (latency.as_nanos() as u64).clamp(100, LATENCY_MAX_NS);
            self.latencies.borrow_mut()[place].saturating_record(ns);
        }
    }

    /// Latencies by the place of their operation in [`TIMED`].
    pub fn latencies(&self) -> [Histogram<u64>; TIMED.len()] {
        self.latencies.borrow().clone()
    }

    /// Names and values.
    pub fn list(&self) -> Vec<(String, u64)> {
        let mut list = vec![
            ("object_sent_bytes".to_owned(), self.sent_bytes.get()),
            ("gets_from_memory".to_owned(), self.memory_hits.get()),
            ("gets_from_devices".to_owned(), self.device_reads.get()),
            ("written_through_bytes".to_owned(), self.written_through_bytes.get()),
        ];
        for op in Op::ALL {
            list.push((format!("frames.{op:?}").to_lowercase(), self.frames[*op as usize].get()));
        }
        for status in Status::ALL {
            if *status != Status::Ok {
                list.push((snake(&format!("answers.{status:?}")), self.refused[*status as usize].get()));
            }
        }
        list
    }
}

/// `answers.NotFound` as `answers.not_found`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut after_dot = true;
    for letter in name.chars() {
        if letter.is_uppercase() && !after_dot {
            out.push('_');
        }
        after_dot = letter == '.';
        out.extend(letter.to_lowercase());
    }
    out
}

macro_rules! named {
    ($prefix:literal, $stats:expr; $($field:ident),+ $(,)?) => {
        vec![$((concat!($prefix, stringify!($field)).to_owned(), $stats.$field)),+]
    };
}

/// A coordinator's counters by name.
pub fn coordinator_counters(stats: &CoordinatorStats) -> Vec<(String, u64)> {
    named!("coordinator_", stats;
        reads, reads_found, reads_unconfirmed, reads_not_found, reads_unavailable, reads_late, reads_overloaded, read_rounds, writes, writes_acknowledged, writes_superseded, writes_indeterminate, writes_failed, part_reads, confirms, part_writes, hedges, hedges_won, hedges_over_budget, hedges_most_late, avoided, probes, erasures, writes_capped, answers_unknown, answers_invalid, asks_lost, completions, parts_repaired, bytes_repaired, under_redundant, repair_notes_dropped, repairs_failed, remains_dropped, drops, drops_lost, touches, touches_lost, touches_missed, versions_ahead, ops, asks
    )
}

/// A store's counters by name.
pub fn store_counters(stats: &StoreStats) -> Vec<(String, u64)> {
    named!("store_", stats;
        parts, index_slots, index_bytes, slabs, slabs_free, requests_under_way, reads_under_way, pending_bytes, forgotten_through_hlc, unknown_through_hlc, read_hits, read_misses, read_from_memory, parts_admitted, bytes_admitted, bytes_written, bytes_padding, bytes_tables, parts_reinserted, bytes_reinserted, commits, flushes, superblock_writes, slabs_evicted, parts_evicted, tombstones_cut, parts_expired, parts_dropped, parts_damaged, parts_damaged_now, collisions, tables_damaged, superseded, clock_ahead, overloaded, deadline_passed, cancelled, writes_delayed, index_full, read_errors, write_errors, header_reads
    )
}
