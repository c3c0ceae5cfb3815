//! `hedgerow-perf index-memory`: what a million parts cost in memory, and how long a daemon that has them
//! needs to start again after a crash and after a clean stop; with `--foyer`, beside the foyer crate with as many
//! entries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hedgerow_wire::frame::Status;

use crate::figures::{fill, start_daemon};
use crate::load::{self, Mark};
use crate::measure::{Spread, Watched, closed, spread};
use crate::pattern::Pattern;
use crate::peer::foyer::Foyer;
use crate::request::Class;
use crate::server::{DaemonBinary, Server};
use crate::sources::{Fill, Mixed, Sizes};
use crate::{clock, control, machine};

/// How many parts.
#[derive(Clone, Debug, clap::Args)]
pub struct IndexMemory {
    #[command(flatten)]
    daemon: DaemonBinary,
    /// Folder for the data
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Parts
    #[arg(long, default_value_t = 1_000_000)]
    parts: u64,
    /// Length of the objects in bytes; short ones become three copies
    #[arg(long, default_value_t = 1024)]
    object_len: u64,
    /// Length of each of the six shards in MiB: the index has one slot for about 4 KiB
    #[arg(long, default_value_t = 1024)]
    shard_mib: u64,
    /// Mean bytes of a part, for which the index gets its slots [default: the daemon's]
    #[arg(long)]
    mean_part: Option<u64>,
    /// Starts after SIGKILL
    #[arg(long, default_value_t = 1)]
    restarts: usize,
    /// Then let the foyer crate open as many entries after SIGKILL, on the same core (cargo builds it; 4 KiB of disk for
    /// each entry)
    #[arg(long)]
    foyer: bool,
}

const SET: u8 = b'i';
/// Core of the daemon, and of what it is compared with.
const CORE: usize = 0;
/// Parts of an object that is shorter than two smallest parts, with code 4+2.
const COPIES: u64 = 3;

fn start(options: &IndexMemory, folder: &Path) -> Result<Server> {
    let size = format!("{}M", options.shard_mib);
    let mean = options.mean_part.map(|mean| mean.to_string());
    let mut flags = vec!["--shard-size", &size, "--memory", "0"];
    flags.extend(mean.iter().flat_map(|mean| ["--mean-part", mean]));
    start_daemon(&options.daemon.path()?, folder, CORE, &flags)
}

/// Every object that was acknowledged must still be there; a sample is read.
fn check(server: &Server, objects: u64, object_len: u64, pattern: &Pattern) -> Result<()> {
    let mut source = Mixed::gets(SET, objects, Sizes::Fixed(object_len));
    let plan = load::Plan { warmup: Duration::ZERO, ..closed(4, 8, 1.0) };
    let outcome = load::run(&server.endpoint(), &plan, &mut source, pattern, &mut |_: Mark| {})?;
    outcome.check()?;
    let failures = outcome.of(Class::Get).failures();
    ensure!(failures.is_empty(), "objects are missing after the restart: {failures:?}");
    println!("  {} reads of them, all right", outcome.of(Class::Get).statuses[Status::Ok as usize]);
    Ok(())
}

fn print_start(name: &str, server: &Server, parts: u64) {
    if parts == 0 {
        println!("{name}: {:.0} ms", server.ready_after.as_secs_f64() * 1e3);
        return;
    }
    println!(
        "{name}: {:.0} ms from the start of the process until it listens, {:.0} ns for each of {parts} parts",
        server.ready_after.as_secs_f64() * 1e3,
        server.ready_after.as_secs_f64() * 1e9 / parts as f64
    );
    for line in server.said.iter().filter(|line| line.contains("parts found")) {
        println!("  {line}");
    }
}

/// Runs it.
pub fn run(options: &IndexMemory) -> Result<()> {
    println!("{}", machine::describe());
    let folder = tempfile::tempdir_in(&options.folder)?;
    let data = folder.path().join("daemon");
    let pattern = Pattern::default();
    let objects = options.parts.div_ceil(COPIES);
    let server = start(options, &data)?;
    print_start("blank", &server, 0);
    // What the core needs for its first requests is not the index's.
    fill(&server, SET, 3_000.min(objects), Sizes::Fixed(options.object_len), &pattern)?;
    let (before, parts_before) = (server.resident_bytes()?, parts(&server)?);
    fill(&server, SET, objects, Sizes::Fixed(options.object_len), &pattern)?;
    let (after, held) = (server.resident_bytes()?, parts(&server)?);
    let expected = objects * COPIES;
    ensure!(
        held >= expected,
        "{held} of {expected} parts are held: with larger shards the index has more slots"
    );
    let stats = control::stats(server.address)?;
    let index = control::counter(&stats, "store_index_bytes")?;
    let slots = control::counter(&stats, "store_index_slots")?;
    println!(
        "resident: {:.1} MB with {parts_before} parts, {:.1} MB with {held}: {:.1} bytes for each part more",
        before as f64 / 1e6,
        after as f64 / 1e6,
        (after as f64 - before as f64) / (held - parts_before).max(1) as f64
    );
    println!(
        "the index: {:.1} MB for {slots} slots: {:.1} bytes for each slot, {:.1} for each part at this fill of {:.0} %",
        index as f64 / 1e6,
        index as f64 / slots.max(1) as f64,
        index as f64 / held.max(1) as f64,
        100.0 * held as f64 / slots.max(1) as f64
    );
    server.kill()?;
    let killed = restarts(options, &data, objects, &pattern)?;
    let server = start(options, &data)?;
    let took = server.stop()?;
    println!("clean stop: {:.0} ms", took.as_secs_f64() * 1e3);
    let server = start(options, &data)?;
    print_start("after the clean stop", &server, parts(&server)?);
    check(&server, objects, options.object_len, &pattern)?;
    server.kill().context("ending the daemon")?;
    if options.foyer {
        // Its files have the place of the daemon's.
        std::fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
        foyer(options, &folder.path().join("foyer"), killed)?;
    }
    Ok(())
}

/// Starts it again and again after SIGKILL. From the start of the process until the first object was read, in
/// nanoseconds for each part.
fn restarts(options: &IndexMemory, data: &Path, objects: u64, pattern: &Pattern) -> Result<Spread> {
    let mut found = Vec::new();
    for number in 0..options.restarts.max(1) {
        let begun_ns = clock::now_ns();
        let server = start(options, data)?;
        let mut first = Fill::new(SET, 1, Sizes::Fixed(options.object_len));
        first.by_get = true;
        let plan = load::Plan { duration: None, warmup: Duration::ZERO, ..closed(1, 1, 0.0) };
        let outcome = load::run(&server.endpoint(), &plan, &mut first, pattern, &mut |_: Mark| {})?;
        let elapsed_ns = clock::now_ns() - begun_ns;
        let answered: u64 = outcome.classes.iter().map(load::Tally::ok).sum();
        ensure!(answered == 1, "the first object is missing after the restart");
        let parts = parts(&server)?;
        found.push(elapsed_ns as f64 / parts as f64);
        if number == 0 {
            print_start("after SIGKILL", &server, parts);
            println!("  resident: {:.1} MB", server.resident_bytes()? as f64 / 1e6);
            check(&server, objects, options.object_len, pattern)?;
        }
        server.kill()?;
    }
    let per_part = spread(found);
    println!("after SIGKILL, until the first object is read: {} ns a part", per_part.text(0));
    Ok(per_part)
}

/// foyer with as many entries, and how many times as long it takes for each of them.
fn foyer(options: &IndexMemory, folder: &Path, killed: Spread) -> Result<()> {
    let foyer = Foyer::fill(folder, options.parts, options.object_len, CORE)?;
    let mut found = Vec::new();
    let mut share: f64 = 1.0;
    for _ in 0..options.restarts.max(1) {
        let opened = foyer.open()?;
        share = share.min(opened.found_share);
        // Only what is there again has been recovered.
        found.push(opened.ready_after.as_nanos() as f64 / (options.parts as f64 * opened.found_share));
    }
    let per_entry = spread(found);
    println!(
        "foyer after SIGKILL, until the first entry is read: {} ns for each of {:.0} entries ({:.2} % of those that were \
         put); {:.2} times as long",
        per_entry.text(0),
        options.parts as f64 * share,
        100.0 * share,
        per_entry.median / killed.median
    );
    Ok(())
}

fn parts(server: &Server) -> Result<u64> {
    control::counter(&control::stats(server.address)?, "store_parts")
}
