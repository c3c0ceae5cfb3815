//! `hedgerow-perf limit`: what the machine can do at all. The device by a bare io_uring loop, and by `fio`
//! where it is installed; the loopback socket; copies, checksums and codec kernels.

pub mod device;
mod kernels;
mod socket;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use crate::machine::{self, Ticks};
use crate::measure::{STEAL_MAX, length, spread};
use crate::record;

/// How much, how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Limit {
    /// Rounds that count; every round measures everything once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of every measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Lengths of reads, writes and sends in bytes
    #[arg(long, value_delimiter = ',', default_value = "4096,65536,524288,1048576")]
    sizes: Vec<usize>,
    /// How many reads or writes at a time
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    depths: Vec<u32>,
    /// Length of the file that is read and written, in MiB
    #[arg(long, default_value_t = 2048)]
    file_mib: u64,
    /// Folder for it, on the device that is to be measured
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Core of all loops
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Core of the socket's other end
    #[arg(long, default_value_t = 1)]
    other_core: usize,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
    /// Leave it in this folder for `hedgerow-perf report`
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What one loop found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// Median of an operation in microseconds; 0: not measured.
    pub p50_us: f64,
    /// 99 of 100 are at most this.
    pub p99_us: f64,
    /// Processor time of the loop for each byte, in nanoseconds; 0: not measured.
    pub cpu_ns_per_byte: f64,
}

/// Something that is measured once each round.
pub struct Loop {
    /// What it is.
    pub name: String,
    /// Bytes of an operation.
    pub len: usize,
    /// Operations at a time.
    pub depth: u32,
    /// Runs it for some seconds.
    pub run: Box<dyn FnMut(f64) -> Result<Found>>,
}

/// Runs all of it.
pub fn run(options: &Limit) -> Result<()> {
    println!("{}", machine::describe());
    let folder = tempfile::tempdir_in(&options.folder)?;
    let path = folder.path().join("limit");
    device::write_file(&path, options.file_mib << 20)?;
    let mut loops = device::loops(&path, options.file_mib << 20, &options.sizes, &options.depths)?;
    loops.extend(socket::loops(&options.sizes, options.other_core));
    loops.extend(kernels::loops()?);
    machine::pin(options.core)?;
    let mut rounds: Vec<Vec<Found>> = vec![Vec::new(); loops.len()];
    let (mut counted, mut dropped) = (0, 0);
    while counted < options.rounds && dropped <= 3 * options.rounds {
        let before = Ticks::read()?;
        let mut found = Vec::new();
        for each in &mut loops {
            found.push((each.run)(options.seconds)?);
        }
        if Ticks::read()?.others_since(before, 0).1 > STEAL_MAX {
            dropped += 1;
            continue;
        }
        counted += 1;
        rounds.iter_mut().zip(found).for_each(|(rounds, found)| rounds.push(found));
    }
    anyhow::ensure!(counted > 0, "time was stolen in all of {dropped} rounds: there is no figure");
    if dropped > 0 {
        println!("{dropped} rounds with more than 3 % stolen time were dropped");
    }
    leave(options, &loops, &rounds, dropped)
}

fn leave(options: &Limit, loops: &[Loop], rounds: &[Vec<Found>], dropped: usize) -> Result<()> {
    let of = |rounds: &[Found], field: fn(&Found) -> f64| spread(rounds.iter().map(field));
    let rows: Vec<Value> = loops
        .iter()
        .zip(rounds)
        .map(|(each, rounds)| {
            json!({
                "what": each.name, "len": each.len, "depth": each.depth,
                "bytes_per_second": of(rounds, |found| found.bytes_per_second).to_json(),
                "p50_us": of(rounds, |found| found.p50_us).to_json(),
                "p99_us": of(rounds, |found| found.p99_us).to_json(),
                "cpu_ns_per_byte": of(rounds, |found| found.cpu_ns_per_byte).to_json(),
            })
        })
        .collect();
    let record = json!({
        "kind": "limit", "machine": machine::describe(), "rounds_dropped": dropped, "seconds": options.seconds,
        "rows": rows,
    });
    if options.json {
        println!("{}", serde_json::to_string(&record)?);
    } else {
        print(loops, rounds);
    }
    if let Some(folder) = &options.out {
        record::save(folder, "limit", &record)?;
    }
    Ok(())
}

fn print(loops: &[Loop], rounds: &[Vec<Found>]) {
    println!("| what | size | at a time | GB/s | per second | p50 us | p99 us | CPU ms per GB |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (each, rounds) in loops.iter().zip(rounds) {
        let of = |field: fn(&Found) -> f64| spread(rounds.iter().map(field));
        let rate = of(|found| found.bytes_per_second / 1e9);
        let known = |value: f64, digits: usize| match value > 0.0 {
            true => format!("{value:.digits$}"),
            false => "-".to_owned(),
        };
        println!(
            "| {} | {} | {} | {:.2} [{:.2}..{:.2}] | {:.0} | {} | {} | {} |",
            each.name,
            length(each.len as u64),
            each.depth,
            rate.median,
            rate.min,
            rate.max,
            rate.median * 1e9 / each.len as f64,
            known(of(|found| found.p50_us).median, 0),
            known(of(|found| found.p99_us).median, 0),
            known(of(|found| found.cpu_ns_per_byte).median * 1e3, 1),
        );
    }
}
