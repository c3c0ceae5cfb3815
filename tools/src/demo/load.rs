//! Filling a daemon, and reading from it at a fixed rate.
//!
//! The reads are an open loop: each has an intended start, and its latency counts from there, so that
//! a daemon that holds up the loop is not spared the reads that should have been made meanwhile
//! (Schroeder, Wierman, Harchol-Balter, Open versus closed, NSDI 2006).

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hedgerow_client::{Client, Error, Request};
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::systems::trouble;
use super::workload::{self, Workload};
use crate::failure::Failure;

/// Writes under way at a time.
const WRITES_AT_A_TIME: usize = 32;
/// Time that a read gets.
const READ_DEADLINE: Duration = Duration::from_secs(2);
/// Time that a write gets.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// The version of every object of the demonstration.
const VERSION: u32 = 1;
/// Longest latency that is told apart: above every deadline.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// What a run of reads gave.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Latencies in nanoseconds, of all reads, whatever their outcome.
    pub latencies: Histogram<u64>,
    /// Reads of objects that should be there, answered with nothing.
    pub misses: u64,
    /// Reads that failed, and why the first one did.
    pub errors: u64,
    /// Of the first error.
    pub first_error: Option<String>,
    /// Bytes that are not what was stored.
    pub wrong_bytes: u64,
    /// Part reads that the reads from devices could not do without.
    pub part_reads_needed: u64,
}

impl Measured {
    fn new() -> Result<Measured, Failure> {
        let latencies = Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3)
            .map_err(|error| Failure::local(format!("cannot measure latencies: {error}")))?;
        Ok(Measured {
            latencies,
            misses: 0,
            errors: 0,
            first_error: None,
            wrong_bytes: 0,
            part_reads_needed: 0,
        })
    }

    fn record(&mut self, read: Read) {
        self.latencies.saturating_record(read.latency.as_nanos() as u64);
        self.part_reads_needed += read.part_reads_needed;
        match read.outcome {
            Outcome::Found { wrong_bytes } => self.wrong_bytes += wrong_bytes,
            Outcome::Missed => self.misses += 1,
            Outcome::Failed(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error.to_string());
            }
        }
    }
}

/// Stores every object.
pub async fn fill(client: &Client, workload: &Arc<Workload>, bar: &ProgressBar) -> Result<(), Failure> {
    let request = client.request().deadline(WRITE_DEADLINE);
    let mut under_way: JoinSet<Result<(), Error>> = JoinSet::new();
    let mut next = 0;
    while next < workload.objects() || !under_way.is_empty() {
        if next < workload.objects() && under_way.len() < WRITES_AT_A_TIME {
            let (request, len) = (request.clone(), workload.len(next));
            let object = next;
            under_way.spawn(async move {
                let body = workload::body(object, VERSION, len);
                request.put(workload::key(object), body).await.map(|_| ())
            });
            next += 1;
            continue;
        }
        match under_way.join_next().await {
            Some(Ok(result)) => result.map_err(trouble("storing objects"))?,
            Some(Err(error)) => return Err(Failure::local(format!("demo: storing objects: {error}"))),
            None => break,
        }
        bar.inc(1);
    }
    Ok(())
}

/// Reads for `seconds` at `rate` reads a second. `first` is the number of the first request.
pub async fn read(
    client: &Client,
    workload: &Arc<Workload>,
    rate: u32,
    seconds: u32,
    first: u64,
    bar: &ProgressBar,
) -> Result<Measured, Failure> {
    let mut measured = Measured::new()?;
    let request = client.request().deadline(READ_DEADLINE);
    let parts = Parts::of(client);
    let mut starts = paced(rate, u64::from(rate) * u64::from(seconds))?;
    let mut under_way = JoinSet::new();
    let mut number = first;
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            start = starts.recv(), if open => match start {
                Some(intended) => {
                    under_way.spawn(read_one(request.clone(), workload.clone(), number, intended, parts));
                    number += 1;
                }
                None => open = false,
            },
            Some(done) = under_way.join_next() => {
                bar.inc(1);
                measured.record(done.map_err(|error| Failure::local(format!("demo: reading: {error}")))?);
            }
        }
    }
    Ok(measured)
}

struct Read {
    latency: Duration,
    outcome: Outcome,
    part_reads_needed: u64,
}

enum Outcome {
    Found { wrong_bytes: u64 },
    Missed,
    Failed(Error),
}

async fn read_one(
    request: Request,
    workload: Arc<Workload>,
    number: u64,
    intended: Instant,
    parts: Parts,
) -> Read {
    let object = workload.pick(number);
    let len = workload.len(object);
    let found = request.get(workload::key(object)).await;
    let latency = now().saturating_duration_since(intended);
    let from_memory = matches!(&found, Ok(Some(found)) if found.meta.from_memory);
    let outcome = match found {
        Ok(Some(found)) => {
            Outcome::Found { wrong_bytes: workload::wrong_bytes(object, VERSION, len, &found.bytes) }
        }
        Ok(None) => Outcome::Missed,
        Err(error) => Outcome::Failed(error),
    };
    let part_reads_needed = if from_memory { 0 } else { parts.needed(len) };
    Read { latency, outcome, part_reads_needed }
}

/// How the daemon cuts objects: its code, and the smallest part in bytes.
#[derive(Clone, Copy)]
struct Parts(Option<(hedgerow_client::Code, usize)>);

impl Parts {
    fn of(client: &Client) -> Parts {
        let hello = client.daemons().into_iter().find_map(|daemon| daemon.hello);
        Parts(hello.map(|hello| (hello.code, hello.limits.min_part_len as usize)))
    }

    /// Parts that an object of one stripe cannot be read without.
    fn needed(self, len: usize) -> u64 {
        self.0.map_or(1, |(code, min_part)| code.for_stripe(len, min_part).k() as u64)
    }
}

#[allow(clippy::disallowed_methods)] // it measures
fn now() -> Instant {
    Instant::now()
}

/// Gives out `count` intended starts, each at its time. A thread of its own, since the runtime's timers
/// are a millisecond coarse.
#[allow(clippy::disallowed_methods)] // it paces
fn paced(rate: u32, count: u64) -> Result<mpsc::UnboundedReceiver<Instant>, Failure> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let interval_ns = 1_000_000_000 / u64::from(rate.max(1));
    let pace = move || {
        let begin = Instant::now();
        for number in 0..count {
            let start = begin + Duration::from_nanos(interval_ns * number);
            std::thread::sleep(start.saturating_duration_since(Instant::now()));
            if sender.send(start).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("pace".to_owned()).spawn(pace);
    thread.map_err(|error| Failure::local(format!("cannot start a thread: {error}")))?;
    Ok(receiver)
}
