//! `hedgerow-perf hostile`: what clients that mean no good cost a daemon in memory, and others in time.
//!
//! Each kind of them is held against a daemon of its own; beside them, a client that behaves reads at its own rate.

mod clients;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use hedgerow_engine::shell::limits::{
    BODY_BYTES_MAX, CORE_OUT_BYTES_HARD_MAX, DEVICE_BUFFER_BYTES, RECEIVE_BYTES,
};
use hedgerow_wire::frame::Status;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use self::clients::{Held, Kind};
use crate::bare::open;
use crate::figures::fill;
use crate::load;
use crate::pattern::Pattern;
use crate::request::Class;
use crate::server::{DaemonBinary, Server};
use crate::sources::{Mixed, Sizes};
use crate::{control, machine};

/// How many, how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Hostile {
    /// Connections that say nothing more
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Bodies that are announced, and of which one byte comes
    #[arg(long, default_value_t = 5_000)]
    announced: usize,
    /// The longest bodies there are, all but their last byte
    #[arg(long, default_value_t = 1_000)]
    bodies: usize,
    /// Readers of large objects that take next to nothing
    #[arg(long, default_value_t = 1_000)]
    readers: usize,
    /// Seconds that the client which behaves is measured for, before and beside them
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Its requests per second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Memory tier of the daemon in MiB
    #[arg(long, default_value_t = 64)]
    memory_mib: u64,
    /// Folder for the daemons' files
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// The daemon that is started
    #[command(flatten)]
    daemon: DaemonBinary,
    /// Say it in JSON
    #[arg(long)]
    json: bool,
}

/// Set, number and length of what the client reads that behaves.
const OWN: (u8, u64, u64) = (b'o', 500, 64 << 10);
/// The same of what slow readers ask for.
pub(crate) const LARGE: (u8, u64, u64) = (b'l', 4, 8 << 20);
/// What a connection may cost beside what waits on it.
const CONNECTION_BYTES: u64 = 32 << 10;
/// Beside everything that has a name: program, runtime, histograms, what the allocator has not given back.
const CONSTANT_BYTES: u64 = 128 << 20;

/// One kind of client, held against one daemon.
struct Found {
    kind: Kind,
    held: Held,
    resident_bytes: u64,
    peak_bytes: u64,
    bound_bytes: u64,
    refused: u64,
    before: load::Outcome,
    beside: load::Outcome,
}

/// Runs all of it. An error if a daemon's memory was beyond its bound, or the client that behaves was not served.
pub fn run(options: &Hostile) -> Result<()> {
    let allowed = raise_descriptors()?;
    if !options.json {
        println!("{}", machine::describe());
    }
    let pattern = Pattern::default();
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let wanted = match kind {
            Kind::Silent => options.connections,
            Kind::Announced => options.announced,
            Kind::Bodies => options.bodies,
            Kind::Readers => options.readers,
        };
        let found = held_against(options, kind, wanted.min(allowed), &pattern);
        all.push(found.with_context(|| format!("{}, {wanted} of them", kind.name()))?);
    }
    if options.json {
        println!(
            "{}",
            serde_json::to_string(&json!({ "hostile": all.iter().map(Found::to_json).collect::<Vec<_>>() }))?
        );
    } else {
        print(&all);
    }
    for found in &all {
        let name = found.kind.name();
        if found.peak_bytes > found.bound_bytes {
            bail!("{name}: {} MiB resident, {} MiB allowed", found.peak_bytes >> 20, found.bound_bytes >> 20);
        }
        let failures = found.beside.of(Class::Get).failures();
        if !failures.is_empty() {
            bail!("{name}: the client that behaves was answered {failures:?}");
        }
    }
    Ok(())
}

/// As many descriptors as are allowed; how many connections they are enough for.
fn raise_descriptors() -> Result<usize> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(1 << 20).saturating_sub(500) as usize)
}

fn held_against(options: &Hostile, kind: Kind, count: usize, pattern: &Pattern) -> Result<Found> {
    let folder = tempfile::Builder::new().prefix("hostile-").tempdir_in(&options.folder)?;
    let memory = format!("{}M", options.memory_mib);
    let data = folder.path().join("data").display().to_string();
    let arguments = ["--data", &data, "--listen", "127.0.0.1:0", "--shard-size", "256M", "--memory", &memory];
    let log = folder.path().join("log");
    let server = Server::start_with_log(&options.daemon.path()?, &arguments.map(str::to_owned), &log)?;
    fill(&server, OWN.0, OWN.1, Sizes::Fixed(OWN.2), pattern)?;
    fill(&server, LARGE.0, LARGE.1, Sizes::Fixed(LARGE.2), pattern)?;
    let before = behave(options, &server, pattern)?;
    let resident_bytes = server.resident_bytes()?;
    server.forget_peak()?;
    let held = Held::hold(kind, server.address, count)?;
    let beside = behave(options, &server, pattern)?;
    let peak_bytes = server.resident_peak_bytes()?;
    let stats = control::stats(server.address)?;
    let refused = control::counter(&stats, "answers.overloaded")?;
    let index_bytes = control::counter(&stats, "store_index_bytes")?;
    let bound_bytes = bound(options, kind, held.count as u64, index_bytes)?;
    let held = held.let_go();
    server.stop()?;
    Ok(Found { kind, held, resident_bytes, peak_bytes, bound_bytes, refused, before, beside })
}

/// What the daemon may have while it has such clients, by its settings and the limits that it names.
fn bound(options: &Hostile, kind: Kind, connections: u64, index_bytes: u64) -> Result<u64> {
    let cores = std::thread::available_parallelism()?.get() as u64;
    // Three rings of each core register buffers of their own.
    let always = (options.memory_mib << 20)
        + index_bytes
        + cores * (3 * DEVICE_BUFFER_BYTES as u64 + RECEIVE_BYTES as u64);
    let theirs = match kind {
        Kind::Silent => 0,
        Kind::Announced | Kind::Bodies => cores * BODY_BYTES_MAX as u64,
        Kind::Readers => cores * CORE_OUT_BYTES_HARD_MAX as u64,
    };
    Ok(always + theirs + connections * CONNECTION_BYTES + CONSTANT_BYTES)
}

/// A client that behaves: gets at a rate.
fn behave(options: &Hostile, server: &Server, pattern: &Pattern) -> Result<load::Outcome> {
    let mut source = Mixed::gets(OWN.0, OWN.1, Sizes::Fixed(OWN.2));
    let plan = open(options.rate, options.seconds);
    let endpoint = crate::driver::Endpoint::hedgerow(server.address);
    let outcome = load::run(&endpoint, &plan, &mut source, pattern, &mut |_| {})?;
    outcome.check()?;
    Ok(outcome)
}

fn ms(outcome: &load::Outcome, quantile: f64) -> f64 {
    outcome.of(Class::Get).latency.value_at_quantile(quantile) as f64 / 1e6
}

impl Found {
    fn to_json(&self) -> Value {
        let client = |outcome: &load::Outcome| {
            json!({
                "p50_ms": ms(outcome, 0.5), "p99_ms": ms(outcome, 0.99), "ok": outcome.of(Class::Get).ok(),
                "answered": outcome.of(Class::Get).answered,
                "overloaded": outcome.of(Class::Get).statuses[Status::Overloaded as usize],
            })
        };
        json!({
            "clients": self.kind.name(), "held": self.held.count, "resident_bytes": self.resident_bytes,
            "peak_bytes": self.peak_bytes, "bound_bytes": self.bound_bytes, "refused": self.refused,
            "before": client(&self.before), "beside": client(&self.beside),
        })
    }
}

fn print(all: &[Found]) {
    println!(
        "| clients | held | resident before, MiB | at most beside them | allowed | refused `Overloaded` | others' p50 / p99 before, ms | beside them |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for found in all {
        println!(
            "| {} | {} | {} | {} | {} | {} | {:.2} / {:.2} | {:.2} / {:.2} |",
            found.kind.name(),
            found.held.count,
            found.resident_bytes >> 20,
            found.peak_bytes >> 20,
            found.bound_bytes >> 20,
            found.refused,
            ms(&found.before, 0.5),
            ms(&found.before, 0.99),
            ms(&found.beside, 0.5),
            ms(&found.beside, 0.99),
        );
    }
    println!(
        "allowed: memory tier, indexes, device buffers, the bound on bodies or on what waits to be sent, {} KiB for each connection, and {} MiB",
        CONNECTION_BYTES >> 10,
        CONSTANT_BYTES >> 20
    );
}
