//! What the demonstration found.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::Measured;
use super::plot::{Plot, Series};
use super::systems::{Plan, SLOW_US, SYSTEMS, System};
use crate::context::Facts;
use crate::table::{Align, Table};
use crate::text;

/// One system in one phase.
#[derive(Debug)]
pub struct Outcome {
    /// Which system.
    pub system: System,
    /// Whether devices were faulty.
    pub faulty: bool,
    /// What its client saw.
    pub measured: Measured,
    /// Part reads that its daemon asked of its shards.
    pub part_reads: u64,
    /// Of these, because a part was late.
    pub hedges: u64,
    /// Parts that it put back.
    pub parts_repaired: u64,
}

impl Outcome {
    /// Part reads beyond those that could not be done without, in relation to these.
    fn extra_reads(&self) -> f64 {
        let needed = self.measured.part_reads_needed;
        self.part_reads.saturating_sub(needed) as f64 / needed.max(1) as f64
    }

    fn quantile(&self, quantile: f64) -> u64 {
        self.measured.latencies.value_at_quantile(quantile)
    }
}

/// The whole of it.
#[derive(Debug)]
pub struct Report {
    /// What was asked for.
    pub plan: Plan,
    /// Length of all objects together.
    pub stored_bytes: u64,
    /// Each system healthy, then faulty.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Bytes that were not what had been stored, over all.
    pub fn wrong_bytes(&self) -> u64 {
        self.outcomes.iter().map(|outcome| outcome.measured.wrong_bytes).sum()
    }

    fn introduction(&self) -> String {
        let damage = f64::from(self.plan.damage_ppm) / 10_000.0;
        format!(
            "{} objects ({}) with the sizes and the popularity of a CDN cache (facebook/CacheLib); {} reads a second for {} s,\n\
             latency from each read's intended start, every byte compared. Each daemon has six shards; 'faulty' is one shard\n\
             slower by {} per operation, and another that gives wrong bytes in {damage} % of its reads.\n",
            text::count(u64::from(self.plan.objects)),
            text::bytes(self.stored_bytes),
            text::count(u64::from(self.plan.rate)),
            self.plan.seconds,
            text::duration(Duration::from_micros(u64::from(SLOW_US))),
        )
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("system", Align::Left),
            ("devices", Align::Left),
            ("reads", Align::Right),
            ("p50", Align::Right),
            ("p99", Align::Right),
            ("p99.9", Align::Right),
            ("max", Align::Right),
            ("extra reads", Align::Right),
            ("repaired", Align::Right),
            ("misses", Align::Right),
            ("errors", Align::Right),
            ("wrong bytes", Align::Right),
        ]);
        let latency = |ns| text::duration(Duration::from_nanos(ns));
        for outcome in &self.outcomes {
            let measured = &outcome.measured;
            table.row([
                outcome.system.name.to_owned(),
                state(outcome.faulty).to_owned(),
                text::count(measured.latencies.len()),
                latency(outcome.quantile(0.5)),
                latency(outcome.quantile(0.99)),
                latency(outcome.quantile(0.999)),
                latency(measured.latencies.max()),
                format!("{:.1} %", outcome.extra_reads() * 100.0),
                text::count(outcome.parts_repaired),
                text::count(measured.misses),
                text::count(measured.errors),
                text::count(measured.wrong_bytes),
            ]);
        }
        table
    }

    /// Both phases, beside each other.
    fn plots(&self) -> String {
        let unicode = unicode_terminal();
        let series = |faulty: bool| {
            let curve = |outcome: &Outcome| Series {
                name: outcome.system.name,
                values: Plot::quantiles().map(|quantile| outcome.quantile(quantile)).collect(),
            };
            self.outcomes.iter().filter(|outcome| outcome.faulty == faulty).map(curve).collect::<Vec<_>>()
        };
        let plots = [("healthy devices", series(false)), ("faulty devices", series(true))];
        Plot { unicode }.draw(&plots)
    }
}

fn state(faulty: bool) -> &'static str {
    if faulty { "faulty" } else { "healthy" }
}

/// Whether the environment says that text is UTF-8.
fn unicode_terminal() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

impl Facts for Report {
    fn json(&self) -> Value {
        let outcome = |outcome: &Outcome| {
            let measured = &outcome.measured;
            json!({
                "system": outcome.system.id, "devices": state(outcome.faulty), "reads": measured.latencies.len(),
                "p50_ns": outcome.quantile(0.5), "p90_ns": outcome.quantile(0.9), "p99_ns": outcome.quantile(0.99),
                "p999_ns": outcome.quantile(0.999), "max_ns": measured.latencies.max(),
                "part_reads": outcome.part_reads, "part_reads_needed": measured.part_reads_needed,
                "extra_part_reads": outcome.extra_reads(), "hedges": outcome.hedges,
                "parts_repaired": outcome.parts_repaired, "misses": measured.misses, "errors": measured.errors,
                "first_error": measured.first_error, "wrong_bytes": measured.wrong_bytes,
            })
        };
        json!({
            "seconds": self.plan.seconds, "rate": self.plan.rate, "objects": self.plan.objects,
            "stored_bytes": self.stored_bytes, "slow_us": SLOW_US, "damage_ppm": self.plan.damage_ppm,
            "systems": SYSTEMS.map(|system| system.id),
            "outcomes": self.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n{}\n{}", self.introduction(), self.table(), self.plots());
        for outcome in &self.outcomes {
            if let Some(error) = &outcome.measured.first_error {
                let name = outcome.system.name;
                out.push_str(&format!("{name}, {}: the first error: {error}\n", state(outcome.faulty)));
            }
        }
        out
    }
}
