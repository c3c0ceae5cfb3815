//! `hedgerow-perf cores`: what a request costs a daemon of two cores, beside one of one core, in processor time.
//!
//! Two daemons with the same objects are asked the same, in turns. The time is that of the daemon's threads as the
//! scheduler counts it, less what its cores looked for work in vain (`core_spin_ns`): so it does not matter that the
//! generator, on the last core, takes time from one of two cores, nor how busy the daemon is. The rates are those of
//! the daemon of one core: its peak, as a closed loop that keeps it busy, and half of that as an open loop.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::figures::fill;
use crate::load::{Mark, Plan};
use crate::measure::{STEAL_MAX, Sample, Spread, closed_for, length, observe, spread};
use crate::pattern::Pattern;
use crate::server::{DaemonOptions, Server};
use crate::sources::{Mixed, Sizes};
use crate::{control, machine};

/// Which daemon, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Cores {
    #[command(flatten)]
    daemon: DaemonOptions,
    /// Rounds that count; every round measures everything once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of every measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Lengths of objects in bytes
    #[arg(long, value_delimiter = ',', default_value = "4096,65536,1048576")]
    sizes: Vec<u64>,
    /// Core of the generator; the daemon of one core is on core 0, that of two on cores 0 and 1
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Folder for the data, on the device that is to be measured
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

const SET: u8 = b'2';
/// Bytes of objects of each length.
const BYTES: u64 = 512 << 20;
/// Rounds that may be dropped because of stolen time, for each that counts.
const DROPPED_PER_ROUND: usize = 3;
/// The open loop's share of the rate that one core has in the closed loop.
const OPEN_SHARE: f64 = 0.5;
/// More than this, and it has to be said why.
const RATIO_MAX: f64 = 1.1;
/// Where the objects are, and what the daemon is told for it.
const PLACES: [(&str, &str); 2] = [("memory", "2G"), ("device", "0")];
/// By the number of cores: what the daemon is told.
const CORES: [&str; 2] = ["0,", "0,1"];

/// One measurement of one daemon.
struct Found {
    sample: Sample,
    /// Processor time of a request, less what was spun, in microseconds.
    work_us: f64,
    spin_us: f64,
}

/// What is measured in one row, with the daemon of one core and with that of two.
struct Row {
    name: String,
    daemons: usize,
    object_len: u64,
    open: bool,
    rounds: Vec<[Found; 2]>,
}

/// Runs all of it.
pub fn run(options: &Cores) -> Result<()> {
    println!("{}", machine::describe());
    let folder = tempfile::tempdir_in(&options.folder)?;
    let pattern = Pattern::default();
    let mut daemons = Vec::new();
    let mut rows = Vec::new();
    for (place, (name, memory)) in PLACES.into_iter().enumerate() {
        for cores in CORES {
            let data = folder.path().join(format!("{name}-{}", daemons.len()));
            daemons.push(start(options, &data, cores, memory, &pattern)?);
        }
        for &object_len in &options.sizes {
            for open in [false, true] {
                let load = if open { "half of that rate" } else { "closed loop" };
                let name = format!("{}, {name}, {load}", length(object_len));
                rows.push(Row { name, daemons: 2 * place, object_len, open, rounds: Vec::new() });
            }
        }
    }
    // Not before: daemons are started with the cores that this thread has.
    machine::pin(options.generator_core)?;
    rustix::fs::sync();
    let (mut counted, mut dropped) = (0, 0);
    while counted < options.rounds && dropped <= DROPPED_PER_ROUND * options.rounds {
        let found = round(options, &daemons, &rows, &pattern)?;
        if found.iter().flatten().any(|found| found.sample.steal_share > STEAL_MAX) {
            dropped += 1;
            continue;
        }
        counted += 1;
        rows.iter_mut().zip(found).for_each(|(row, found)| row.rounds.push(found));
    }
    ensure!(counted > 0, "time was stolen in all of {dropped} rounds: there is no figure");
    print(&rows, counted, dropped);
    Ok(())
}

fn start(
    options: &Cores,
    data: &std::path::Path,
    cores: &str,
    memory: &str,
    pattern: &Pattern,
) -> Result<Server> {
    let flags = ["--listen", "127.0.0.1:0", "--shard-size", "1G", "--cores", cores, "--memory", memory];
    let mut arguments = vec!["--data".to_owned(), data.to_string_lossy().into_owned()];
    arguments.extend(flags.map(str::to_owned));
    arguments.extend(options.daemon.flags.iter().cloned());
    let server = Server::start(&options.daemon.binary.path()?, &arguments)?;
    for (number, &len) in options.sizes.iter().enumerate() {
        fill(&server, SET + number as u8, objects(len), Sizes::Fixed(len), pattern)?;
    }
    Ok(server)
}

/// Short objects have three copies, each with an entry in the index: there are no more of them than fit.
fn objects(object_len: u64) -> u64 {
    (BYTES / object_len).min(32_768)
}

/// Every row once, with one core and with two right after each other.
fn round(options: &Cores, daemons: &[Server], rows: &[Row], pattern: &Pattern) -> Result<Vec<[Found; 2]>> {
    let mut found: Vec<[Found; 2]> = Vec::new();
    for row in rows {
        // The open loop's row comes right after the closed one's.
        let rate = found.last().filter(|_| row.open).map(|[one, _]| OPEN_SHARE * one.sample.rate);
        let set = SET + options.sizes.iter().position(|len| *len == row.object_len).unwrap_or(0) as u8;
        let of = |server: &Server| {
            let plan = Plan { rate, ..closed_for(row.object_len, options.seconds) };
            let mut gets = Mixed::gets(set, objects(row.object_len), Sizes::Fixed(row.object_len));
            measure(server, &plan, &mut gets, pattern)
        };
        found.push([of(&daemons[row.daemons])?, of(&daemons[row.daemons + 1])?]);
    }
    Ok(found)
}

fn measure(server: &Server, plan: &Plan, gets: &mut Mixed, pattern: &Pattern) -> Result<Found> {
    let mut spun = Vec::new();
    let mut mark = |_: Mark| {
        let stats = control::stats(server.address);
        spun.push(stats.and_then(|stats| control::counter(&stats, "core_spin_ns")));
    };
    let (sample, outcome) = observe(server, plan, gets, pattern, &mut mark)?;
    outcome.check()?;
    let (begin, end) = (spun.remove(0)?, spun.remove(0)?);
    let answered: u64 = outcome.classes.iter().map(|tally| tally.answered).sum();
    let spin_us = (end - begin) as f64 / 1e3 / answered.max(1) as f64;
    Ok(Found { work_us: sample.cpu_us - spin_us, spin_us, sample })
}

fn print(rows: &[Row], counted: usize, dropped: usize) {
    println!(
        "\nProcessor time of the daemon for each get: median [lowest..highest] of {counted} rounds in turns"
    );
    if dropped > 0 {
        println!("{dropped} rounds with more than 3 % stolen time were dropped");
    }
    println!(
        "| get of | 1 core: gets/s | us | spun besides | 2 cores: gets/s | us | spun besides | us: 2 cores to 1 |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for row in rows {
        let of = |cores: usize, field: fn(&Found) -> f64| {
            spread(row.rounds.iter().map(|found| field(&found[cores])))
        };
        let ratio: Spread = spread(row.rounds.iter().map(|[one, two]| two.work_us / one.work_us));
        let mut line = format!("| {} |", row.name);
        for cores in [0, 1] {
            line += &format!(
                " {:.0} | {} | {:.1} |",
                of(cores, |found| found.sample.rate).median,
                of(cores, |found| found.work_us).text(2),
                of(cores, |found| found.spin_us).median
            );
        }
        let mark = if ratio.median > RATIO_MAX { " (more than 1.1)" } else { "" };
        println!("{line} {}{mark} |", ratio.text(2));
        let failed = row.rounds.iter().flatten().any(|found| !found.sample.failures.is_empty());
        if failed {
            println!("warning: {}: not all gets were answered Ok", row.name);
        }
    }
}
