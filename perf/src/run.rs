//! `hedgerow-perf run`: any load against any server that speaks one of the protocols, or against a daemon
//! that is started for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::clock;
use crate::driver::{Endpoint, HTTP_PATH, Protocol};
use crate::figures::start_daemon;
use crate::load::{self, Mark, Outcome, Plan, Progress, Source};
use crate::machine::{self, Ticks};
use crate::pattern::{Check, Pattern};
use crate::record;
use crate::server::{DaemonBinary, Server};
use crate::trace::Trace;
use crate::workload::Workload;

/// Set of the objects.
const SET: u8 = b'l';

/// A load.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// The server [default: a daemon is started on core 0]
    #[arg(long)]
    server: Option<SocketAddr>,
    /// What it speaks
    #[arg(long, value_enum, default_value = "hedgerow")]
    driver: Protocol,
    /// Path of an object on an HTTP server; {key}, {object} and {len} are replaced
    #[arg(long, default_value = HTTP_PATH)]
    http_path: String,
    /// Arrivals per second, at random times, latency from when each was due; none: a closed loop
    #[arg(long)]
    rate: Option<f64>,
    /// Connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests under way on each connection at most
    #[arg(long, default_value_t = 4)]
    depth: usize,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Seconds that are counted
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    #[command(flatten)]
    workload: Workload,
    /// Replay a trace of block requests in its order: a file, or meta-storage-blocks
    #[arg(long, conflicts_with_all = ["workload", "rate"])]
    trace: Option<PathBuf>,
    /// The trace's clock runs so much faster than ours; none: as fast as it goes
    #[arg(long, requires = "trace")]
    pace: Option<f64>,
    /// So many requests of the trace at most
    #[arg(long, requires = "trace")]
    requests: Option<usize>,
    /// Put every object first
    #[arg(long)]
    preload: bool,
    /// What is checked of every answer, beside its checksum
    #[arg(long, value_enum, default_value_t = Check::Stamps)]
    check: Check,
    /// Core of the generator
    #[arg(long)]
    core: Option<usize>,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
    /// Write the percentiles of all latencies to this file, in HdrHistogram's format
    #[arg(long)]
    hgrm: Option<PathBuf>,
    /// Leave the run in this folder for `hedgerow-perf report`
    #[arg(long)]
    out: Option<PathBuf>,
    /// Name of the run in a report
    #[arg(long, default_value = "run")]
    name: String,
    /// No line on standard error while it runs
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    daemon: DaemonBinary,
    /// Folder for the data of the daemon that is started
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Flags for the daemon that is started
    #[arg(long, num_args = 1.., allow_hyphen_values = true, value_delimiter = ' ', default_values = ["--shard-size", "2G"])]
    flags: Vec<String>,
}

impl Run {
    fn plan(&self) -> Plan {
        let replayed = self.trace.is_some();
        let seconds = |seconds| Duration::from_secs_f64(seconds);
        Plan {
            connections: self.connections,
            depth: self.depth,
            rate: self.rate,
            warmup: if replayed { Duration::ZERO } else { seconds(self.warmup) },
            duration: if replayed { None } else { Some(seconds(self.seconds)) },
            check: self.check,
        }
    }

    fn sources(&self) -> Result<Vec<Box<dyn Source>>> {
        match &self.trace {
            Some(path) => {
                ensure!(self.threads == 1, "a trace keeps its order: it is replayed by one thread");
                let deadline_us = self.workload.deadline_ms.saturating_mul(1000);
                Ok(vec![Box::new(Trace::open(path, self.requests, self.pace, deadline_us)?)])
            }
            None => self.workload.sources(SET, self.threads),
        }
    }

    fn options_json(&self) -> Value {
        json!({
            "driver": format!("{:?}", self.driver), "rate": self.rate, "connections": self.connections,
            "depth": self.depth, "threads": self.threads, "warmup": self.warmup,
            "size": format!("{:?}", self.workload.size), "objects": self.workload.objects,
            "workload": self.workload.workload.map(|named| format!("{named:?}")),
            "popularity": format!("{:?}", self.workload.popularity), "mix": self.workload.mix.0,
            "trace": self.trace, "pace": self.pace, "flags": self.flags,
        })
    }
}

/// Runs it.
pub fn run(options: &Run) -> Result<()> {
    if let Some(core) = options.core {
        machine::pin(core)?;
    }
    let folder = tempfile::tempdir_in(&options.folder)?;
    let daemon = daemon(options, &folder.path().join("daemon"))?;
    let address = options.server.or(daemon.as_ref().map(|daemon| daemon.address));
    let mut endpoint = Endpoint::new(address.context("an address")?, options.driver);
    endpoint.http_path.clone_from(&options.http_path);
    let pattern = Pattern::default();
    let plan = options.plan();
    if options.preload {
        preload(options, &endpoint, &plan, &pattern)?;
    }
    let mut sources = options.sources()?;
    let mut ticks = Vec::new();
    let mut mark = |_: Mark| ticks.push(Ticks::read());
    let progress = Progress::default();
    let outcome = with_progress(options, &progress, || {
        load::run_all(&endpoint, &plan, &mut sources, &pattern, &mut mark, &progress)
    })?;
    let steal_share = match &mut ticks[..] {
        [Ok(begin), Ok(end)] => end.others_since(*begin, 0).1,
        _ => bail!("/proc/stat cannot be read"),
    };
    leave(options, &outcome, steal_share)?;
    outcome.check()
}

fn daemon(options: &Run, folder: &std::path::Path) -> Result<Option<Server>> {
    if options.server.is_some() {
        return Ok(None);
    }
    ensure!(
        options.driver == Protocol::Hedgerow,
        "only a Hedgerow daemon is started: say where the --server is"
    );
    let binary = options.daemon.path()?;
    let flags: Vec<&str> = options.flags.iter().map(String::as_str).collect();
    start_daemon(&binary, folder, 0, &flags).map(Some)
}

fn preload(options: &Run, endpoint: &Endpoint, plan: &Plan, pattern: &Pattern) -> Result<()> {
    let mut source = options.workload.preload(SET)?;
    let plan = Plan { rate: None, duration: None, warmup: Duration::ZERO, ..plan.clone() };
    let outcome = load::run(endpoint, &plan, &mut source, pattern, &mut |_| {})?;
    if !options.json {
        record::print(&outcome);
    }
    Ok(())
}

/// Says on standard error what the work has done, every second, until it ends.
fn with_progress<T>(options: &Run, progress: &Progress, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(options.quiet);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut last, mut last_bytes, mut shown) = (0, 0, false);
            let started = clock::now_ns();
            let mut next = started + 1_000_000_000;
            while !over.load(Ordering::Relaxed) {
                clock::sleep(Duration::from_millis(50));
                if clock::now_ns() < next {
                    continue;
                }
                next += 1_000_000_000;
                let at = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
                let (ok, failed, bytes) = (at(&progress.ok), at(&progress.failed), at(&progress.bytes));
                eprint!(
                    "\r{:4} s  {:9}/s  {:7.1} MB/s  {ok} ok, {failed} not  ",
                    (clock::now_ns() - started) / 1_000_000_000,
                    ok - last,
                    (bytes - last_bytes) as f64 / 1e6
                );
                (last, last_bytes, shown) = (ok, bytes, true);
            }
            if shown {
                eprintln!();
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Says and writes what was found.
fn leave(options: &Run, outcome: &Outcome, steal_share: f64) -> Result<()> {
    let record = json!({
        "kind": "run", "name": options.name, "machine": machine::describe(), "options": options.options_json(),
        "rate_wanted": options.rate, "steal_share": steal_share, "outcome": record::outcome_json(outcome),
    });
    if options.json {
        println!("{}", serde_json::to_string(&record)?);
    } else {
        record::print(outcome);
        println!("the hypervisor took {:.1} % of the processors", 100.0 * steal_share);
    }
    if let Some(path) = &options.hgrm {
        let text = record::hgrm(&outcome.latency());
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(folder) = &options.out {
        let path = record::save(folder, &options.name, &record)?;
        eprintln!("left in {}", path.display());
    }
    Ok(())
}
