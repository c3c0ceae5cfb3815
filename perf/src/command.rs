//! `hedgerow-perf load`: any load against any daemon.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use hedgerow_wire::frame::Status;
use serde_json::json;

use crate::connection::Check;
use crate::load::{self, BUSY_SHARE, Mark, Outcome, Plan, Tally};
use crate::machine;
use crate::pattern::Pattern;
use crate::sources::{Fill, Sizes, Uniform};

/// A load.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// The daemon
    #[arg(long, default_value = "127.0.0.1:7400")]
    address: SocketAddr,
    /// Connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests under way on each connection at most
    #[arg(long, default_value_t = 4)]
    depth: usize,
    /// Arrivals per second, at random times, latency from when each was due; none: a closed loop
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds that are counted
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Objects
    #[arg(long, default_value_t = 10_000)]
    objects: u64,
    /// Length of objects: 4096, or lengths with weights (4096:3,65536:1)
    #[arg(long, default_value = "65536")]
    size: Sizes,
    /// Share of puts
    #[arg(long, default_value_t = 0.0)]
    puts: f64,
    /// Deadline of every request in milliseconds
    #[arg(long, default_value_t = 5000)]
    deadline_ms: u32,
    /// What is checked of every answer, beside its checksum
    #[arg(long, value_enum, default_value_t = Check::Stamps)]
    check: Check,
    /// Put every object first
    #[arg(long)]
    fill: bool,
    /// Core of the generator
    #[arg(long)]
    core: Option<usize>,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(options: &Load) -> Result<()> {
    if let Some(core) = options.core {
        machine::pin(core)?;
    }
    let pattern = Pattern::default();
    let plan = Plan {
        connections: options.connections,
        depth: options.depth,
        rate: options.rate,
        warmup: Duration::from_secs_f64(options.warmup),
        duration: Some(Duration::from_secs_f64(options.seconds)),
        check: options.check,
        classes: 2,
    };
    let (set, sizes) = (b'l', options.size.clone());
    let mut no_mark = |_: Mark| {};
    if options.fill {
        let mut source = Fill { set, next: 0, end: options.objects, sizes: sizes.clone() };
        let fill = Plan { rate: None, duration: None, warmup: Duration::ZERO, ..plan.clone() };
        print(options, "fill", &load::run(options.address, &fill, &mut source, &pattern, &mut no_mark)?);
    }
    let mut source = Uniform::gets(set, options.objects, sizes);
    (source.put_share, source.deadline_us) = (options.puts, options.deadline_ms * 1000);
    let outcome = load::run(options.address, &plan, &mut source, &pattern, &mut no_mark)?;
    print(options, "load", &outcome);
    outcome.check()
}

fn tally_json(name: &str, tally: &Tally, seconds: f64) -> serde_json::Value {
    let us = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
    let failures: serde_json::Map<String, serde_json::Value> =
        tally.failures().into_iter().map(|(status, count)| (format!("{status:?}"), json!(count))).collect();
    json!({
        "what": name, "ok": tally.ok(), "per_second": tally.ok() as f64 / seconds,
        "bytes_per_second": tally.bytes as f64 / seconds, "from_memory": tally.from_memory,
        "unconfirmed": tally.unconfirmed, "wrong": tally.wrong, "failures": failures,
        "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "max_us": us(1.0),
    })
}

fn print(options: &Load, name: &str, outcome: &Outcome) {
    let classes = [("get", "put"), ("put", "-")][usize::from(name == "fill")];
    let named = [classes.0, classes.1].into_iter().zip(&outcome.classes).filter(|(_, t)| t.answered > 0);
    if options.json {
        let tallies: Vec<_> = named.map(|(class, tally)| tally_json(class, tally, outcome.seconds)).collect();
        let json = json!({
            "run": name, "seconds": outcome.seconds, "generator_share": outcome.generator_share,
            "unsent": outcome.unsent, "classes": tallies,
        });
        println!("{json}");
        return;
    }
    for (class, tally) in named {
        let us = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{name} {class}: {:.0}/s, {:.2} GB/s, p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, most {:.0} us; {} from memory, {} missed, {} past their deadline, {} wrong",
            tally.ok() as f64 / outcome.seconds,
            tally.bytes as f64 / outcome.seconds / 1e9,
            us(0.5),
            us(0.99),
            us(0.999),
            us(1.0),
            tally.from_memory,
            tally.statuses[Status::NotFound as usize],
            tally.statuses[Status::DeadlineExceeded as usize],
            tally.wrong,
        );
        if !tally.failures().is_empty() {
            println!("{name} {class}: not Ok: {:?}", tally.failures());
        }
    }
    println!("generator {:.0} % busy, {} due and not sent", 100.0 * outcome.generator_share, outcome.unsent);
    if outcome.generator_share > BUSY_SHARE {
        println!("warning: the generator was more than 90 % busy: it may be what was measured");
    }
}
