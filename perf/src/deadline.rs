//! `hedgerow-perf deadline`: how late a read is answered whose targets all stall, beside how late a timer
//! of the bare runtime is, both as the client sees it, in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use hedgerow_wire::frame::Status;
use hedgerow_wire::messages::{Fault, FaultKind, FaultPlace};

use crate::bare::{self, Rounds, write_json};
use crate::bare_server::{MEMORY_BYTES, SIZES, memory_set};
use crate::figures::{fill, start_daemon};
use crate::load;
use crate::pattern::Pattern;
use crate::request::Request;
use crate::server::{DaemonBinary, Server};
use crate::sources::{Mixed, Sizes, get};
use crate::timer::{BUDGET_US, Probes, delayed_ping, describe, full_rate, probe, warn};
use crate::{control, machine};

/// Which daemon, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Deadline {
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    daemon: DaemonBinary,
    /// Probes per second
    #[arg(long, default_value_t = 500.0)]
    probes: f64,
    /// How long every device operation stalls, in milliseconds
    #[arg(long, default_value_t = 50)]
    stall_ms: u32,
}

/// Objects that are asked for while their targets stall: each once, since an answer that is too late
/// may still bring it into the memory tier.
const STALLED: (u8, u64, u64) = (b's', 20_000, 64 << 10);
/// Objects of the background load: all in the memory tier.
const HOT: (u8, u64, u64) = (b'h', 1_000, 4 << 10);
/// Shards of the daemon.
const SHARDS: u16 = 6;
/// What the figure is to be at 99.9 of 100.
const ALLOWED_US: f64 = 200.0;

fn stall(server: &Server, options: &Deadline) -> Result<()> {
    for shard in 0..SHARDS {
        let kind = FaultKind::Delay { delay_us: options.stall_ms * 1000 };
        control::inject(server.address, Fault::new(FaultPlace::Shard(shard), kind))?;
    }
    Ok(())
}

fn stalled_get(next: Arc<AtomicU64>) -> Box<dyn FnMut() -> Request + Send> {
    let (set, count, len) = STALLED;
    Box::new(move || {
        let object = next.fetch_add(1, Ordering::Relaxed) % count;
        Request { deadline_us: BUDGET_US, ..get(set, object, len) }
    })
}

fn hot_gets() -> Mixed {
    Mixed::gets(HOT.0, HOT.1, Sizes::Fixed(HOT.2))
}

fn bare_gets() -> Mixed {
    Mixed::gets(memory_set(0), MEMORY_BYTES / SIZES[0], Sizes::Fixed(SIZES[0]))
}

/// One state of the server: what was found over all rounds.
struct Found {
    name: &'static str,
    load: f64,
    daemon: hdrhistogram::Histogram<u64>,
    early: hdrhistogram::Histogram<u64>,
    bare: hdrhistogram::Histogram<u64>,
    bare_timer: hdrhistogram::Histogram<u64>,
    others: u64,
}

/// Runs all of it.
pub fn run(options: &Deadline) -> Result<()> {
    let rounds = &options.rounds;
    println!("{}", machine::describe());
    let folder = tempfile::tempdir_in(&rounds.folder)?;
    let pattern = Pattern::default();
    let bare = bare::start(folder.path(), rounds.server_core)?;
    let binary = options.daemon.path()?;
    let start = || {
        let flags = ["--memory", "4G", "--allow-faults"];
        start_daemon(&binary, &folder.path().join("daemon"), rounds.server_core, &flags)
    };
    let daemon = start()?;
    fill(&daemon, STALLED.0, STALLED.1, Sizes::Fixed(STALLED.2), &pattern)?;
    // Its memory tier is empty after that.
    daemon.stop()?;
    let daemon = start()?;
    machine::pin(rounds.generator_core)?;
    fill(&daemon, HOT.0, HOT.1, Sizes::Fixed(HOT.2), &pattern)?;
    let next = Arc::new(AtomicU64::new(0));
    let daemon_full = full_rate(&daemon, &mut hot_gets(), &pattern)?;
    let bare_full = full_rate(&bare, &mut bare_gets(), &pattern)?;
    stall(&daemon, options)?;
    let mut found = [("idle", 0.0), ("at 60 % load", 0.6)].map(|(name, load)| Found {
        name,
        load,
        daemon: load::histogram(),
        early: load::histogram(),
        bare: load::histogram(),
        bare_timer: load::histogram(),
        others: 0,
    });
    for _ in 0..rounds.count() {
        for state in &mut found {
            let rate = state.load * bare_full;
            let mut source = Probes::new(rate, options.probes, delayed_ping(), Box::new(bare_gets()));
            warn(&probe(&bare, &mut source, rounds.seconds(), &pattern)?);
            state.bare += &source.at_client;
            state.bare_timer += &source.at_server;
            let rate = state.load * daemon_full;
            let mut source =
                Probes::new(rate, options.probes, stalled_get(next.clone()), Box::new(hot_gets()));
            source.expected = Status::DeadlineExceeded;
            warn(&probe(&daemon, &mut source, rounds.seconds(), &pattern)?);
            state.daemon += &source.at_client;
            state.early += &source.early;
            state.others += source.others;
        }
    }
    report(&found);
    let json: Vec<_> = found.iter().map(Found::to_json).collect();
    write_json(rounds, serde_json::json!({ "deadline": json }))
}

impl Found {
    fn difference_us(&self, quantile: f64) -> f64 {
        (self.daemon.value_at_quantile(quantile) as f64 - self.bare.value_at_quantile(quantile) as f64) / 1e3
    }

    fn to_json(&self) -> serde_json::Value {
        let at = |histogram: &hdrhistogram::Histogram<u64>| {
            [0.5, 0.99, 0.999].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1e3)
        };
        serde_json::json!({
            "state": self.name, "daemon_late_us": at(&self.daemon), "bare_late_us": at(&self.bare),
            "bare_timer_late_us": at(&self.bare_timer), "probes": self.daemon.len(), "otherwise": self.others,
        })
    }
}

fn report(found: &[Found]) {
    println!("late by, us: p50 / p99 / p99.9 (most) of how many");
    for state in found {
        println!("{}:", state.name);
        println!("- a read with a deadline of 5 ms, all targets stalled: {}", describe(&state.daemon));
        println!("- a bare 5 ms timer answered over the same socket:     {}", describe(&state.bare));
        println!("- that timer by itself:                                {}", describe(&state.bare_timer));
        if !state.early.is_empty() {
            println!(
                "- answered before the deadline, counted as 0 late: {} by {}",
                state.early.len(),
                describe(&state.early)
            );
        }
        if state.others > 0 {
            println!("- answered otherwise than DeadlineExceeded, not counted: {}", state.others);
        }
        let difference = state.difference_us(0.999);
        let verdict = if difference <= ALLOWED_US { "within" } else { "NOT within" };
        println!("- difference at p99.9: {difference:.0} us, {verdict} {ALLOWED_US:.0} us");
    }
}
