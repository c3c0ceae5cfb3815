//! `hedgerow-perf bare`: what the machine and the runtime give when nothing of Hedgerow is in the way.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use glommio::io::OpenOptions;
use glommio::{LocalExecutorBuilder, Placement};

use crate::bare_server::{MEMORY_BYTES, REGION_BYTES, SIZES, device_set, memory_set, write_zeroes};
use crate::load::{Next, Plan, Source};
use crate::measure::{Series, Spread, closed_for, measure, print_table, spread};
use crate::pattern::Pattern;
use crate::request::{Answer, Class, Kind, Request};
use crate::server::Server;
use crate::sources::{Mixed, Sizes, put};
use crate::{clock, machine, timer};

/// How long and how often.
#[derive(Clone, Debug, clap::Args)]
pub struct Rounds {
    /// Rounds; every round measures everything once
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of every measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// One short round of each
    #[arg(long)]
    pub quick: bool,
    /// Folder for the data, on the device that is to be measured
    #[arg(long, default_value = ".")]
    pub folder: std::path::PathBuf,
    /// Core of the server
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of the generator
    #[arg(long, default_value_t = 1)]
    pub generator_core: usize,
    /// Write all rounds to this file as JSON
    #[arg(long)]
    pub json: Option<std::path::PathBuf>,
}

impl Rounds {
    /// How many rounds.
    pub fn count(&self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }

    /// Seconds of one measurement.
    pub fn seconds(&self) -> f64 {
        if self.quick { self.seconds.min(0.5) } else { self.seconds }
    }
}

/// What a bare server is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BareLoad {
    /// Objects in memory.
    Memory,
    /// Objects on the device.
    Device,
    /// Puts.
    Put,
}

/// Puts of numbered objects, each once.
pub struct Puts {
    /// Set of the objects.
    pub set: u8,
    /// The next object.
    pub next: u64,
    /// The number of objects before the first is put again.
    pub objects: u64,
    /// Length of each.
    pub object_len: u64,
}

impl Source for Puts {
    fn next(&mut self) -> Next {
        self.next += 1;
        Next::Request(put(self.set, self.next % self.objects, self.object_len))
    }
}

impl BareLoad {
    /// The load of objects of length `SIZES[class]`.
    pub fn source(self, class: usize) -> Box<dyn Source> {
        let len = SIZES[class];
        match self {
            BareLoad::Memory => {
                Box::new(Mixed::gets(memory_set(class), MEMORY_BYTES / len, Sizes::Fixed(len)))
            }
            BareLoad::Device => {
                Box::new(Mixed::gets(device_set(class), REGION_BYTES / len, Sizes::Fixed(len)))
            }
            BareLoad::Put => Box::new(Puts { set: b'p', next: 0, objects: u64::MAX, object_len: len }),
        }
    }
}

/// Starts a bare server in a process of its own.
pub fn start(folder: &Path, core: usize) -> Result<Server> {
    let arguments = ["bare-serve", "--folder", &folder.to_string_lossy(), "--core", &core.to_string()];
    Server::start(&std::env::current_exe()?, &arguments.map(str::to_owned))
}

/// Names of the loads.
pub const LOADS: [(BareLoad, &str); 3] = [
    (BareLoad::Memory, "bare GET, memory"),
    (BareLoad::Device, "bare GET, device"),
    (BareLoad::Put, "bare PUT"),
];

/// Runs all of it.
pub fn run(rounds: &Rounds) -> Result<()> {
    println!("{}", machine::describe());
    let folder = tempfile::tempdir_in(&rounds.folder)?;
    let server = start(folder.path(), rounds.server_core)?;
    machine::pin(rounds.generator_core)?;
    let pattern = Pattern::default();
    let mut series: Vec<Series> = Vec::new();
    for round in 0..rounds.count() {
        for (place, (load, name)) in LOADS.iter().enumerate() {
            for (class, &len) in SIZES.iter().enumerate() {
                if round == 0 {
                    series.push(Series::new(name, len));
                }
                let plan = closed_for(len, rounds.seconds());
                let (sample, _) = measure(&server, &plan, &mut *load.source(class), &pattern)?;
                series[place * SIZES.len() + class].samples.push(sample);
            }
        }
    }
    print_table(&series, &[]);
    println!();
    print_timers(&server, rounds, &pattern)?;
    server.kill()?;
    println!();
    for (name, gb) in sequential_writes(folder.path(), rounds)? {
        println!("{name}: {:.2} GB/s [{:.2}..{:.2}]", gb.median, gb.min, gb.max);
    }
    write_json(rounds, serde_json::json!({ "bare": series.iter().map(Series::to_json).collect::<Vec<_>>() }))
}

/// Writes the result of a run where it was asked for.
pub fn write_json(rounds: &Rounds, value: serde_json::Value) -> Result<()> {
    if let Some(path) = &rounds.json {
        std::fs::write(path, serde_json::to_string_pretty(&value)?)?;
    }
    Ok(())
}

fn print_timers(server: &Server, rounds: &Rounds, pattern: &Pattern) -> Result<()> {
    println!("lateness of 5 ms timers in the bare server, us: p50 / p99 / p99.9 (most) of how many");
    let seconds = rounds.seconds() * rounds.count() as f64;
    for (name, load) in [("idle", 0.0), ("at 60 % load", 0.6)] {
        let background = || Mixed::gets(memory_set(0), MEMORY_BYTES / SIZES[0], Sizes::Fixed(SIZES[0]));
        let rate = load * timer::full_rate(server, &mut background(), pattern)?;
        let mut source = timer::Probes::new(rate, 500.0, timer::delayed_ping(), Box::new(background()));
        let outcome = timer::probe(server, &mut source, seconds, pattern)?;
        println!("- {name}, at the timer: {}", timer::describe(&source.at_server));
        println!("- {name}, at the client: {}", timer::describe(&source.at_client));
        timer::warn(&outcome);
    }
    Ok(())
}

/// Sequential O_DIRECT writes of 1 MiB, so many at a time, into a file that was written before and into
/// one that was only allocated. GB/s.
fn sequential_writes(folder: &Path, rounds: &Rounds) -> Result<Vec<(String, Spread)>> {
    const FILE_BYTES: u64 = 1 << 30;
    let mut results = Vec::new();
    for (state, written) in [("written before", true), ("only allocated", false)] {
        for depth in [1usize, 4, 8] {
            let mut rates = Vec::new();
            for _ in 0..rounds.count() {
                let path = folder.join("writes");
                if written {
                    write_zeroes(&path, FILE_BYTES)?;
                } else {
                    allocate(&path, FILE_BYTES)?;
                }
                rates.push(write_all(&path, FILE_BYTES, depth, rounds.server_core)?);
                std::fs::remove_file(&path)?;
            }
            let name = format!("bare sequential O_DIRECT writes of 1 MiB, {depth} at a time, {state}");
            results.push((name, spread(rates)));
        }
    }
    Ok(results)
}

/// As the daemon allocates its shards: a real first block, the rest without.
fn allocate(path: &Path, len: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)?;
    file.write_all_at(&[0; 4096], 0)?;
    file.sync_all()?;
    Ok(())
}

/// GB/s.
fn write_all(path: &Path, len: u64, depth: usize, core: usize) -> Result<f64> {
    let path = path.to_owned();
    let task = move || async move {
        let file = OpenOptions::new().read(true).write(true).dma_open(&path).await;
        let file = Rc::new(file.map_err(|error| anyhow::anyhow!("{error}"))?);
        let begun = clock::now_ns();
        let next = Rc::new(std::cell::Cell::new(0));
        let workers: Vec<_> = (0..depth)
            .map(|_| {
                let (file, next) = (file.clone(), next.clone());
                glommio::spawn_local(async move {
                    let mut buffer = file.alloc_dma_buffer(1 << 20);
                    Pattern::default().fill(1, 0, buffer.as_bytes_mut());
                    let buffer = Rc::new(buffer);
                    while next.get() < len {
                        let at = next.replace(next.get() + (1 << 20));
                        file.write_rc_at(buffer.clone(), at).await.map_err(|e| anyhow::anyhow!("{e}"))?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.await?;
        }
        anyhow::Ok(len as f64 / (clock::now_ns() - begun) as f64)
    };
    let builder = LocalExecutorBuilder::new(Placement::Fixed(core));
    let handle = builder.spawn(task).map_err(|error| anyhow::anyhow!("{error}"))?;
    handle.join().map_err(|error| anyhow::anyhow!("{error}"))?
}

/// A request that the bare server answers after `budget`.
pub fn ping(budget: Duration) -> Request {
    Request {
        kind: Kind::DelayedPing,
        set: 0,
        version: 0,
        object: 0,
        object_len: 0,
        deadline_us: budget.as_micros() as u32,
        class: Class::Probe,
    }
}

/// How late a delayed ping was answered at the server, if this is its answer.
pub fn lateness_ns(answer: &Answer) -> Option<u64> {
    (answer.request.kind == Kind::DelayedPing)
        .then(|| answer.body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)))?
}

/// An open loop for probes beside a background load.
pub fn open(rate: f64, seconds: f64) -> Plan {
    Plan { rate: Some(rate), ..crate::measure::closed(8, 128, seconds) }
}
