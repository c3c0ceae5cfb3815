//! `hedgerow-perf figures`: one core of the daemon beside the bare server, in turns.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::bare::{self, BareLoad, LOADS, Puts, Rounds, write_json};
use crate::bare_server::{MEMORY_BYTES, REGION_BYTES, SIZES};
use crate::load::{Mark, Plan, Source};
use crate::machine;
use crate::measure::{Series, Watched, closed, closed_for, measure, print_table};
use crate::pattern::{Check, Pattern};
use crate::request::Class;
use crate::server::{DaemonOptions, Server};
use crate::sources::{Fill, Mixed, Sizes};

/// Which daemon, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Figures {
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    daemon: DaemonOptions,
    /// One request at a time: latency without queueing
    #[arg(long)]
    single: bool,
}

/// Starts a daemon on one core with its data in a folder.
pub fn start_daemon(binary: &Path, folder: &Path, core: usize, flags: &[&str]) -> Result<Server> {
    let mut arguments: Vec<String> =
        ["--data", &folder.to_string_lossy(), "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
    // A list of one: a number alone is how many.
    arguments.extend(["--cores".to_owned(), format!("{core},")]);
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Server::start(binary, &arguments)
}

/// Puts objects `0..count` of a set; every one must be acknowledged.
pub fn fill(server: &Server, set: u8, count: u64, sizes: Sizes, pattern: &Pattern) -> Result<()> {
    let mut source = Fill::new(set, count, sizes);
    let plan = Plan { duration: None, warmup: std::time::Duration::ZERO, ..closed(4, 8, 0.0) };
    let outcome = crate::load::run(&server.endpoint(), &plan, &mut source, pattern, &mut |_: Mark| {})?;
    let failures = outcome.of(Class::Fill).failures();
    ensure!(failures.is_empty(), "putting objects failed: {failures:?}");
    Ok(())
}

struct Daemons {
    memory: Server,
    device: Server,
    put: Server,
}

impl Daemons {
    fn start(options: &Figures, folder: &Path, pattern: &Pattern) -> Result<Daemons> {
        let binary = options.daemon.binary.path()?;
        let core = options.rounds.server_core;
        let start = |name: &str, memory: &str| {
            // The index has a slot for about 14 KiB: room for the small objects' copies.
            let mut flags = vec!["--memory", memory, "--shard-size", "2G"];
            flags.extend(options.daemon.flags.iter().map(String::as_str));
            start_daemon(&binary, &folder.join(name), core, &flags)
        };
        let daemons = Daemons {
            memory: start("memory", "1G")?,
            device: start("device", "0")?,
            put: start("put", "256M")?,
        };
        for (class, &len) in SIZES.iter().enumerate() {
            let set = b'0' + class as u8;
            fill(&daemons.memory, set, MEMORY_BYTES / len, Sizes::Fixed(len), pattern)?;
            fill(&daemons.device, set, device_objects(options, len), Sizes::Fixed(len), pattern)?;
        }
        Ok(daemons)
    }

    fn of(&self, load: BareLoad) -> &Server {
        match load {
            BareLoad::Memory => &self.memory,
            BareLoad::Device => &self.device,
            BareLoad::Put => &self.put,
        }
    }
}

/// The bare server has as much on its device.
fn device_objects(options: &Figures, len: u64) -> u64 {
    let bytes = if options.rounds.quick { REGION_BYTES / 8 } else { REGION_BYTES };
    bytes / len
}

fn source(options: &Figures, load: BareLoad, class: usize) -> Box<dyn Source> {
    let (len, set) = (SIZES[class], b'0' + class as u8);
    match load {
        BareLoad::Memory => Box::new(Mixed::gets(set, MEMORY_BYTES / len, Sizes::Fixed(len))),
        BareLoad::Device => Box::new(Mixed::gets(set, device_objects(options, len), Sizes::Fixed(len))),
        BareLoad::Put => Box::new(Puts { set, next: 0, objects: REGION_BYTES / len, object_len: len }),
    }
}

/// Runs all of it.
pub fn run(options: &Figures) -> Result<()> {
    let rounds = &options.rounds;
    println!("{}", machine::describe());
    let folder = tempfile::tempdir_in(&rounds.folder)?;
    let pattern = Pattern::default();
    let bare = bare::start(folder.path(), rounds.server_core)?;
    let daemons = Daemons::start(options, folder.path(), &pattern)?;
    machine::pin(rounds.generator_core)?;
    let plan = |len| {
        let single = Plan { check: Check::Stamps, ..closed(1, 1, rounds.seconds()) };
        if options.single { single } else { closed_for(len, rounds.seconds()) }
    };
    let mut rows: Vec<Series> = Vec::new();
    let mut bare_rows: Vec<Series> = Vec::new();
    for round in 0..rounds.count() {
        for (place, (load, name)) in LOADS.iter().enumerate() {
            for (class, &len) in SIZES.iter().enumerate() {
                if round == 0 {
                    rows.push(Series::new(&name.replace("bare ", ""), len));
                    bare_rows.push(Series::new(name, len));
                }
                let row = place * SIZES.len() + class;
                let (sample, _) = measure(&bare, &plan(len), &mut *load.source(class), &pattern)?;
                bare_rows[row].samples.push(sample);
                let server = daemons.of(*load);
                let (sample, _) = measure(server, &plan(len), &mut *source(options, *load, class), &pattern)?;
                rows[row].samples.push(sample);
            }
        }
    }
    check_sources(&rows)?;
    print_table(&rows, &bare_rows.iter().cloned().map(Some).collect::<Vec<_>>());
    println!();
    print_table(&bare_rows, &[]);
    let json = |rows: &[Series]| rows.iter().map(Series::to_json).collect::<Vec<_>>();
    write_json(rounds, serde_json::json!({ "hedgerow": json(&rows), "bare": json(&bare_rows) }))
}

/// What is said to come from memory must, and what is said to come from the device too.
fn check_sources(rows: &[Series]) -> Result<()> {
    for row in rows {
        let expected = match row.name.as_str() {
            "GET, memory" => 1.0,
            "GET, device" => 0.0,
            _ => continue,
        };
        let share = row.spread(|sample| sample.from_memory).median;
        if (share - expected).abs() > 0.01 {
            println!("warning: {}: {:.0} % came from the memory tier", row.name, 100.0 * share);
        }
    }
    Ok(())
}
