//! Stats: named counters, latency summaries and the shards of a daemon.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{MessageError, field, message, text};
use crate::generated::hedgerow as fb;
use crate::types::wire_enum;

/// A label of a counter or histogram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// The label's name.
    pub name: String,
    /// The label's value.
    pub value: String,
}

type Labels<'a> = flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<fb::Label<'a>>>;

fn build_labels<'a>(labels: &[Label], b: &mut FlatBufferBuilder<'a>) -> WIPOffset<Labels<'a>> {
    let labels: Vec<_> = labels
        .iter()
        .map(|label| {
            let args = fb::LabelArgs {
                name: Some(b.create_string(&label.name)),
                value: Some(b.create_string(&label.value)),
            };
            fb::Label::create(b, &args)
        })
        .collect();
    b.create_vector(&labels)
}

fn read_labels(labels: Option<Labels<'_>>) -> Vec<Label> {
    let label = |label: fb::Label<'_>| Label { name: text(label.name()), value: text(label.value()) };
    labels.into_iter().flatten().map(label).collect()
}

/// A counter or gauge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counter {
    /// Its name; the unit stands at the end (`read_bytes`).
    pub name: String,
    /// What tells it from others of its name.
    pub labels: Vec<Label>,
    /// Its value.
    pub value: u64,
}

impl Counter {
    /// A counter without labels.
    pub fn new(name: &str, value: u64) -> Counter {
        Counter { name: name.to_owned(), labels: Vec::new(), value }
    }

    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::Counter<'a>> {
        let args = fb::CounterArgs {
            name: Some(b.create_string(&self.name)),
            labels: Some(build_labels(&self.labels, b)),
            value: self.value,
        };
        fb::Counter::create(b, &args)
    }

    fn read(table: fb::Counter<'_>) -> Counter {
        Counter { name: text(table.name()), labels: read_labels(table.labels()), value: table.value() }
    }
}

/// What is said of a distribution of latencies, in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistogramSummary {
    /// Its name.
    pub name: String,
    /// What tells it from others of its name.
    pub labels: Vec<Label>,
    /// How many were measured.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99 of 100 are at most this.
    pub p99_ns: u64,
    /// 999 of 1,000 are at most this.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl HistogramSummary {
    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::Histogram<'a>> {
        let args = fb::HistogramArgs {
            name: Some(b.create_string(&self.name)),
            labels: Some(build_labels(&self.labels, b)),
            count: self.count,
            p50_ns: self.p50_ns,
            p99_ns: self.p99_ns,
            p999_ns: self.p999_ns,
            max_ns: self.max_ns,
        };
        fb::Histogram::create(b, &args)
    }

    fn read(table: fb::Histogram<'_>) -> HistogramSummary {
        HistogramSummary {
            name: text(table.name()),
            labels: read_labels(table.labels()),
            count: table.count(),
            p50_ns: table.p50_ns(),
            p99_ns: table.p99_ns(),
            p999_ns: table.p999_ns(),
            max_ns: table.max_ns(),
        }
    }
}

wire_enum! {
    /// What a shard does.
    ShardState {
        /// It serves.
        Serving = 0,
        /// It rebuilds its index.
        Opening = 1,
        /// It takes no more part; `reason` says why.
        SetAside = 2,
        /// It writes what it has and stops.
        Closing = 3,
    }
}

/// One shard. Counts are since the daemon started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardStats {
    /// Position in the daemon's list of shards.
    pub shard: u16,
    /// What it does.
    pub state: ShardState,
    /// Device or slab file.
    pub path: String,
    /// Failure domain.
    pub domain: u32,
    /// Bytes that it can hold.
    pub capacity_bytes: u64,
    /// Bytes that it holds.
    pub used_bytes: u64,
    /// Parts in its index.
    pub parts: u64,
    /// Part reads.
    pub reads: u64,
    /// Part writes.
    pub writes: u64,
    /// Bytes read from the device.
    pub read_bytes: u64,
    /// Bytes written to the device.
    pub written_bytes: u64,
    /// Parts let go to make room.
    pub evicted_parts: u64,
    /// Parts that failed their checks.
    pub damaged_parts: u64,
    /// Errors of the device.
    pub io_errors: u64,
    /// Operations under way.
    pub in_flight: u32,
    /// Why it is set aside; else empty.
    pub reason: String,
}

impl ShardStats {
    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::ShardStats<'a>> {
        let args = fb::ShardStatsArgs {
            shard: self.shard,
            state: self.state as u8,
            path: Some(b.create_string(&self.path)),
            domain: self.domain,
            capacity_bytes: self.capacity_bytes,
            used_bytes: self.used_bytes,
            parts: self.parts,
            reads: self.reads,
            writes: self.writes,
            read_bytes: self.read_bytes,
            written_bytes: self.written_bytes,
            evicted_parts: self.evicted_parts,
            damaged_parts: self.damaged_parts,
            io_errors: self.io_errors,
            in_flight: self.in_flight,
            reason: Some(b.create_string(&self.reason)),
        };
        fb::ShardStats::create(b, &args)
    }

    fn read(table: fb::ShardStats<'_>) -> Result<ShardStats, MessageError> {
        Ok(ShardStats {
            shard: table.shard(),
            state: ShardState::from_u8(table.state()).ok_or_else(|| field("state", table.state()))?,
            path: text(table.path()),
            domain: table.domain(),
            capacity_bytes: table.capacity_bytes(),
            used_bytes: table.used_bytes(),
            parts: table.parts(),
            reads: table.reads(),
            writes: table.writes(),
            read_bytes: table.read_bytes(),
            written_bytes: table.written_bytes(),
            evicted_parts: table.evicted_parts(),
            damaged_parts: table.damaged_parts(),
            io_errors: table.io_errors(),
            in_flight: table.in_flight(),
            reason: text(table.reason()),
        })
    }
}

/// What a daemon has counted since it started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatsAnswer {
    /// Time since it started, in milliseconds.
    pub uptime_ms: u64,
    /// Its build, for people.
    pub build: String,
    /// Counters and gauges, by name. The list grows with the daemon.
    pub counters: Vec<Counter>,
    /// Latencies, by name.
    pub histograms: Vec<HistogramSummary>,
    /// Its shards.
    pub shards: Vec<ShardStats>,
}

impl StatsAnswer {
    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::StatsAnswer<'a>>, MessageError> {
        let counters: Vec<_> = self.counters.iter().map(|counter| counter.build(b)).collect();
        let histograms: Vec<_> = self.histograms.iter().map(|histogram| histogram.build(b)).collect();
        let shards: Vec<_> = self.shards.iter().map(|shard| shard.build(b)).collect();
        let args = fb::StatsAnswerArgs {
            uptime_ms: self.uptime_ms,
            build: Some(b.create_string(&self.build)),
            counters: Some(b.create_vector(&counters)),
            histograms: Some(b.create_vector(&histograms)),
            shards: Some(b.create_vector(&shards)),
        };
        Ok(fb::StatsAnswer::create(b, &args))
    }

    fn read(table: fb::StatsAnswer<'_>) -> Result<StatsAnswer, MessageError> {
        Ok(StatsAnswer {
            uptime_ms: table.uptime_ms(),
            build: text(table.build()),
            counters: table.counters().into_iter().flatten().map(Counter::read).collect(),
            histograms: table.histograms().into_iter().flatten().map(HistogramSummary::read).collect(),
            shards: table.shards().into_iter().flatten().map(ShardStats::read).collect::<Result<_, _>>()?,
        })
    }
}

message!(StatsAnswer, StatsAnswer);
