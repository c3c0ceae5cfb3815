//! What a contest found, for people and for a report.

use serde_json::{Value, json};

use super::contest::{Contest, Contestant, Round};
use super::faulted::Row;
use super::{Compare, Figure};
use crate::load::BUSY_SHARE;
use crate::machine;
use crate::measure::{Sample, Spread, length, spread};
use crate::record;
use crate::scenarios::RATE_SHARE;
use crate::scenarios::cell::Gets;
use crate::scenarios::faults::{LASTS, ONSET};

/// Of the first peer to another one, round by round: how much more, or less, it has.
fn ratio(first: &Contestant, other: &Contestant, field: impl Fn(&Round) -> f64) -> Spread {
    let pairs = first.rounds.iter().zip(&other.rounds);
    spread(pairs.map(|(a, b)| field(a) / field(b)).filter(|ratio| ratio.is_finite()))
}

fn of(contestant: &Contestant, field: impl Fn(&Round) -> f64) -> Spread {
    spread(contestant.rounds.iter().map(field))
}

/// Prints a figure: one line for each peer.
pub fn print(object_len: Option<u64>, figure: Figure, contest: &Contest<'_>) {
    let Some(first) = contest.contestants.first() else { return };
    let size = object_len.map_or("mixed lengths".to_owned(), length);
    println!("\n{figure:?}, {size}: median [lowest..highest] of {} rounds in turns", first.rounds.len());
    if matches!(figure, Figure::MetaCdn | Figure::MetaCdnEqualHits) {
        println!("requests are gets, hits and misses alike; latencies are those of hits");
    }
    if let Some(rate) = contest.rate {
        println!("open loop, {rate:.0}/s: 60 % of the lowest peak");
    }
    if contest.dropped > 0 {
        println!("{} rounds with more than 3 % stolen time were dropped", contest.dropped);
    }
    println!(
        "| peer | at | requests/s | GB/s | p50 us | p99 us | p99.9 us | hits | from the device | server CPU us | {0}: rate | {0}: p99 |",
        first.name()
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for contestant in &contest.contestants {
        let field = |field: fn(&Round) -> f64| of(contestant, field);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {:.1} % | {:.0} % | {:.1} | {} | {} |",
            contestant.name(),
            contestant.at,
            field(|round| round.sample.rate).text(0),
            field(|round| round.sample.bytes_rate / 1e9).text(2),
            field(|round| round.sample.p50_us).text(0),
            field(|round| round.sample.p99_us).text(0),
            field(|round| round.sample.p999_us).text(0),
            100.0 * field(|round| round.hit_share).median,
            100.0 * field(|round| round.device_share).median,
            field(|round| round.sample.cpu_us).median,
            ratio(first, contestant, |round| round.sample.rate).text(2),
            ratio(first, contestant, |round| round.sample.p99_us).text(2),
        );
    }
    contest.contestants.iter().for_each(warn);
}

fn warn(contestant: &Contestant) {
    let name = contestant.name();
    if contestant.rounds.iter().any(|round| round.sample.generator_share > BUSY_SHARE) {
        println!("warning: {name}: the generator was more than 90 % busy: it may be what was measured");
    }
    let mut failures = std::collections::BTreeMap::new();
    for (status, count) in contestant.rounds.iter().flat_map(|round| &round.sample.failures) {
        *failures.entry(format!("{status:?}")).or_insert(0) += count;
    }
    if !failures.is_empty() {
        println!("note: {name}: not answered Ok: {failures:?}");
    }
    match &contestant.running.cgroup {
        Some(cgroup) => match cgroup.peak_bytes() {
            Ok(bytes) => println!("note: {name}: {} MiB of memory at most", bytes >> 20),
            Err(error) => println!("warning: {name}: its memory is not known: {error:#}"),
        },
        None => println!("warning: {name}: its memory had no limit"),
    }
}

fn round_json(round: &Round) -> Value {
    let mut json = round.sample.to_json();
    json["device_share"] = json!(round.device_share);
    json["hit_share"] = json!(round.hit_share);
    json
}

/// All of a figure.
pub fn to_json(options: &Compare, object_len: Option<u64>, figure: Figure, contest: &Contest<'_>) -> Value {
    let Some(first) = contest.contestants.first() else { return Value::Null };
    let peer = |contestant: &Contestant| {
        let sweep: Vec<Value> = contestant
            .sweep
            .iter()
            .map(|(width, round)| json!({ "at": width.to_string(), "found": round_json(round) }))
            .collect();
        let field = |field: fn(&Round) -> f64| of(contestant, field).to_json();
        let to_first = |field: fn(&Round) -> f64| ratio(first, contestant, field).to_json();
        json!({
            "peer": contestant.name(), "at": contestant.at.to_string(), "sweep": sweep,
            "rounds": contestant.rounds.iter().map(round_json).collect::<Vec<_>>(),
            "per_second": field(|round| round.sample.rate),
            "bytes_per_second": field(|round| round.sample.bytes_rate),
            "p99_us": field(|round| round.sample.p99_us),
            "hit_share": field(|round| round.hit_share), "device_share": field(|round| round.device_share),
            "ratio_rate": to_first(|round| round.sample.rate), "ratio_p99": to_first(|round| round.sample.p99_us),
            "latency": record::latency_json(&contestant.latency),
            "flash_bytes": contestant.flash_bytes, "memory_limited": contestant.running.cgroup.is_some(),
        })
    };
    json!({
        "kind": "compare", "figure": format!("{figure:?}"), "object_len": object_len,
        "machine": machine::describe(), "rate": contest.rate, "rounds_dropped": contest.dropped,
        "memory_bytes": options.memory_mib << 20, "flash_bytes": options.flash_mib << 20,
        "server_cores": options.server_cores, "seconds": options.seconds,
        "peers": contest.contestants.iter().map(peer).collect::<Vec<_>>(),
    })
}

/// Prints what faults did: one line for each peer and fault.
pub fn print_faults(object_len: u64, rows: &[Row]) {
    println!(
        "\nFaults, {}: open loop at {:.0} % of each one's own healthy peak",
        length(object_len),
        100.0 * RATE_SHARE
    );
    println!(
        "| peer | what | gets/s wanted | gets/s | p50 us | p99 us | p99.9 us | most us | of | misses | errors | not sent | stolen |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        let us = |quantile| row.latency.value_at_quantile(quantile) as f64 / 1e3;
        let sum = |field: fn(&Gets) -> u64| row.gets.iter().map(field).sum::<u64>();
        let stolen = row.samples.iter().map(|sample| sample.steal_share).fold(0.0, f64::max);
        println!(
            "| {} | {} | {:.0} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} | {:.1} % |",
            row.peer.name(),
            row.fault.name(),
            row.rate,
            spread(row.samples.iter().map(|sample| sample.rate)).text(0),
            us(0.5),
            us(0.99),
            us(0.999),
            row.latency.max() as f64 / 1e3,
            row.latency.len(),
            sum(|gets| gets.missed),
            sum(|gets| gets.errors + gets.past_deadline),
            sum(|gets| gets.unsent),
            100.0 * stolen,
        );
    }
    println!(
        "A fault lasts from {:.0} % to {:.0} % of a window, but a server that was killed stays dead, and a stall takes 2 s of every 10. What \
         failed counts as if it had taken until its deadline; a get that was not sent, as long as it was overdue.",
        100.0 * ONSET,
        100.0 * (ONSET + LASTS)
    );
    if rows.iter().flat_map(|row| &row.samples).any(|sample| sample.generator_share > BUSY_SHARE) {
        println!("warning: the generator was more than 90 % busy in a window: it may be what was measured");
    }
}

/// The same for a report.
pub fn faults_json(options: &Compare, object_len: u64, rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let sum = |field: fn(&Gets) -> u64| row.gets.iter().map(field).sum::<u64>();
        json!({
            "peer": row.peer.name(), "fault": row.fault.name(), "rate_wanted": row.rate,
            "windows": row.samples.iter().map(Sample::to_json).collect::<Vec<_>>(),
            "latency": record::latency_json(&row.latency), "missed": sum(|gets| gets.missed),
            "errors": sum(|gets| gets.errors), "past_deadline": sum(|gets| gets.past_deadline),
            "unsent": sum(|gets| gets.unsent),
        })
    };
    json!({
        "kind": "compare-fault", "object_len": object_len, "machine": machine::describe(),
        "memory_bytes": options.memory_mib << 20, "flash_bytes": options.flash_mib << 20,
        "server_cores": options.server_cores, "seconds": options.seconds,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}
