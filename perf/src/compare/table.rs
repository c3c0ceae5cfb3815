//! What a contest found, for people and for a report.

use serde_json::{Value, json};

use super::contest::{Contest, Contestant, Round};
use super::{Compare, Figure};
use crate::load::BUSY_SHARE;
use crate::machine;
use crate::measure::{Spread, length, spread};
use crate::record;

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
    if figure == Figure::MetaCdn {
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
            "memory_limited": contestant.running.cgroup.is_some(),
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
