//! `hedgerow-perf compare`: peers in turns, on the same cores, with the same memory and flash, at their
//! best of a stated sweep, each figure with its spread and the ratio to the first peer.

mod contest;
mod equal;
mod faulted;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::contest::{Contest, Contestant};
use crate::load::Source;
use crate::machine;
use crate::measure::length;
use crate::pattern::Pattern;
use crate::peer::{Peer, Resources, Tier, install};
use crate::popularity::Popularity;
use crate::process::Cgroup;
use crate::record;
use crate::server::DaemonOptions;
use crate::sources::{Mixed, Sizes};
use crate::workload::meta_cdn;

/// Set of the objects.
pub const SET: u8 = b'v';
/// The device's objects are so many times the memory.
const DEVICE_OF_MEMORY: u64 = 8;
/// Six shards of the least length that the daemon takes.
const FLASH_MIB_MIN: u64 = 6 * 256;
/// Length of the objects that are read under faults, in bytes.
const FAULT_OBJECT_LEN: u64 = 64 << 10;
/// The objects of the CDN's workload are so many times the cache.
const CDN_OF_CACHE: f64 = 10.0;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Figure {
    /// GET of objects that are in memory, closed loop
    Memory,
    /// GET of objects on the device, eight times the memory, closed loop
    Device,
    /// The same at 60 % of the lower one's peak, open loop
    Tail,
    /// A CDN's lengths and popularity, missing objects put, cache a tenth of its bytes
    MetaCdn,
    /// The same after those with more hits were given less flash, until all that have flash hit alike
    MetaCdnEqualHits,
    /// GET of objects on the device while one shard is slow or stuck, one of four servers dead, or the device
    /// throttled: tails side by side
    Fault,
}

/// Connections and requests under way on each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Width {
    /// Connections.
    pub connections: usize,
    /// Requests on each.
    pub depth: usize,
}

impl std::str::FromStr for Width {
    type Err = String;
    fn from_str(text: &str) -> Result<Width, String> {
        let bad = || format!("'{text}': write CONNECTIONSxDEPTH, like 16x8");
        let (connections, depth) = text.split_once('x').ok_or_else(bad)?;
        let number =
            |text: &str| text.parse().ok().filter(|number| (1..=1024).contains(number)).ok_or_else(bad);
        Ok(Width { connections: number(connections)?, depth: number(depth)? })
    }
}

impl std::fmt::Display for Width {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.connections, self.depth)
    }
}

/// Which peers, and how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Compare {
    /// A peer; ratios are to the first one
    #[arg(long = "peer", value_enum, required = true)]
    peers: Vec<Peer>,
    /// What is compared [default: all]
    #[arg(long = "figure", value_enum)]
    figures: Vec<Figure>,
    /// Install what is missing (apt-get, pip)
    #[arg(long)]
    install: bool,
    /// Rounds that count; every round measures every peer once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of every measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Lengths of objects in bytes [default: 4 KiB, 64 KiB and 1 MiB from memory; 64 KiB, 512 KiB and 1 MiB from the device]
    #[arg(long = "size")]
    sizes: Vec<u64>,
    /// Connections and depths, of which every peer's best is taken
    #[arg(long, value_delimiter = ',', default_value = "4x1,16x1,16x8")]
    sweep: Vec<Width>,
    /// Memory of every peer in MiB, page cache included
    #[arg(long, default_value_t = 512)]
    memory_mib: u64,
    /// Flash of every peer in MiB
    #[arg(long, default_value_t = 8192)]
    flash_mib: u64,
    /// Seconds that the CDN's workload may take to fill a cache
    #[arg(long, default_value_t = 120.0)]
    warm_seconds: f64,
    /// Cores of the servers
    #[arg(long, value_delimiter = ',', default_value = "0")]
    server_cores: Vec<usize>,
    /// Core of the generator
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Folder for the data, on the device that is to be measured
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Leave every figure in this folder for `hedgerow-perf report`
    #[arg(long)]
    out: Option<PathBuf>,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

/// Objects that are compared together, of peers that are started for them.
struct Case {
    figures: Vec<Figure>,
    tier: Tier,
    /// Length in bytes; none: as the workload has it.
    object_len: Option<u64>,
    objects: u64,
}

impl Compare {
    fn wants(&self, figure: Figure) -> bool {
        self.figures.is_empty() || self.figures.contains(&figure)
    }

    fn cases(&self) -> Vec<Case> {
        let sizes = |usual: [u64; 3]| if self.sizes.is_empty() { usual.to_vec() } else { self.sizes.clone() };
        let memory = self.memory_mib << 20;
        let mut cases = Vec::new();
        let wanted = |figures: &[Figure]| -> Vec<Figure> {
            figures.iter().copied().filter(|figure| self.wants(*figure)).collect()
        };
        for len in sizes([4 << 10, 64 << 10, 1 << 20]) {
            let objects = (memory / 4 / len).max(1);
            let figures = wanted(&[Figure::Memory]);
            cases.push(Case { figures, tier: Tier::Memory, object_len: Some(len), objects });
        }
        for len in sizes([64 << 10, 512 << 10, 1 << 20]) {
            let objects = (DEVICE_OF_MEMORY * memory / len).max(1);
            let figures = wanted(&[Figure::Device, Figure::Tail]);
            cases.push(Case { figures, tier: Tier::Device, object_len: Some(len), objects });
        }
        let len = self.sizes.first().copied().unwrap_or(FAULT_OBJECT_LEN);
        let objects = (DEVICE_OF_MEMORY * memory / len).max(1);
        cases.push(Case {
            figures: wanted(&[Figure::Fault]),
            tier: Tier::Device,
            object_len: Some(len),
            objects,
        });
        let figures = wanted(&[Figure::MetaCdn, Figure::MetaCdnEqualHits]);
        cases.push(Case { figures, tier: Tier::Both, object_len: None, objects: 0 });
        cases.retain(|case| !case.figures.is_empty());
        cases
    }

    fn resources(&self, case: &Case, folder: PathBuf, flash_bytes: u64) -> Resources {
        let mut daemon = self.daemon.clone();
        if case.figures.contains(&Figure::Fault) {
            daemon.flags.push("--allow-faults".to_owned());
        }
        Resources {
            cores: self.server_cores.clone(),
            memory_bytes: self.memory_mib << 20,
            flash_bytes,
            folder,
            tier: case.tier,
            objects: case.objects,
            daemon,
            other_cores: vec![self.generator_core],
        }
    }

    /// Peers that are installed, or are installed for it.
    fn available(&self) -> Result<Vec<Peer>> {
        let mut available = Vec::new();
        for &peer in &self.peers {
            let named = peer == Peer::Hedgerow && self.daemon.binary.is_named();
            if install::program(peer).is_none() && self.install && !named {
                install::install(peer)?;
            }
            if named || install::program(peer).is_some() {
                available.push(peer);
            } else {
                let hint = install::command(peer).map(|words| words.join(" "));
                let hint = hint.unwrap_or_else(|| "cargo build --release".to_owned());
                println!("{} is left out: it is not installed ({hint}, or --install)", peer.name());
            }
        }
        ensure!(!available.is_empty(), "no peer is installed");
        Ok(available)
    }
}

/// Runs all of it.
pub fn run(options: &Compare) -> Result<()> {
    ensure!(!options.server_cores.contains(&options.generator_core), "servers and generator share a core");
    ensure!(options.flash_mib >= FLASH_MIB_MIN, "the daemon's six shards need {FLASH_MIB_MIN} MiB of flash");
    let device = DEVICE_OF_MEMORY * options.memory_mib;
    if [Figure::Device, Figure::Tail, Figure::Fault].iter().any(|figure| options.wants(*figure)) {
        // Parity takes half as much again, and every store needs room to turn over.
        ensure!(options.flash_mib >= device * 2, "{device} MiB of objects need {} MiB of flash", device * 2);
    }
    println!("{}", machine::describe());
    let peers = options.available()?;
    if let Err(error) = Cgroup::new("probe", 1 << 30) {
        println!(
            "warning: page cache is NOT counted in the peers' memory, memory cgroups cannot be used: {error:#}"
        );
    }
    println!(
        "memory {} MiB and flash {} MiB each, servers on cores {:?}, generator on core {}; best of {:?} connections x depth",
        options.memory_mib,
        options.flash_mib,
        options.server_cores,
        options.generator_core,
        options.sweep.iter().map(Width::to_string).collect::<Vec<_>>(),
    );
    let folder = tempfile::tempdir_in(&options.folder)?;
    let pattern = Pattern::default();
    machine::pin(options.generator_core)?;
    for (number, case) in options.cases().iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        one(options, case, &peers, &folder, &pattern)?;
        // What the next one needs is free again.
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

/// Starts the peers that serve this case, fills them, and compares.
fn one(options: &Compare, case: &Case, peers: &[Peer], folder: &Path, pattern: &Pattern) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut contest = Contest::new(options, pattern, case.object_len.is_none());
    for &peer in peers.iter().filter(|peer| peer.serves(case.tier)) {
        let own = folder.join(peer.name());
        contest.contestants.push(start(options, case, peer, &own, options.flash_mib << 20)?);
    }
    let Some(first) = contest.first() else { bail!("none of the peers serves {:?}", case.tier) };
    eprintln!("ratios are to {first}");
    match case.object_len {
        Some(len) => contest.fill(case.objects, &Sizes::Fixed(len))?,
        None => {
            (0..contest.contestants.len()).try_for_each(|place| contest.warm(place, options.warm_seconds))?;
        }
    }
    contest.sweep(&options.sweep)?;
    for &figure in &case.figures {
        match figure {
            Figure::Fault => {
                let rows = faulted::rows(options, &mut contest)?;
                leave_faults(options, case.object_len.unwrap_or_default(), &rows)?;
                continue;
            }
            Figure::MetaCdnEqualHits => {
                equal::hits(options, case, folder, &mut contest)?;
                contest.sweep(&options.sweep)?;
            }
            Figure::Memory | Figure::Device | Figure::Tail | Figure::MetaCdn => {}
        }
        contest.rounds(figure)?;
        leave(options, case, figure, &contest)?;
    }
    Ok(())
}

/// Starts a peer with its data in a folder of its own.
fn start(options: &Compare, case: &Case, peer: Peer, folder: &Path, flash_bytes: u64) -> Result<Contestant> {
    let resources = options.resources(case, std::path::absolute(folder)?, flash_bytes);
    let cgroup = Cgroup::new(peer.name(), resources.memory_bytes).ok();
    let lengths = case.object_len.map_or("mixed".to_owned(), length);
    eprintln!("starting {} ({:?}, {lengths}, {} MiB of flash)", peer.name(), case.tier, flash_bytes >> 20);
    let running = peer.start(&resources, cgroup).with_context(|| format!("starting {}", peer.name()))?;
    let source = source(options, case, running.reads_through())?;
    Ok(Contestant::new(running, source, flash_bytes))
}

fn source(options: &Compare, case: &Case, reads_through: bool) -> Result<Box<dyn Source>> {
    Ok(Box::new(match case.object_len {
        Some(len) => Mixed::gets(SET, case.objects, Sizes::Fixed(len)),
        None => {
            let whole = meta_cdn(SET, 1)?;
            let Popularity::Buckets(buckets) = &whole.popularity else {
                bail!("the workload has no buckets")
            };
            let bytes = whole.sizes.mean() * buckets.keys() as f64;
            let sample = bytes / (CDN_OF_CACHE * (options.flash_mib << 20) as f64);
            let mut mixed = meta_cdn(SET, (sample.round() as u64).max(1))?;
            mixed.fill = !reads_through;
            mixed
        }
    }))
}

fn leave(options: &Compare, case: &Case, figure: Figure, contest: &Contest<'_>) -> Result<()> {
    let record: Value = table::to_json(options, case.object_len, figure, contest);
    if !options.json {
        table::print(case.object_len, figure, contest);
    }
    let size = case.object_len.map_or("mixed".to_owned(), |len| len.to_string());
    save(options, &format!("compare-{figure:?}-{size}").to_lowercase(), &record)
}

fn leave_faults(options: &Compare, object_len: u64, rows: &[faulted::Row]) -> Result<()> {
    if !options.json {
        table::print_faults(object_len, rows);
    }
    let record = table::faults_json(options, object_len, rows);
    save(options, &format!("compare-fault-{object_len}"), &record)
}

fn save(options: &Compare, name: &str, record: &Value) -> Result<()> {
    if options.json {
        println!("{}", serde_json::to_string(record)?);
    }
    match &options.out {
        Some(folder) => record::save(folder, name, record).map(drop),
        None => Ok(()),
    }
}
