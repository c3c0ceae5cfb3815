//! `hedgerow-perf scenarios`: what becomes of the tail when a device is slow, stuck or dead, memory is short,
//! devices are full or the daemon is cold; for hedged reads and for the ways that they are to be better than.
//!
//! In every round each system has a daemon of its own, one after the other, on files that were written
//! before. Its healthy peak is found first; all of its scenarios then get the same share of that, as an open
//! loop: a latency counts from when the request was due. They run on the same daemon, the healthy one first,
//! so that a ratio to it is of one process, one set of objects and one stretch of time. Where a scenario says
//! otherwise (half memory, a cold start), or leaves something behind (those, and a failing shard, which may be
//! set aside for a while), the daemon is started again on the same files, and every object is read once
//! before the next one. Faults are injected over the wire by a thread of the generator, at their times within
//! the window.

pub(crate) mod cell;
pub(crate) mod faults;
mod rig;
mod settle;
mod systems;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use hedgerow_wire::limits::{PART_HEADER_LEN, STRIPE_LEN_MAX};

use self::cell::{Cell, Window};
use self::faults::{SCENARIOS, Scenario, Trouble, WINDOW_MAX};
use self::rig::Rig;
pub use self::systems::K_OF_K;
use self::systems::{SYSTEMS, System};
use crate::clock;
use crate::limit::device;
use crate::machine;
use crate::measure::{STEAL_MAX, length};
use crate::pattern::Pattern;
use crate::record;
use crate::server::DaemonOptions;

/// Rate of a system, as a share of its own healthy peak.
pub(crate) const RATE_SHARE: f64 = 0.4;
/// Connections, and requests under way on each at most: enough that no arrival has to wait for one that is
/// stuck, of which a connection's daemon has 32 at a time.
pub(crate) const UNDER_WAY: (usize, usize) = (64, 32);
/// On all of them.
const UNDER_WAY_MAX: usize = UNDER_WAY.0 * UNDER_WAY.1;
/// How often a scenario is measured until the hypervisor leaves it in peace.
const TRIES: usize = 3;
/// Room beside a part's bytes: its head, its key, and that it need not begin with a block.
const BESIDE_PART_BYTES: usize = PART_HEADER_LEN + 64;

/// Which systems and scenarios, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Scenarios {
    /// A system: '4+2 hedged', '4+2 all', k-of-k, 'whole copy' or '2 copies'; may be repeated [default: all]
    #[arg(long = "system")]
    systems: Vec<&'static System>,
    /// A scenario, beside the healthy one: 'delay 50 ms', stall, ... (a wrong name prints all); may be repeated [default: all]
    #[arg(long = "scenario")]
    scenarios: Vec<&'static Scenario>,
    /// Rounds; every round measures every system and scenario once
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Seconds that are counted of every scenario [default: 10; quick: 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// So many requests of every scenario instead
    #[arg(long, conflicts_with = "seconds")]
    requests: Option<u64>,
    /// Rate, as a share of the system's own healthy peak
    #[arg(long, default_value_t = RATE_SHARE)]
    rate_share: f64,
    /// Requests a second of every system instead
    #[arg(long)]
    rate: Option<f64>,
    /// Length of objects in bytes, 1 MiB at most
    #[arg(long, default_value_t = 65_536)]
    object_len: u64,
    /// Objects [default: 16384; quick: 2048]
    #[arg(long)]
    objects: Option<u64>,
    /// Memory tier, as a share of the bytes of all objects
    #[arg(long, default_value_t = 0.125)]
    memory_share: f64,
    /// Short windows, few objects, files that were not written before: to see that it works
    #[arg(long)]
    quick: bool,
    /// Folder for the data, on the device that is to be measured
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Core of the daemon
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the generator
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Leave every scenario in this folder for `hedgerow-perf report`
    #[arg(long)]
    out: Option<PathBuf>,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl Scenarios {
    fn systems(&self) -> Vec<&'static System> {
        SYSTEMS.iter().filter(|system| self.systems.is_empty() || self.systems.contains(system)).collect()
    }

    /// In the order of the table. The healthy one is always there: ratios are to it.
    fn scenarios(&self) -> Vec<&'static Scenario> {
        let wanted = |scenario: &&Scenario| {
            scenario.trouble == Trouble::None
                || self.scenarios.is_empty()
                || self.scenarios.contains(scenario)
        };
        SCENARIOS.iter().filter(wanted).collect()
    }

    fn objects(&self) -> u64 {
        self.objects.unwrap_or(if self.quick { 2048 } else { 16_384 })
    }

    fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 1.0 } else { 10.0 })
    }

    fn object_bytes(&self) -> u64 {
        self.objects() * self.object_len
    }

    fn memory_bytes(&self) -> u64 {
        (self.object_bytes() as f64 * self.memory_share) as u64
    }

    /// What the figures are of: records that say the same can be taken together.
    fn setting(&self) -> String {
        let rate = match self.rate {
            Some(rate) => format!("{rate:.0} requests a second"),
            None => format!("{:.0} % of each system's own healthy peak", 100.0 * self.rate_share),
        };
        let window = match self.requests {
            Some(requests) => format!("{requests} requests of each scenario"),
            None => format!("{} s of each scenario", self.seconds()),
        };
        format!(
            "GET of {} objects of {}, {} MiB in memory, open loop at {rate}, {window}",
            self.objects(),
            length(self.object_len),
            self.memory_bytes() >> 20
        )
    }

    fn warmup(&self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 1000 })
    }

    fn sweep_seconds(&self) -> f64 {
        if self.quick { 0.2 } else { 1.5 }
    }

    fn window(&self, peak: f64) -> Result<Window> {
        let rate = self.rate.unwrap_or(peak * self.rate_share);
        let seconds = self.requests.map_or(self.seconds(), |requests| requests as f64 / rate);
        let length = Duration::try_from_secs_f64(seconds).context("the length of a window")?;
        ensure!(
            length <= WINDOW_MAX,
            "{seconds:.0} s at {rate:.0}/s: a fault lasts {WINDOW_MAX:?} / 2 at most"
        );
        ensure!(length >= Duration::from_millis(100), "{seconds} s are too short for a fault");
        Ok(Window { rate, length })
    }

    fn check(&self) -> Result<()> {
        ensure!(self.server_core != self.generator_core, "daemon and generator share a core");
        ensure!(
            (1..=STRIPE_LEN_MAX as u64).contains(&self.object_len) && self.objects() > 0,
            "objects of 1 B to 1 MiB"
        );
        ensure!((0.0..=1.0).contains(&self.memory_share), "the memory tier is a share of all objects");
        let rate = self.rate.unwrap_or(self.rate_share);
        ensure!(rate.is_finite() && rate > 0.0 && self.rounds > 0, "nothing is asked for");
        Ok(())
    }
}

/// One system's scenarios in one round.
struct Turn {
    system: &'static System,
    round: usize,
    /// Requests a second of the closed loop.
    peak: f64,
    window: Window,
    /// In the order of the table: the healthy one is first.
    cells: Vec<Cell>,
    /// None: not measured yet.
    bare: Option<Bare>,
}

/// The device by itself: as many reads of a part's length a second as the healthy system did.
struct Bare {
    per_second: f64,
    read_len: usize,
    /// How many a get waits for.
    together: usize,
    /// Of single reads, with nothing else on the machine.
    latency: Histogram<u64>,
    /// Of as many as a get waits for, until the last is in, while the generator's core is as busy as under a load.
    latency_together: Histogram<u64>,
}

impl Turn {
    fn healthy(&self) -> Option<&Cell> {
        self.cells.first()
    }

    /// p99.9 of a scenario in relation to the healthy one of the same turn.
    fn to_healthy(&self, cell: &Cell) -> f64 {
        self.healthy().map_or(f64::NAN, |healthy| cell.sample.p999_us / healthy.sample.p999_us)
    }

    /// p99.9 of the healthy system in relation to the bare device's: single reads.
    fn to_bare(&self) -> f64 {
        let healthy_us = self.healthy().map_or(f64::NAN, |healthy| healthy.sample.p999_us);
        healthy_us / self.bare.as_ref().map_or(f64::NAN, Bare::p999_us)
    }

    /// The same of as many reads as a get waits for.
    fn to_bare_together(&self) -> f64 {
        let healthy_us = self.healthy().map_or(f64::NAN, |healthy| healthy.sample.p999_us);
        healthy_us / self.bare.as_ref().map_or(f64::NAN, Bare::p999_together_us)
    }
}

impl Bare {
    fn p999_us(&self) -> f64 {
        self.latency.value_at_quantile(0.999) as f64 / 1e3
    }

    fn p999_together_us(&self) -> f64 {
        self.latency_together.value_at_quantile(0.999) as f64 / 1e3
    }
}

/// Runs all of it.
pub fn run(options: &Scenarios) -> Result<()> {
    options.check()?;
    let (systems, scenarios) = (options.systems(), options.scenarios());
    println!("{}", machine::describe());
    eprintln!(
        "{} systems, {} scenarios, {} rounds; {}",
        systems.len(),
        scenarios.len(),
        options.rounds,
        options.setting()
    );
    let folder = tempfile::tempdir_in(&options.folder)?;
    let bare_path = folder.path().join("bare");
    let bare_len = (options.object_bytes() >> 20).max(1) << 20;
    device::write_file(&bare_path, bare_len)?;
    machine::pin(options.generator_core)?;
    let pattern = Pattern::default();
    let begun = clock::now_ns();
    let mut turns = Vec::new();
    for round in 1..=options.rounds {
        for &system in &systems {
            let data = folder.path().join("daemon");
            let turn = turn(options, system, round, &data, (&bare_path, bare_len), &pattern)?;
            std::fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
            turns.push(turn);
        }
    }
    eprintln!("{:.0} s in all", (clock::now_ns() - begun) as f64 * 1e-9);
    if options.json {
        println!("{}", serde_json::to_string(&table::all_json(options, &turns)?)?);
    } else {
        table::print(options, &turns)?;
    }
    let wrong: u64 = turns.iter().flat_map(|turn| &turn.cells).map(|cell| cell.gets.wrong).sum();
    if wrong > 0 {
        bail!("{wrong} answers had wrong bytes");
    }
    Ok(())
}

/// One system, with all of its scenarios.
fn turn(
    options: &Scenarios,
    system: &'static System,
    round: usize,
    data: &std::path::Path,
    bare: (&std::path::Path, u64),
    pattern: &Pattern,
) -> Result<Turn> {
    eprintln!("round {round} of {}, {}: putting objects, looking for its peak", options.rounds, system.name);
    let mut rig = Rig::new(options, system, pattern, data, bare)?;
    let peak = rig.peak()?;
    let window = options.window(peak)?;
    eprintln!("  peak {peak:.0}/s; {:.0} s each at {:.0}/s", window.length.as_secs_f64(), window.rate);
    rig.rehearse(window.rate)?;
    let mut turn = Turn { system, round, peak, window, cells: Vec::new(), bare: None };
    for scenario in options.scenarios() {
        let cell = calmest(&mut rig, scenario, &turn.window)?;
        eprintln!("  {}", table::line(&cell));
        if turn.bare.is_none() {
            turn.bare = Some(bare_reads(options, system, &cell, &turn.window, bare)?);
        }
        turn.cells.push(cell);
        leave(options, &turn)?;
    }
    Ok(turn)
}

/// Measures a scenario until the hypervisor takes little of it, or a few times: then the calmest is kept.
fn calmest(rig: &mut Rig<'_>, scenario: &'static Scenario, window: &Window) -> Result<Cell> {
    let mut best = cell::measure(rig, scenario, window)?;
    let mut dropped = 0;
    while best.sample.steal_share > STEAL_MAX && dropped + 1 < TRIES {
        dropped += 1;
        eprintln!("  {}: {:.1} % was stolen: once more", scenario.name, 100.0 * best.sample.steal_share);
        let next = cell::measure(rig, scenario, window)?;
        // Wrong bytes are never dropped.
        let wrong = best.gets.wrong + next.gets.wrong;
        if next.sample.steal_share < best.sample.steal_share {
            best = next;
        }
        best.gets.wrong = wrong;
    }
    best.dropped = dropped;
    Ok(best)
}

/// Reads the bare device right after the healthy daemon, on the daemon's core.
fn bare_reads(
    options: &Scenarios,
    system: &System,
    healthy: &Cell,
    window: &Window,
    (path, file_len): (&std::path::Path, u64),
) -> Result<Bare> {
    let part_len = system.code_of(options.object_len)?.part_len(options.object_len as usize);
    let read_len = (part_len + BESIDE_PART_BYTES).next_multiple_of(device::BLOCK_LEN);
    let per_second = healthy.counted.part_reads as f64 / window.length.as_secs_f64();
    if per_second <= 0.0 {
        bail!("nothing was read from the device: a smaller --memory-share");
    }
    let seconds = window.length.as_secs_f64();
    let together = system.code_of(options.object_len)?.k();
    let read = |together: usize, busy: bool| {
        std::thread::scope(|scope| {
            let reads = scope.spawn(|| {
                machine::pin(options.server_core)?;
                let rate = per_second / together as f64;
                device::reads_at(path, file_len, (read_len, together), rate, seconds)
            });
            // What this core does for others (interrupts, threads of the kernel) then lands where it does under a load.
            while busy && !reads.is_finished() {
                std::hint::spin_loop();
            }
            reads.join().unwrap_or_else(|_| bail!("the bare reads panicked"))
        })
    };
    let (latency, latency_together) = (read(1, false)?, read(together, true)?);
    Ok(Bare { per_second, read_len, together, latency, latency_together })
}

/// Leaves the scenario that was measured last.
fn leave(options: &Scenarios, turn: &Turn) -> Result<()> {
    if let (Some(folder), Some(cell)) = (&options.out, turn.cells.last()) {
        let name = format!("scenario-{}-{}", turn.system.name, cell.scenario.name);
        record::save(folder, &name, &table::cell_json(options, turn, cell)?)?;
    }
    Ok(())
}
