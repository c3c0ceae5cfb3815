//! `hedgerow-perf index-memory`: what a million parts cost in memory, and how long a daemon that has them
//! needs to start again after a crash and after a clean stop.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hedgerow_wire::frame::Status;

use crate::figures::{fill, start_daemon};
use crate::load::{self, Mark};
use crate::measure::{Watched, closed};
use crate::pattern::Pattern;
use crate::request::Class;
use crate::server::{DaemonBinary, Server};
use crate::sources::{Mixed, Sizes};
use crate::{control, machine};

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
}

const SET: u8 = b'i';
/// Parts of an object that is shorter than two smallest parts, with code 4+2.
const COPIES: u64 = 3;

fn start(options: &IndexMemory, folder: &Path) -> Result<Server> {
    let size = format!("{}M", options.shard_mib);
    let binary = options.daemon.path()?;
    start_daemon(&binary, folder, 0, &["--shard-size", &size, "--memory", "0"])
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
    let server = start(options, &data)?;
    print_start("after SIGKILL", &server, parts(&server)?);
    println!("  resident: {:.1} MB", server.resident_bytes()? as f64 / 1e6);
    check(&server, objects, options.object_len, &pattern)?;
    let took = server.stop()?;
    println!("clean stop: {:.0} ms", took.as_secs_f64() * 1e3);
    let server = start(options, &data)?;
    print_start("after the clean stop", &server, parts(&server)?);
    check(&server, objects, options.object_len, &pattern)?;
    server.kill().context("ending the daemon")
}

fn parts(server: &Server) -> Result<u64> {
    control::counter(&control::stats(server.address)?, "store_parts")
}
