//! `hedgerow-perf chaos`: daemons under an open-loop load, a script of real harm, and every answer judged by what the
//! generator itself knows.
//!
//! | module | |
//! |---|---|
//! | `script` | what is done to which daemon when |
//! | `rig` | the daemons, and how it is done; `disk`, `hog` |
//! | `load`, `member` | the requests, and the answers; `connect`; `device`: a bare read beside them |
//! | `record` | what an answer may be |
//! | `table` | what is left at the end |
//!
//! The script has the main thread (daemons end with the thread that started them), the load one of its own.

mod connect;
mod device;
mod disk;
pub mod hog;
mod load;
mod member;
mod record;
mod rig;
mod script;
mod table;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hedgerow_engine::shell::settings::SHARD_BYTES_MIN;
use hedgerow_engine::slab::layout::SLAB_LEN_DEFAULT;

use self::connect::{Connector, Echo, Place};
use self::device::Device;
use self::load::{Generator, Load, Plant, Swept, Told};
use self::rig::{Rig, SHARDS, Wanted, last_words};
use self::script::{Episode, Harm, schedule};
use self::table::{Harmed, Outcome};
use crate::pattern::Pattern;
use crate::server::DaemonBinary;
use crate::{clock, machine};

/// How long, how much.
#[derive(Clone, Debug, clap::Args)]
pub struct Chaos {
    /// Minutes of harm
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// What the script and the load are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Daemons, each of which is harmed in its turn
    #[arg(long, default_value_t = 2)]
    daemons: usize,
    /// Requests per second of all daemons together
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Objects of each daemon
    #[arg(long, default_value_t = 200)]
    objects: u64,
    /// Folder for the daemons' files
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// No file system is mounted to be filled
    #[arg(long)]
    no_mount: bool,
    /// Only these kinds of harm (1 is the first in the table)
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
    /// The daemon that is started
    #[command(flatten)]
    daemon: DaemonBinary,
    /// Late answers are counted, and break no promise: for machines that others use
    #[arg(long)]
    tolerate_late: bool,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
    /// Spoil the generator's own record, to see that it is noticed
    #[arg(long, hide = true)]
    plant: Option<Plant>,
}

/// How long the generator has for a sweep beside what it gives itself.
const SWEEP_WAIT: Duration = Duration::from_secs(90);
/// What a shard has room for, beside what the load is expected to write.
const ROOM: f64 = 3.0;
/// Parts that are stored for each that an object needs.
const REDUNDANCY: f64 = 1.6;

impl Chaos {
    fn lasts(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }

    /// Bytes that are put to each daemon at most, should recovery take long.
    fn put_bytes_max(&self) -> u64 {
        let seconds = self.lasts().as_secs_f64() * 1.5 + 60.0;
        let puts = self.rate / self.daemons as f64 * load::PUT_SHARE * seconds + self.objects as f64;
        (puts * load::MEAN_LEN as f64) as u64
    }

    /// Bytes of a shard from which nothing is evicted.
    fn shard_bytes(&self) -> u64 {
        let bytes = self.put_bytes_max() as f64 * REDUNDANCY * ROOM / f64::from(SHARDS);
        // A start goes on in a slab of its own.
        let episodes = schedule(self.seed, self.lasts(), self.daemons, SHARDS);
        let starts: u64 = episodes.iter().map(|episode| episode.harm.starts()).sum();
        bytes as u64 + starts * u64::from(SLAB_LEN_DEFAULT) + SHARD_BYTES_MIN
    }

    fn wanted(&self, number: usize, folder: &Path) -> Result<Wanted> {
        let cores = std::thread::available_parallelism()?.get();
        // In turn: all cores and a memory tier, one core and none.
        let alone = number % 2 == 1;
        let shard_bytes = self.shard_bytes();
        let (shards, size) = (SHARDS.to_string(), shard_bytes.to_string());
        let memory = if alone { "0" } else { "16M" };
        let named = if alone { "0,".to_owned() } else { cores.to_string() };
        let flags = [
            "--shards",
            &shards,
            "--shard-size",
            &size,
            "--code",
            "4+2",
            "--memory",
            memory,
            "--cores",
            &named,
        ];
        Ok(Wanted {
            number,
            binary: self.daemon.path()?,
            folder: folder.join(format!("daemon-{number}")),
            flags: flags.map(str::to_owned).to_vec(),
            cores: (0..cores).collect(),
            shard_bytes,
            mount: !self.no_mount,
            seed: self.seed,
        })
    }
}

/// Runs all of it. An error if a promise was broken.
pub fn run(options: &Chaos) -> Result<()> {
    ensure!((1..=8).contains(&options.daemons), "--daemons: 1 to 8");
    ensure!(options.objects > 0 && options.rate > 0.0, "--objects and --rate: more than 0");
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir_in(&options.folder)?;
    if !options.json {
        println!("{}", machine::describe());
        println!(
            "seed {}, {} daemons of 4+2 with {} shards of {} MiB, {:.0} requests a second, {:.1} min",
            options.seed,
            options.daemons,
            SHARDS,
            options.shard_bytes() >> 20,
            options.rate,
            options.minutes
        );
    }
    let outcome = harm_and_judge(options, folder.path())?;
    if options.json {
        println!("{}", serde_json::to_string(&outcome.to_json())?);
    } else {
        outcome.print();
    }
    let violations = outcome.violations();
    if !violations.is_empty() {
        let named: Vec<String> = violations.iter().map(|(what, count)| format!("{what}: {count}")).collect();
        bail!("promises were broken (seed {}): {}", options.seed, named.join("; "));
    }
    Ok(())
}

fn harm_and_judge(options: &Chaos, folder: &Path) -> Result<Outcome> {
    let (told, hears) = channel();
    let (swept, sweeps) = channel();
    let places: Vec<Place> = (0..options.daemons).map(|_| Place::default()).collect();
    let mut rigs = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let wanted = options.wanted(number, folder)?;
        std::fs::create_dir_all(&wanted.folder)?;
        rigs.push(Rig::start(wanted, told.clone(), place.clone())?);
    }
    let load = Load {
        rate: options.rate,
        objects: options.objects,
        seed: options.seed,
        put_bytes_max: options.put_bytes_max(),
        plant: options.plant,
    };
    let pattern = Pattern::default();
    let connectors = places.into_iter().map(Connector::start).collect();
    std::thread::scope(|scope| {
        let meters = (Echo::start()?, Device::start(folder)?);
        let generator = Generator::new(load, &pattern, connectors, meters, (hears, swept));
        let generating = scope.spawn(|| generator.run());
        let script = Script { options, folder, told, sweeps };
        let played = script.play(&mut rigs);
        let _ = script.told.send(Told::End);
        let counts = match generating.join() {
            Ok(counts) => counts.context("the generator")?,
            Err(_) => bail!("the generator panicked"),
        };
        let harms = played?;
        let (mut evicted, mut fault_hits) = (0, 0);
        for rig in rigs {
            let (slabs, hits) = rig.stop()?;
            evicted += slabs;
            fault_hits += hits;
        }
        Ok(Outcome { counts, harms, late_counts: !options.tolerate_late, evicted, fault_hits })
    })
}

struct Script<'a> {
    options: &'a Chaos,
    folder: &'a Path,
    told: Sender<Told>,
    sweeps: Receiver<Swept>,
}

impl Script<'_> {
    /// Every object of a daemon is read, or put.
    fn sweep(&self, told: Told) -> Result<Swept> {
        self.told.send(told).context("the generator has ended")?;
        self.sweeps.recv_timeout(SWEEP_WAIT).context("waiting for the generator")
    }

    fn play(&self, rigs: &mut [Rig]) -> Result<Vec<(Harm, Harmed)>> {
        for daemon in 0..rigs.len() {
            let filled = self.sweep(Told::Fill(daemon))?;
            ensure!(
                filled.failed == 0,
                "{} objects could not be put before anything was harmed",
                filled.failed
            );
        }
        for daemon in 0..rigs.len() {
            self.sweep(Told::Sweep(daemon))?;
        }
        let mut harms: Vec<(Harm, Harmed)> = Harm::ALL.map(|harm| (harm, Harmed::default())).to_vec();
        let episodes = schedule(self.options.seed, self.options.lasts(), rigs.len(), SHARDS);
        let mut next_ns = clock::now_ns();
        for episode in &episodes {
            let number = Harm::ALL.iter().position(|harm| *harm == episode.harm).unwrap_or_default();
            if !self.options.only.is_empty() && !self.options.only.contains(&(number + 1)) {
                continue;
            }
            next_ns += (episode.lasts + episode.pause).as_nanos() as u64;
            self.episode(&mut rigs[episode.daemon], episode, &mut harms[number].1)?;
            clock::sleep(Duration::from_nanos(next_ns.saturating_sub(clock::now_ns())));
        }
        // What is said in the end is said of quiet daemons.
        for daemon in 0..rigs.len() {
            let swept = self.sweep(Told::Sweep(daemon))?;
            ensure!(
                swept.failed == 0,
                "{} objects of daemon {daemon} are not readable at the end",
                swept.failed
            );
        }
        Ok(harms)
    }

    fn episode(&self, rig: &mut Rig, episode: &Episode, harmed: &mut Harmed) -> Result<()> {
        let what = || {
            let log = last_words(&self.folder.join(format!("daemon-{}", episode.daemon)));
            format!(
                "{} (daemon {}, shard {}); its log ends with:\n{log}",
                episode.harm.name(),
                episode.daemon,
                episode.shard
            )
        };
        self.told.send(Told::Begun(episode.daemon, episode.harm)).context("the generator has ended")?;
        let done = rig.perform(episode).with_context(what)?;
        if done.skipped.is_some() {
            harmed.skipped = done.skipped;
            return Ok(());
        }
        let swept = self.sweep(Told::Sweep(episode.daemon)).with_context(what)?;
        harmed.episodes += 1;
        harmed.listening = harmed.listening.max(done.listening);
        let recovery = Duration::from_nanos(swept.at_ns.saturating_sub(done.from_ns));
        harmed.recovery = harmed.recovery.max(recovery);
        harmed.unreadable += swept.failed;
        Ok(())
    }
}
