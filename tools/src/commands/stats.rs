//! `stats`: a daemon's counters, latencies and shards.

use clap::Args;
use hedgerow_client::messages::{Counter, HistogramSummary, ShardState, ShardStats, StatsAnswer};
use serde_json::{Value, json};
use std::time::Duration;

use super::stages;
use crate::context::{Context, Facts, failed};
use crate::failure::Failure;
use crate::table::{Align, Table};
use crate::text;

/// Show a daemon's counters, latencies and shards.
#[derive(Args, Debug)]
pub struct Stats {
    /// Also the counters that are zero
    #[arg(long)]
    all: bool,
    /// Only where the processor time of the daemon's cores goes, since its start
    #[arg(long)]
    stages: bool,
    /// With --stages: over the next so many seconds instead
    #[arg(long, requires = "stages", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    over: Option<u32>,
}

/// Asks and shows.
pub async fn run(context: &Context, stats: Stats) -> Result<(), Failure> {
    if stats.stages {
        let over = stats.over.map(|seconds| Duration::from_secs(seconds.into()));
        return stages::run(context, over).await;
    }
    let client = context.connect().await?;
    let answer = context.request(&client).stats().await.map_err(failed("stats"))?;
    context.show(&Shown { answer, all: stats.all })
}

struct Shown {
    answer: StatsAnswer,
    all: bool,
}

/// Groups of counters: the beginning of their names, and a title.
const GROUPS: [(&str, &str); 6] = [
    ("frames.", "frames received"),
    ("answers.", "answers other than ok"),
    ("memory_", "memory tier"),
    ("coordinator_", "coordinators"),
    ("store_", "stores, all shards together"),
    ("", "daemon"),
];

impl Facts for Shown {
    fn json(&self) -> Value {
        let answer = &self.answer;
        json!({
            "uptime_ms": answer.uptime_ms,
            "build": answer.build,
            "counters": answer.counters.iter().map(counter_json).collect::<Vec<_>>(),
            "histograms": answer.histograms.iter().map(histogram_json).collect::<Vec<_>>(),
            "shards": answer.shards.iter().map(shard_json).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let answer = &self.answer;
        let up = text::duration(Duration::from_millis(answer.uptime_ms));
        let mut out = format!("{}, up {up}\n", answer.build);
        let latencies = latencies(&answer.histograms);
        if !latencies.is_empty() {
            out.push_str(&format!("\n{latencies}"));
        }
        out.push_str(&format!("\n{}", shards(&answer.shards)));
        for shard in answer.shards.iter().filter(|shard| !shard.reason.is_empty()) {
            out.push_str(&format!("shard {}: {}\n", shard.shard, shard.reason));
        }
        for (prefix, title) in GROUPS {
            out.push_str(&group(answer, prefix, title, self.all));
        }
        out
    }
}

fn latencies(histograms: &[HistogramSummary]) -> Table {
    let ns = |ns| text::duration(Duration::from_nanos(ns));
    let mut table = Table::new(&[
        ("latency", Align::Left),
        ("count", Align::Right),
        ("p50", Align::Right),
        ("p99", Align::Right),
        ("p99.9", Align::Right),
        ("max", Align::Right),
    ]);
    for histogram in histograms.iter().filter(|histogram| histogram.count > 0) {
        let labels: Vec<&str> = histogram.labels.iter().map(|label| label.value.as_str()).collect();
        let name = if labels.is_empty() { histogram.name.clone() } else { labels.join(" ") };
        table.row([
            name,
            text::count(histogram.count),
            ns(histogram.p50_ns),
            ns(histogram.p99_ns),
            ns(histogram.p999_ns),
            ns(histogram.max_ns),
        ]);
    }
    table
}

fn shards(shards: &[ShardStats]) -> Table {
    let mut table = Table::new(&[
        ("shard", Align::Right),
        ("state", Align::Left),
        ("capacity", Align::Right),
        ("used", Align::Right),
        ("parts", Align::Right),
        ("reads", Align::Right),
        ("writes", Align::Right),
        ("read", Align::Right),
        ("written", Align::Right),
        ("evicted", Align::Right),
        ("damaged", Align::Right),
        ("errors", Align::Right),
        ("busy", Align::Right),
        ("domain", Align::Right),
        ("path", Align::Left),
    ]);
    for shard in shards {
        table.row([
            shard.shard.to_string(),
            state_name(shard.state).to_owned(),
            text::bytes(shard.capacity_bytes),
            text::bytes(shard.used_bytes),
            text::count(shard.parts),
            text::count(shard.reads),
            text::count(shard.writes),
            text::bytes(shard.read_bytes),
            text::bytes(shard.written_bytes),
            text::count(shard.evicted_parts),
            text::count(shard.damaged_parts),
            text::count(shard.io_errors),
            text::count(u64::from(shard.in_flight)),
            shard.domain.to_string(),
            shard.path.clone(),
        ]);
    }
    table
}

/// What a shard's state is called.
pub fn state_name(state: ShardState) -> &'static str {
    match state {
        ShardState::Serving => "serving",
        ShardState::Opening => "opening",
        ShardState::SetAside => "set aside",
        ShardState::Closing => "closing",
    }
}

/// The group that a counter belongs to: the first whose prefix its name has.
fn group_of(name: &str) -> &'static str {
    GROUPS.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("", |(prefix, _)| prefix)
}

fn group(answer: &StatsAnswer, prefix: &str, title: &str, all: bool) -> String {
    // Stages have a table of their own.
    let of_group = |counter: &&Counter| {
        !counter.name.starts_with("stage.")
            && group_of(&counter.name) == prefix
            && (all || counter.value != 0)
    };
    let mut table = Table::new(&[(title, Align::Left), ("", Align::Right)]);
    for counter in answer.counters.iter().filter(of_group) {
        let name = counter.name.strip_prefix(prefix).unwrap_or(&counter.name);
        let labels: Vec<String> =
            counter.labels.iter().map(|label| format!(" {}={}", label.name, label.value)).collect();
        let value =
            if is_bytes(&counter.name) { text::bytes(counter.value) } else { text::count(counter.value) };
        table.row([format!("  {}{}", name.replace('_', " "), labels.concat()), value]);
    }
    if table.is_empty() { String::new() } else { format!("\n{table}") }
}

fn is_bytes(name: &str) -> bool {
    name.split(['_', '.']).any(|word| word == "bytes")
}

fn counter_json(counter: &Counter) -> Value {
    let labels: serde_json::Map<String, Value> =
        counter.labels.iter().map(|label| (label.name.clone(), json!(label.value))).collect();
    json!({ "name": counter.name, "labels": labels, "value": counter.value })
}

fn histogram_json(histogram: &HistogramSummary) -> Value {
    let labels: serde_json::Map<String, Value> =
        histogram.labels.iter().map(|label| (label.name.clone(), json!(label.value))).collect();
    json!({
        "name": histogram.name, "labels": labels, "count": histogram.count, "p50_ns": histogram.p50_ns,
        "p99_ns": histogram.p99_ns, "p999_ns": histogram.p999_ns, "max_ns": histogram.max_ns,
    })
}

fn shard_json(shard: &ShardStats) -> Value {
    json!({
        "shard": shard.shard, "state": state_name(shard.state), "path": shard.path, "domain": shard.domain,
        "capacity_bytes": shard.capacity_bytes, "used_bytes": shard.used_bytes, "parts": shard.parts,
        "reads": shard.reads, "writes": shard.writes, "read_bytes": shard.read_bytes,
        "written_bytes": shard.written_bytes, "evicted_parts": shard.evicted_parts,
        "damaged_parts": shard.damaged_parts, "io_errors": shard.io_errors, "in_flight": shard.in_flight,
        "reason": (!shard.reason.is_empty()).then_some(&shard.reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_one_group() {
        for (name, prefix) in [
            ("frames.get", "frames."),
            ("coordinator_part_reads", "coordinator_"),
            ("memory_hits", "memory_"),
            ("gets_from_memory", ""),
            ("anything", ""),
        ] {
            assert_eq!(group_of(name), prefix);
        }
        assert!(is_bytes("store_bytes_written") && is_bytes("memory_bytes") && !is_bytes("store_parts"));
    }
}
