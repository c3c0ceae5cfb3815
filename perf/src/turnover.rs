//! `hedgerow-perf turnover`: the workload of a CDN through small shards until they have been filled many
//! times over. Do the parts of an object still live and go together? What does the device write for it?

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use hedgerow_engine::shell::settings::MIN_PART_BYTES;
use hedgerow_wire::Code;
use hedgerow_wire::frame::Status;
use hedgerow_wire::limits::STRIPE_LEN_MAX;
use hedgerow_wire::messages::{Message, PartState, StatAnswer};

use crate::figures::start_daemon;
use crate::load::{self, Mark, Next, Outcome, Plan, Source};
use crate::measure::{Watched, closed};
use crate::pattern::{Pattern, mix};
use crate::request::{Answer, Class, Kind, Request};
use crate::server::DaemonOptions;
use crate::sources::{DEADLINE_US, Mixed, get};
use crate::workload::{CDN_CACHE_BYTES, meta_cdn};
use crate::{control, machine};

const SET: u8 = b'c';

/// How much, through what.
#[derive(Clone, Debug, clap::Args)]
pub struct Turnover {
    #[command(flatten)]
    daemon: DaemonOptions,
    /// Folder for the data
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// How often the device is filled
    #[arg(long, default_value_t = 10.0)]
    fulls: f64,
    /// Length of each of the six shards in MiB
    #[arg(long, default_value_t = 256)]
    shard_mib: u64,
    /// Objects whose parts are looked at in the end
    #[arg(long, default_value_t = 20_000)]
    stats: usize,
}

/// A cache beside its origin, until the device has been filled so often.
struct Lookaside {
    mixed: Mixed,
    code: Code,
    min_part: usize,
    put: HashSet<u64>,
    admitted_bytes: u64,
    end_bytes: u64,
}

impl Lookaside {
    /// Bytes of all parts of an object, without their heads.
    fn part_bytes(&self, object_len: u64) -> u64 {
        let stripe = |len: u64| {
            let code = self.code.for_stripe(len as usize, self.min_part);
            (code.n() * code.part_len(len as usize)) as u64
        };
        let whole = object_len / STRIPE_LEN_MAX as u64;
        let rest = object_len % STRIPE_LEN_MAX as u64;
        whole * stripe(STRIPE_LEN_MAX as u64) + if rest > 0 { stripe(rest) } else { 0 }
    }
}

impl Source for Lookaside {
    fn next(&mut self) -> Next {
        if self.admitted_bytes >= self.end_bytes { Next::End } else { self.mixed.next() }
    }

    fn urgent(&mut self) -> Option<Request> {
        self.mixed.urgent()
    }

    fn answered(&mut self, answer: &Answer) {
        self.mixed.answered(answer);
        if answer.request.kind == Kind::Put && answer.status == Status::Ok {
            self.put.insert(answer.request.object);
            self.admitted_bytes += self.part_bytes(answer.request.object_len);
        }
    }
}

/// Asks what is known of objects, and counts.
#[derive(Default)]
struct Parts {
    objects: VecDeque<u64>,
    gone: u64,
    readable: u64,
    complete: u64,
    remains: u64,
    missing_parts: u64,
}

impl Source for Parts {
    fn next(&mut self) -> Next {
        let Some(object) = self.objects.pop_front() else { return Next::End };
        let request = Request { kind: Kind::Stat, ..get(SET, object, 0) };
        Next::Request(Request { deadline_us: DEADLINE_US, ..request })
    }

    fn answered(&mut self, answer: &Answer) {
        let stat = match answer.status {
            Status::Ok => StatAnswer::decode(&answer.body).ok(),
            _ => None,
        };
        let Some(stat) = stat else {
            self.gone += 1;
            return;
        };
        let present = |parts: &[hedgerow_wire::messages::StatPart]| {
            parts.iter().filter(|part| part.state == PartState::Present).count()
        };
        let needed = |code: Code, stripe_len: u32| if stripe_len == 0 { 1 } else { code.k() };
        let readable = stat.records.iter().all(|r| present(&r.parts) >= needed(r.code, r.stripe_len));
        let missing: usize =
            stat.records.iter().map(|r| r.code.n() - present(&r.parts).min(r.code.n())).sum();
        if !readable {
            self.remains += 1;
            return;
        }
        self.readable += 1;
        self.complete += u64::from(missing == 0);
        self.missing_parts += missing as u64;
    }
}

/// Runs it.
pub fn run(options: &Turnover) -> Result<()> {
    println!("{}", machine::describe());
    let folder = tempfile::tempdir_in(&options.folder)?;
    let size = format!("{}M", options.shard_mib);
    let mut flags = vec!["--shard-size", size.as_str(), "--memory", "32M"];
    flags.extend(options.daemon.flags.iter().map(String::as_str));
    let binary = options.daemon.binary.path()?;
    let server = start_daemon(&binary, &folder.path().join("daemon"), 0, &flags)?;
    let code = Code::new(4, 2)?;
    let device_bytes = 6 * (options.shard_mib << 20);
    let object_bytes = device_bytes * code.k() as u64 / code.n() as u64;
    let mut source = Lookaside {
        mixed: meta_cdn(SET, CDN_CACHE_BYTES / object_bytes)?,
        code,
        min_part: MIN_PART_BYTES,
        put: HashSet::new(),
        admitted_bytes: 0,
        end_bytes: (options.fulls * device_bytes as f64) as u64,
    };
    let plan = Plan { warmup: Duration::ZERO, duration: None, ..closed(4, 8, 0.0) };
    let pattern = Pattern::default();
    let outcome = load::run(&server.endpoint(), &plan, &mut source, &pattern, &mut |_: Mark| {})?;
    print_load(&source, &outcome, device_bytes);
    outcome.check()?;
    print_counters(&server)?;
    let mut objects: Vec<u64> = source.put.iter().copied().collect();
    objects.sort_unstable_by_key(|object| mix(*object ^ 0x77));
    objects.truncate(options.stats);
    let mut parts = Parts { objects: objects.into(), ..Parts::default() };
    load::run(&server.endpoint(), &plan, &mut parts, &pattern, &mut |_: Mark| {})?;
    println!(
        "of {} objects that were put: {} gone, {} with too few parts to be read, {} can be read",
        parts.gone + parts.remains + parts.readable,
        parts.gone,
        parts.remains,
        parts.readable
    );
    println!(
        "of those that can be read, {:.2} % have all of their parts ({} parts are missing in all)",
        100.0 * parts.complete as f64 / parts.readable.max(1) as f64,
        parts.missing_parts
    );
    Ok(())
}

fn print_load(source: &Lookaside, outcome: &Outcome, device_bytes: u64) {
    let (gets, puts) = (outcome.of(Class::Get), outcome.of(Class::Fill));
    println!(
        "{} gets ({:.1} % hits), {} puts of {} objects in {:.0} s; {:.1} device-fulls of {:.2} GiB; wrong {}",
        gets.answered,
        100.0 * gets.ok() as f64 / gets.answered.max(1) as f64,
        puts.ok(),
        source.put.len(),
        outcome.seconds,
        source.admitted_bytes as f64 / device_bytes as f64,
        device_bytes as f64 / (1u64 << 30) as f64,
        gets.wrong
    );
    println!("gets not Ok: {:?}; puts not Ok: {:?}", gets.failures(), puts.failures());
}

fn print_counters(server: &crate::server::Server) -> Result<()> {
    let stats = control::stats(server.address)?;
    let counter = |name| control::counter(&stats, name);
    let (written, admitted) = (counter("store_bytes_written")?, counter("store_bytes_admitted")?);
    println!(
        "bytes written to the device for each byte admitted: {:.4} ({written} / {admitted})",
        written as f64 / admitted.max(1) as f64
    );
    for name in [
        "store_bytes_padding",
        "store_bytes_tables",
        "store_bytes_reinserted",
        "store_slabs_evicted",
        "store_parts_evicted",
        "store_parts_reinserted",
        "store_parts_dropped",
        "coordinator_under_redundant",
        "coordinator_parts_repaired",
        "coordinator_drops_lost",
        "coordinator_touches_lost",
    ] {
        println!("- {name}: {}", counter(name)?);
    }
    Ok(())
}
