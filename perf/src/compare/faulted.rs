//! `compare --figure fault`: what a fault does to each peer's tail, side by side. A shard of Hedgerow is slow or
//! stuck, a server of an erasure-coded cluster is killed, the device of a cache on one device is throttled.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use super::Compare;
use super::contest::{CONNECTIONS_MAX, Contest, Contestant};
use crate::load::{self, Mark, Plan};
use crate::measure::{STEAL_MAX, Sample, closed, observe};
use crate::pattern::Pattern;
use crate::peer::{Peer, Running};
use crate::process::DeviceLimit;
use crate::scenarios::cell::{Gets, judge};
use crate::scenarios::faults::{LASTS, ONSET, Scenario, schedule};
use crate::scenarios::{RATE_SHARE, UNDER_WAY};
use crate::{clock, control};

/// What a throttled device gives: about that of one whose every operation takes 50 ms, eight at a time.
const THROTTLED_IOPS: u64 = 160;
/// And so many bytes per second: reads of 64 KiB.
const THROTTLED_BPS: u64 = THROTTLED_IOPS * (64 << 10);
/// A window of which the hypervisor took more than [`STEAL_MAX`] is measured again, so often at most.
const AGAIN_MAX: usize = 2;

/// What is done to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// A scenario of `hedgerow-perf scenarios`, by its name.
    Shard(&'static str),
    /// One of its servers is killed, and stays dead.
    ServerKilled,
    /// Its files' device gives little.
    DeviceThrottled,
}

impl Fault {
    /// What there is to do to a peer.
    fn of(peer: Peer) -> &'static [Fault] {
        match peer {
            Peer::Hedgerow => &[Fault::Shard("delay 50 ms"), Fault::Shard("stall")],
            Peer::SeaweedfsEc => &[Fault::ServerKilled],
            Peer::MemcachedExtstore | Peer::Nginx => &[Fault::DeviceThrottled],
            Peer::Memcached | Peer::Redis | Peer::Valkey => &[],
        }
    }

    /// What it is called.
    pub fn name(self) -> String {
        match self {
            Fault::None => "healthy".to_owned(),
            Fault::Shard(name) => format!("one shard: {name}"),
            Fault::ServerKilled => "one of four servers killed".to_owned(),
            Fault::DeviceThrottled => {
                format!("device at {THROTTLED_IOPS} reads/s, {} MiB/s", THROTTLED_BPS >> 20)
            }
        }
    }

    /// What is to be done, and when since the window began.
    fn steps(self, window: Duration) -> Result<Vec<(Duration, Step)>> {
        let (begin, end) = (window.mul_f64(ONSET), window.mul_f64(ONSET + LASTS));
        Ok(match self {
            Fault::None => Vec::new(),
            Fault::Shard(name) => {
                let scenario: &Scenario = name.parse().map_err(anyhow::Error::msg)?;
                let events = schedule(scenario.trouble, window);
                events.into_iter().map(|event| (event.at, Step::Inject(event.fault))).collect()
            }
            Fault::ServerKilled => vec![(begin, Step::Kill)],
            Fault::DeviceThrottled => vec![(begin, Step::Throttle), (end, Step::Release)],
        })
    }
}

/// Something that is done to a peer while it is measured.
#[derive(Clone, Copy, Debug)]
enum Step {
    Inject(hedgerow_wire::messages::Fault),
    Kill,
    Throttle,
    Release,
}

/// One peer under one fault: all windows together.
pub struct Row {
    /// Which.
    pub peer: Peer,
    /// What was done to it.
    pub fault: Fault,
    /// Gets a second that were wanted.
    pub rate: f64,
    /// Rates and shares of every window.
    pub samples: Vec<Sample>,
    /// Over all of them: what failed counts until its deadline, in nanoseconds.
    pub latency: Histogram<u64>,
    /// What became of the gets, by window.
    pub gets: Vec<Gets>,
}

impl Row {
    fn new(peer: Peer, fault: Fault, rate: f64) -> Row {
        Row { peer, fault, rate, samples: Vec::new(), latency: load::histogram(), gets: Vec::new() }
    }
}

/// Measures every peer healthy, then under its faults, in turns. What cannot be done here is said, and left out.
pub fn rows(options: &Compare, contest: &mut Contest<'_>) -> Result<Vec<Row>> {
    let pattern = contest.pattern;
    let mut rows: Vec<Row> = Vec::new();
    let mut limits: Vec<Option<DeviceLimit>> = Vec::new();
    for contestant in &contest.contestants {
        let peer = contestant.running.peer;
        let rate = RATE_SHARE * contestant.peak();
        rows.push(Row::new(peer, Fault::None, rate));
        let mut limit = None;
        for &fault in Fault::of(peer) {
            if fault == Fault::DeviceThrottled {
                match DeviceLimit::new(peer.name(), &options.folder) {
                    Ok(made) => limit = Some(made),
                    Err(error) => {
                        println!("{}, {}: cannot be done here: {error:#}", peer.name(), fault.name());
                        continue;
                    }
                }
            }
            rows.push(Row::new(peer, fault, rate));
        }
        limits.push(limit);
    }
    // Healthy first: a server that was killed stays dead.
    for healthy in [true, false] {
        for _ in 0..options.rounds {
            for row in rows.iter_mut().filter(|row| (row.fault == Fault::None) == healthy) {
                let place = contest.contestants.iter().position(|each| each.running.peer == row.peer);
                let place = place.context("a row without its peer")?;
                let contestant = &mut contest.contestants[place];
                window(options, contestant, limits[place].as_ref(), row, pattern)?;
            }
        }
    }
    Ok(rows)
}

/// One window, again if much of it was stolen.
fn window(
    options: &Compare,
    contestant: &mut Contestant,
    limit: Option<&DeviceLimit>,
    row: &mut Row,
    pattern: &Pattern,
) -> Result<()> {
    let length = Duration::from_secs_f64(options.seconds);
    // Where answers keep the order of requests, one that is late would hold up those behind it.
    let (connections, depth) = match row.peer {
        Peer::Hedgerow => UNDER_WAY,
        _ => (CONNECTIONS_MAX, 1),
    };
    let plan = Plan { rate: Some(row.rate), ..closed(connections, depth, options.seconds) };
    let steps = row.fault.steps(length)?;
    let what = || format!("{}, {}", row.peer.name(), row.fault.name());
    for again in 0..=AGAIN_MAX {
        let (running, source) = (&contestant.running, &mut *contestant.source);
        let (marks, heard) = channel();
        let (observed, conducted) = std::thread::scope(|scope| {
            let conductor = scope.spawn(|| conduct(running, limit, &steps, heard));
            let mut mark = |mark: Mark| {
                // If the conductor has ended, its error is the one that is told.
                let _ = marks.send((mark, clock::now_ns()));
            };
            let observed = observe(running, &plan, source, pattern, &mut mark);
            drop(marks);
            (observed, conductor.join().unwrap_or_else(|_| bail!("the conductor of the faults panicked")))
        });
        conducted.with_context(what)?;
        let (sample, outcome) = observed.with_context(what)?;
        outcome.check()?;
        if sample.steal_share > STEAL_MAX && again < AGAIN_MAX {
            continue;
        }
        // What memcached evicted is no error of it; the others have to have every object.
        let (gets, latency) = judge(&outcome, row.rate, row.peer == Peer::MemcachedExtstore);
        row.latency += &latency;
        row.samples.push(sample);
        row.gets.push(gets);
        break;
    }
    Ok(())
}

/// Does what is to be done at its times, and leaves a healthy peer behind, but for servers that were killed.
fn conduct(
    running: &Running,
    limit: Option<&DeviceLimit>,
    steps: &[(Duration, Step)],
    marks: Receiver<(Mark, u64)>,
) -> Result<()> {
    let (_, begun_ns) = marks.recv().context("the load ended before its time")?;
    let mut result = Ok(());
    for (at, step) in steps {
        let due_ns = begun_ns + at.as_nanos() as u64;
        let wait = Duration::from_nanos(due_ns.saturating_sub(clock::now_ns()));
        if marks.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            result = Err(anyhow::anyhow!("the load ended before the fault's time"));
            break;
        }
        let limit = || limit.context("no limit for its device");
        result = match step {
            Step::Inject(fault) => control::inject(running.endpoint.address, *fault),
            Step::Kill => running.kill_one_server(),
            Step::Throttle => {
                limit().and_then(|limit| limit.begin(&running.pids(), THROTTLED_IOPS, THROTTLED_BPS))
            }
            Step::Release => limit().and_then(DeviceLimit::end),
        };
        if result.is_err() {
            break;
        }
    }
    let injects = |(_, step): &(Duration, Step)| matches!(step, Step::Inject(_));
    if steps.iter().any(injects) {
        // Within the window each ends by itself; not so if the load ended before.
        let _ = marks.recv();
        control::clear_faults(running.endpoint.address)?;
    }
    if let Some(limit) = limit {
        limit.end()?;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_steps_within_the_window_and_a_name_of_its_own() {
        let window = Duration::from_secs(10);
        let mut names = std::collections::BTreeSet::new();
        for peer in <Peer as clap::ValueEnum>::value_variants() {
            for fault in Fault::of(*peer) {
                let steps = fault.steps(window).unwrap();
                assert!(!steps.is_empty() && steps.iter().all(|(at, _)| *at < window), "{fault:?}");
                names.insert(fault.name());
            }
        }
        assert_eq!(names.len(), 4);
        assert!(Fault::None.steps(window).unwrap().is_empty());
    }
}
