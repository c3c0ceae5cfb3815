//! What was found, for people and for a report.

use anyhow::Result;
use serde_json::{Value, json};

use super::cell::Cell;
use super::faults::{SCENARIOS, Scenario, Trouble, schedule};
use super::systems::{SYSTEMS, System};
use super::{Bare, Scenarios, Turn};
use crate::load::BUSY_SHARE;
use crate::machine;
use crate::measure::{STEAL_MAX, Spread, length, spread};
use crate::record;

/// Past this, what else ran on the machine is part of what was measured.
const OTHERS_MAX: f64 = 0.1;

/// Past this share of the gets, those that were not sent are worth a word.
const UNSENT_MAX: f64 = 0.001;

/// A line that says how one scenario went.
pub fn line(cell: &Cell) -> String {
    let sample = &cell.sample;
    let mut line = format!(
        "{}: {:.0}/s, p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us",
        cell.scenario.name, sample.rate, sample.p50_us, sample.p99_us, sample.p999_us
    );
    if !sample.failures.is_empty() {
        line += &format!("; not answered Ok: {:?}", sample.failures);
    }
    line
}

/// One scenario of one system over all rounds.
struct Row<'a> {
    system: &'static System,
    scenario: &'static Scenario,
    found: Vec<(&'a Turn, &'a Cell)>,
    /// Part reads that a get from the devices cannot do without.
    needed: usize,
}

impl Row<'_> {
    /// Of a figure over the rounds. Those in which much was stolen count only if there is no other.
    fn spread(&self, field: impl Fn(&Turn, &Cell) -> f64) -> Spread {
        let calm = |(_, cell): &&(&Turn, &Cell)| cell.sample.steal_share <= STEAL_MAX;
        let any_calm = self.found.iter().any(|found| calm(&found));
        let counted = self.found.iter().filter(|found| !any_calm || calm(found));
        spread(counted.map(|(turn, cell)| field(turn, cell)).filter(|value| value.is_finite()))
    }

    fn sum(&self, field: impl Fn(&Cell) -> u64) -> u64 {
        self.found.iter().map(|(_, cell)| field(cell)).sum()
    }
}

/// By system, then by scenario.
fn rows<'a>(options: &Scenarios, turns: &'a [Turn]) -> Result<Vec<Row<'a>>> {
    let mut rows = Vec::new();
    for system in options.systems() {
        let needed = system.code_of(options.object_len)?.k();
        for scenario in options.scenarios() {
            let found = turns
                .iter()
                .filter(|turn| turn.system == system)
                .flat_map(|turn| turn.cells.iter().map(move |cell| (turn, cell)))
                .filter(|(_, cell)| cell.scenario == scenario)
                .collect();
            rows.push(Row { system, scenario, found, needed });
        }
    }
    Ok(rows)
}

/// Prints all of it.
pub fn print(options: &Scenarios, turns: &[Turn]) -> Result<()> {
    let rows = rows(options, turns)?;
    println!("\n{}; {} rounds", options.setting(), options.rounds);
    tails(&rows);
    println!();
    stages(&rows);
    println!();
    bare(options, turns);
    warnings(&rows);
    Ok(())
}

fn tails(rows: &[Row<'_>]) {
    println!(
        "| system | scenario | gets/s | p50 us | p99 us | p99.9 us | most us | p99.9 of healthy | extra part reads | hedges | repaired | errors | misses | past deadline | wrong | CPU us | others | stolen |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        let median = |field: fn(&Cell) -> f64| row.spread(|_, cell| field(cell)).median;
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.0} | {} | {:.0} | {} | {:.1} % | {} | {} | {} | {} | {} | {} | {:.1} | {:.0} % | {:.1} % |",
            row.system.name,
            row.scenario.name,
            median(|cell| cell.sample.rate),
            median(|cell| cell.sample.p50_us),
            median(|cell| cell.sample.p99_us),
            text(row.spread(|_, cell| cell.sample.p999_us), 0),
            median(|cell| cell.latency.max() as f64 / 1e3),
            text(row.spread(|turn, cell| turn.to_healthy(cell)), 2),
            100.0 * row.spread(|_, cell| cell.counted.extra_share(row.needed)).median,
            row.sum(|cell| cell.counted.hedges),
            row.sum(|cell| cell.counted.repaired),
            row.sum(|cell| cell.gets.errors),
            row.sum(|cell| cell.gets.missed),
            row.sum(|cell| cell.gets.past_deadline),
            row.sum(|cell| cell.gets.wrong),
            median(|cell| cell.sample.cpu_us),
            100.0 * median(|cell| cell.sample.others_share),
            100.0 * median(|cell| cell.sample.steal_share),
        );
    }
    println!(
        "A get that failed counts as if it had taken until its deadline, and so does a miss, but not on full devices. Extra part reads: beyond \
         those that reads could not do without."
    );
}

/// A spread, or what it is of if that is one value.
fn text(spread: Spread, digits: usize) -> String {
    if spread.min == spread.max { format!("{:.digits$}", spread.median) } else { spread.text(digits) }
}

fn stages(rows: &[Row<'_>]) {
    let Some((_, first)) = rows.first().and_then(|row| row.found.first()) else { return };
    let names: Vec<String> = first.counted.stages_us().into_iter().map(|(name, _)| name).collect();
    println!("Processor time by stage of a request, us:");
    println!("| system | scenario | {} |", names.join(" | "));
    println!("|---|---|{}", "--:|".repeat(names.len()));
    for row in rows {
        let us: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(place, _)| {
                let of = |cell: &Cell| cell.counted.stages_us().get(place).map_or(f64::NAN, |(_, us)| *us);
                format!("{:.2}", row.spread(|_, cell| of(cell)).median)
            })
            .collect();
        println!("| {} | {} | {} |", row.system.name, row.scenario.name, us.join(" | "));
    }
}

fn bare(options: &Scenarios, turns: &[Turn]) {
    println!("Healthy, beside the bare device (io_uring, as many random reads of a part's length a second):");
    println!(
        "| system | peak, gets/s | reads/s | length | bare p99.9 us | so many together | p99.9 us | healthy p99.9 us | of bare | of bare, together |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for system in options.systems() {
        let turns: Vec<&Turn> = turns.iter().filter(|turn| turn.system == system).collect();
        let of = |field: fn(&Turn) -> f64| spread(turns.iter().map(|turn| field(turn)));
        let healthy_us = |turn: &Turn| turn.healthy().map_or(f64::NAN, |cell| cell.sample.p999_us);
        println!(
            "| {} | {} | {:.0} | {} | {} | {} | {} | {} | {} | {} |",
            system.name,
            text(of(|turn| turn.peak), 0),
            of(|turn| turn.bare.as_ref().map_or(f64::NAN, |bare| bare.per_second)).median,
            turns
                .first()
                .and_then(|turn| turn.bare.as_ref())
                .map_or(String::new(), |bare| length(bare.read_len as u64)),
            text(of(|turn| turn.bare.as_ref().map_or(f64::NAN, Bare::p999_us)), 0),
            of(|turn| turn.bare.as_ref().map_or(f64::NAN, |bare| bare.together as f64)).median,
            text(of(|turn| turn.bare.as_ref().map_or(f64::NAN, Bare::p999_together_us)), 0),
            text(of(healthy_us), 0),
            text(of(Turn::to_bare), 2),
            text(of(Turn::to_bare_together), 2),
        );
    }
    println!(
        "Single reads have the machine to themselves; those together (as many as a get waits for) a busy generator's core beside them."
    );
}

/// Says what makes figures doubtful.
fn warnings(rows: &[Row<'_>]) {
    for row in rows {
        let name = format!("{}, {}", row.system.name, row.scenario.name);
        for (turn, cell) in &row.found {
            let sample = &cell.sample;
            let warn = |text: String| println!("warning: {name}: {text}");
            if sample.generator_share > BUSY_SHARE {
                let busy = 100.0 * sample.generator_share;
                warn(format!("the generator was {busy:.0} % busy: it may be what was measured"));
            }
            if cell.dropped > 0 || sample.steal_share > STEAL_MAX {
                let (dropped, stolen) = (cell.dropped, 100.0 * sample.steal_share);
                warn(format!(
                    "{dropped} measurements were dropped because of stolen time; of the one that counts {stolen:.1} % was"
                ));
            }
            let faults = schedule(cell.scenario.trouble, turn.window.length).len();
            if cell.counted.not_injected > 0 {
                warn(format!("{} of {faults} faults were not injected in time", cell.counted.not_injected));
            } else if faults > 0 && cell.counted.fault_hits == 0 {
                warn("no operation of a device was struck by its fault".to_owned());
            }
            if cell.scenario.trouble == Trouble::FullDevice && cell.counted.slabs_evicted == 0 {
                warn("nothing was evicted in the window: it is too short".to_owned());
            }
            if cell.gets.unsent as f64 > UNSENT_MAX * cell.gets.answered as f64 {
                warn(format!(
                    "{} gets were due and not sent when the window ended; they count as long as they were overdue",
                    cell.gets.unsent
                ));
            }
        }
    }
    let all = || rows.iter().flat_map(|row| &row.found);
    let disturbed = all().filter(|(_, cell)| cell.sample.others_share > OTHERS_MAX).count();
    if disturbed > 0 {
        println!(
            "warning: in {disturbed} of {} measurements others used more than {:.0} % of the machine",
            all().count(),
            100.0 * OTHERS_MAX
        );
    }
    let busiest = all().map(|(_, cell)| cell.sample.generator_share);
    println!("the generator was at most {:.0} % busy", 100.0 * busiest.fold(0.0, f64::max));
}

/// The record of one scenario in one round.
pub fn cell_json(options: &Scenarios, turn: &Turn, cell: &Cell) -> Result<Value> {
    let code = turn.system.code_of(options.object_len)?;
    let order = SCENARIOS.iter().position(|scenario| scenario == cell.scenario);
    let mut record = cell.sample.to_json();
    let about = json!({
        "kind": "scenario", "machine": machine::describe(), "setting": options.setting(),
        "system": turn.system.name, "system_order": SYSTEMS.iter().position(|system| system == turn.system),
        "code": turn.system.code()?.to_string(), "policy": turn.system.policy, "scenario": cell.scenario.name,
        "order": order, "round": turn.round, "object_len": options.object_len, "objects": options.objects(),
        "memory_bytes": options.memory_bytes(), "peak_per_second": turn.peak, "rate_wanted": turn.window.rate,
        "seconds": turn.window.length.as_secs_f64(), "latency": record::latency_json(&cell.latency),
        "p999_to_healthy": turn.to_healthy(cell), "extra_part_reads": cell.counted.extra_share(code.k()),
        "part_reads": cell.counted.part_reads, "reads": cell.counted.reads,
        "hedges": cell.counted.hedges, "parts_repaired": cell.counted.repaired,
        "faults_not_injected": cell.counted.not_injected, "fault_hits": cell.counted.fault_hits, "slabs_evicted": cell.counted.slabs_evicted,
        "answered": cell.gets.answered, "missed": cell.gets.missed, "errors": cell.gets.errors,
        "past_deadline": cell.gets.past_deadline, "wrong": cell.gets.wrong, "unsent": cell.gets.unsent,
        "stages_us": cell.counted.stages_us(), "measurements_dropped": cell.dropped,
        "ready_after_ms": cell.ready_after.map(|after| after.as_secs_f64() * 1e3),
    });
    if let (Value::Object(record), Value::Object(about)) = (&mut record, about) {
        record.extend(about);
    }
    if let (Trouble::None, Some(bare)) = (cell.scenario.trouble, &turn.bare) {
        record["bare"] = json!({
            "per_second": bare.per_second, "read_len": bare.read_len,
            "latency": record::latency_json(&bare.latency), "p999_of_bare": turn.to_bare(), "together": bare.together,
            "latency_together": record::latency_json(&bare.latency_together), "p999_of_bare_together": turn.to_bare_together(),
        });
    }
    Ok(record)
}

/// All records in one.
pub fn all_json(options: &Scenarios, turns: &[Turn]) -> Result<Value> {
    let mut cells = Vec::new();
    for turn in turns {
        for cell in &turn.cells {
            cells.push(cell_json(options, turn, cell)?);
        }
    }
    Ok(json!({ "kind": "scenarios", "machine": machine::describe(), "cells": cells }))
}
