//! The systems that are compared, and what is done to each.

use std::path::PathBuf;
use std::sync::Arc;

use hedgerow_client::messages::{Fault, FaultKind, FaultPlace, FaultRequest, StatsAnswer};
use hedgerow_client::{Client, Error, Request};
use hedgerow_wire::limits::FAULT_DURATION_MS_MAX;
use indicatif::{ProgressBar, ProgressStyle};

use super::daemon::{self, Daemon};
use super::load::{self, Measured};
use super::report::{Outcome, Report};
use super::workload::Workload;
use crate::failure::Failure;

/// What is to be shown.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Length of each of the two phases of each system, in seconds.
    pub seconds: u32,
    /// Reads a second.
    pub rate: u32,
    /// Objects to be stored.
    pub objects: u32,
    /// Share of the reads of the damaged shard that give wrong bytes, in millionths.
    pub damage_ppm: u32,
    /// Where the daemons' files go; the system's folder for temporary files if there is none.
    pub folder: Option<PathBuf>,
}

/// A way to keep objects.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Its name in the report.
    pub name: &'static str,
    /// Its name in JSON.
    pub id: &'static str,
    code: &'static str,
    policy: &'static str,
}

/// What is compared.
pub const SYSTEMS: [System; 3] = [
    System { name: "4+2 hedged", id: "coded_hedged", code: "4+2", policy: "hedged" },
    System { name: "4+2 all", id: "coded_all", code: "4+2", policy: "all" },
    System { name: "whole copies", id: "whole_copies", code: "1+0", policy: "hedged" },
];

/// Shards of each daemon.
const SHARDS: &str = "6";
/// Length of each shard file: the least that a daemon takes.
const SHARD_SIZE: &str = "256M";
/// Small, so that most reads come from the devices.
const MEMORY: &str = "4M";
/// The shard that is slow, and by how much.
const SLOW_SHARD: u16 = 1;
/// What every operation of the slow shard takes longer, in microseconds.
pub const SLOW_US: u32 = 50_000;
/// The shard that gives wrong bytes.
const DAMAGED_SHARD: u16 = 4;

/// Does it all. Everything that it starts and writes is gone when it returns or is dropped.
pub async fn run(plan: &Plan) -> Result<Report, Failure> {
    let program = daemon::program()?;
    let workload = Arc::new(Workload::new(plan.objects));
    let bar = progress_bar();
    let mut outcomes = Vec::new();
    for system in SYSTEMS {
        // One after the other: none is slowed down by the others' work.
        let folder = temporary_folder(plan)?;
        let flags = ["--shards", SHARDS, "--shard-size", SHARD_SIZE, "--memory", MEMORY];
        let kept = ["--code", system.code, "--read-policy", system.policy];
        let flags: Vec<&str> = flags.into_iter().chain(kept).collect();
        show(&bar, 0, format!("{}: starting a daemon", system.name));
        let daemon = Daemon::start(&program, &folder.path().join("daemon"), &flags).await?;
        outcomes.extend(run_system(plan, system, &daemon, &workload, &bar).await?);
        drop(daemon);
        folder
            .close()
            .map_err(|error| Failure::local(format!("cannot remove the daemon's files: {error}")))?;
    }
    bar.finish_and_clear();
    Ok(Report { plan: plan.clone(), stored_bytes: workload.total_bytes(), outcomes })
}

async fn run_system(
    plan: &Plan,
    system: System,
    daemon: &Daemon,
    workload: &Arc<Workload>,
    bar: &ProgressBar,
) -> Result<Vec<Outcome>, Failure> {
    let client = Client::builder().fail_fast(true).connect(daemon.address.as_str()).await;
    let client = client.map_err(trouble("connecting"))?;
    show(bar, u64::from(plan.objects), format!("{}: storing objects", system.name));
    load::fill(&client, workload, bar).await?;
    let request = client.request();
    let mut outcomes = Vec::new();
    for faulty in [false, true] {
        if faulty {
            inject(&request, plan).await?;
        }
        let reads = u64::from(plan.rate) * u64::from(plan.seconds);
        let state = if faulty { "faulty" } else { "healthy" };
        show(bar, reads, format!("{}: reading, {state} devices", system.name));
        let before = request.stats().await.map_err(trouble("reading counters"))?;
        let first = if faulty { reads } else { 0 };
        let measured = load::read(&client, workload, plan.rate, plan.seconds, first, bar).await?;
        let after = request.stats().await.map_err(trouble("reading counters"))?;
        outcomes.push(outcome(system, faulty, measured, &before, &after));
    }
    Ok(outcomes)
}

/// A daemon of the demonstration's own failed while something was done with it.
pub fn trouble(what: &str) -> impl Fn(Error) -> Failure + '_ {
    move |error| Failure::Daemon(format!("demo: {what}: {error}"))
}

async fn inject(request: &Request, plan: &Plan) -> Result<(), Failure> {
    let faults = [
        (SLOW_SHARD, FaultKind::Delay { delay_us: SLOW_US }, Fault::SHARE_ALL_PPM),
        (DAMAGED_SHARD, FaultKind::Damage, plan.damage_ppm),
    ];
    for (shard, kind, share_ppm) in faults {
        let place = FaultPlace::Shard(shard);
        let fault = Fault { place, kind, share_ppm, duration_ms: FAULT_DURATION_MS_MAX };
        let injected = request.fault(&FaultRequest::Inject(fault)).await;
        injected.map_err(trouble("injecting a fault"))?;
    }
    Ok(())
}

fn outcome(
    system: System,
    faulty: bool,
    measured: Measured,
    before: &StatsAnswer,
    after: &StatsAnswer,
) -> Outcome {
    let counter = |stats: &StatsAnswer, name: &str| {
        stats.counters.iter().filter(|counter| counter.name == name).map(|counter| counter.value).sum::<u64>()
    };
    let grown = |name: &str| counter(after, name).saturating_sub(counter(before, name));
    let asked =
        ["coordinator_part_reads", "coordinator_hedges", "coordinator_probes"].map(grown).iter().sum();
    Outcome {
        system,
        faulty,
        part_reads: asked,
        hedges: grown("coordinator_hedges"),
        parts_repaired: grown("coordinator_parts_repaired"),
        measured,
    }
}

/// A folder that is gone when it is dropped. On a disk rather than in memory, where devices cannot be
/// read past the cache.
fn temporary_folder(plan: &Plan) -> Result<tempfile::TempDir, Failure> {
    let by_environment = std::env::var_os("TMPDIR").map(PathBuf::from);
    let disk = || Some(PathBuf::from("/var/tmp")).filter(|folder| folder.is_dir());
    let parent = plan.folder.clone().or(by_environment).or_else(disk).unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("hedgerow-demo-").tempdir_in(&parent);
    folder.map_err(|error| Failure::file("make a folder in", &parent, &error))
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, len: u64, message: String) {
    bar.reset();
    bar.set_length(len);
    bar.set_message(message);
}
