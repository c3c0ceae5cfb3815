//! Peers in turns: filling them, the sweep, and rounds, of which those with stolen time are dropped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use hedgerow_wire::frame::Status;

use super::{Compare, Figure, SET, Width};
use crate::clock;
use crate::load::{self, Outcome, Plan, Source};
use crate::machine;
use crate::measure::{STEAL_MAX, Sample, closed, measure};
use crate::pattern::Pattern;
use crate::peer::{Peer, Running};
use crate::request::Class;
use crate::sources::{Fill, Sizes};

/// Rounds that may be dropped before a figure is given up, for each that counts.
const DROPPED_PER_ROUND: usize = 3;
/// Share of the lower peak at which tails are compared.
const TAIL_SHARE: f64 = 0.6;
/// memcached's extstore evicts what it has not flushed: puts are paced to what it flushes, in bytes per second.
const EXTSTORE_FILL: f64 = 100e6;
/// Connections of a server that answers one request at a time on each, at most.
pub const CONNECTIONS_MAX: usize = 256;

/// What one measurement of one peer found.
#[derive(Clone)]
pub struct Round {
    /// Rates, latencies and shares.
    pub sample: Sample,
    /// Bytes that came from the device for each byte of objects.
    pub device_share: f64,
    /// Of the gets, the share that was there.
    pub hit_share: f64,
}

/// A peer in a contest.
pub struct Contestant {
    /// The peer.
    pub running: Running,
    /// What it is asked.
    pub source: Box<dyn Source>,
    /// Bytes of flash that it was given.
    pub flash_bytes: u64,
    /// What the sweep found.
    pub sweep: Vec<(Width, Round)>,
    /// The best of it.
    best: Width,
    /// What the rounds are measured at: the best, or, in an open loop, the widest, so that no arrival waits
    /// in the generator.
    pub at: Width,
    /// The rounds that count.
    pub rounds: Vec<Round>,
    /// Latency over all of them, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Contestant {
    /// Nothing is known of it.
    pub fn new(running: Running, source: Box<dyn Source>, flash_bytes: u64) -> Contestant {
        let best = Width { connections: 1, depth: 1 };
        Contestant {
            running,
            source,
            flash_bytes,
            sweep: Vec::new(),
            best,
            at: best,
            rounds: Vec::new(),
            latency: load::histogram(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.running.peer.name()
    }

    /// The same number of requests under way, as its protocol can have them.
    pub fn width(&self, width: Width) -> Width {
        if self.running.endpoint.protocol.pipelines() {
            return width;
        }
        Width { connections: (width.connections * width.depth).min(CONNECTIONS_MAX), depth: 1 }
    }

    /// Its greatest rate in the sweep.
    pub fn peak(&self) -> f64 {
        self.sweep.iter().map(|(_, round)| round.sample.rate).fold(0.0, f64::max)
    }
}

/// Peers that are compared.
pub struct Contest<'a> {
    options: &'a Compare,
    /// What objects hold.
    pub pattern: &'a Pattern,
    /// In the order of the command line.
    pub contestants: Vec<Contestant>,
    /// Rounds that were dropped because of stolen time.
    pub dropped: usize,
    /// The rate of an open loop.
    pub rate: Option<f64>,
    /// Missing objects are put: a miss is an answer like others, and only gets are requests.
    lookaside: bool,
}

impl<'a> Contest<'a> {
    /// Without peers.
    pub fn new(options: &'a Compare, pattern: &'a Pattern, lookaside: bool) -> Contest<'a> {
        Contest { options, pattern, contestants: Vec::new(), dropped: 0, rate: None, lookaside }
    }

    /// Name of the first one, to which ratios are.
    pub fn first(&self) -> Option<&'static str> {
        self.contestants.first().map(Contestant::name)
    }

    /// Puts every object into every peer. One that cannot take them is left out; not so the first.
    pub fn fill(&mut self, objects: u64, sizes: &Sizes) -> Result<()> {
        let mut place = 0;
        while place < self.contestants.len() {
            let contestant = &mut self.contestants[place];
            match fill(contestant, objects, sizes, self.pattern) {
                Ok(()) => place += 1,
                Err(error) if place == 0 => return Err(error),
                Err(error) => {
                    println!("warning: {} is left out: {error:#}", contestant.name());
                    self.contestants.remove(place);
                }
            }
        }
        // What is still to be written does not disturb the first round.
        rustix::fs::sync();
        Ok(())
    }

    /// Runs the workload on a peer until it has put as many bytes as the cache has, or for so long.
    pub fn warm(&mut self, place: usize, seconds: f64) -> Result<()> {
        let contestant = &mut self.contestants[place];
        let name = contestant.name();
        let width = contestant.width(Width { connections: 8, depth: 4 });
        let paced = contestant.running.peer == Peer::MemcachedExtstore;
        let endpoint = contestant.running.endpoint.clone();
        let (begun, mut filled, mut hits) = (clock::now_ns(), 0, 0.0);
        while filled < contestant.flash_bytes && ((clock::now_ns() - begun) as f64) < seconds * 1e9 {
            let plan = Plan {
                // Most gets of the beginning are misses.
                rate: paced.then_some(EXTSTORE_FILL / 33_024.0),
                warmup: Duration::ZERO,
                ..closed(width.connections, width.depth, 2.0)
            };
            let outcome = load::run(&endpoint, &plan, &mut *contestant.source, self.pattern, &mut |_| {})
                .with_context(|| format!("warming {name}"))?;
            outcome.check()?;
            filled += outcome.of(Class::Fill).bytes;
            if contestant.running.reads_through() {
                let gets = outcome.of(Class::Get);
                filled += gets.bytes * gets.through / gets.answered.max(1);
            }
            hits = outcome.hit_share();
        }
        eprintln!(
            "{name} warmed with {} MiB in {:.1} s, hits {:.1} %",
            filled >> 20,
            (clock::now_ns() - begun) as f64 * 1e-9,
            100.0 * hits
        );
        Ok(())
    }

    /// Of a peer's gets in one measurement, the share that was there.
    pub fn hit_share(&mut self, place: usize) -> Result<f64> {
        let width = self.contestants[place].width(Width { connections: 8, depth: 4 });
        let (round, _) = self.measure(place, width, None, self.options.seconds)?;
        Ok(round.hit_share)
    }

    /// Measures every peer at every width and keeps its best.
    pub fn sweep(&mut self, widths: &[Width]) -> Result<()> {
        for &width in widths {
            for place in 0..self.contestants.len() {
                let width = self.contestants[place].width(width);
                let known = self.contestants[place].sweep.iter().any(|(known, _)| *known == width);
                if known {
                    continue;
                }
                let (round, _) = self.measure(place, width, None, self.options.seconds / 2.0)?;
                let contestant = &mut self.contestants[place];
                if round.sample.rate > contestant.peak() {
                    contestant.best = width;
                }
                contestant.sweep.push((width, round));
            }
        }
        Ok(())
    }

    /// Measures in turns until there are enough rounds without stolen time.
    pub fn rounds(&mut self, figure: Figure) -> Result<()> {
        let lowest = self.contestants.iter().map(Contestant::peak).fold(f64::INFINITY, f64::min);
        self.rate = (figure == Figure::Tail).then_some(TAIL_SHARE * lowest);
        self.dropped = 0;
        for contestant in &mut self.contestants {
            let widest = contestant.sweep.iter().map(|(width, _)| *width);
            let widest = widest.max_by_key(|width| width.connections * width.depth);
            contestant.at = self.rate.and(widest).unwrap_or(contestant.best);
            contestant.rounds.clear();
            contestant.latency = load::histogram();
        }
        let mut counted = 0;
        while counted < self.options.rounds && self.dropped <= DROPPED_PER_ROUND * self.options.rounds {
            let mut found = Vec::new();
            for place in 0..self.contestants.len() {
                let at = self.contestants[place].at;
                found.push(self.measure(place, at, self.rate, self.options.seconds)?);
            }
            if found.iter().any(|(round, _)| round.sample.steal_share > STEAL_MAX) {
                self.dropped += 1;
                continue;
            }
            counted += 1;
            for (contestant, (round, outcome)) in self.contestants.iter_mut().zip(found) {
                contestant.latency += &match self.lookaside {
                    true => outcome.of(Class::Get).latency.clone(),
                    false => outcome.latency(),
                };
                contestant.rounds.push(round);
            }
        }
        ensure!(counted > 0, "time was stolen in all of {} rounds: there is no figure", self.dropped);
        Ok(())
    }

    fn measure(
        &mut self,
        place: usize,
        width: Width,
        rate: Option<f64>,
        seconds: f64,
    ) -> Result<(Round, Outcome)> {
        let contestant = &mut self.contestants[place];
        let plan = Plan { rate, ..closed(width.connections, width.depth, seconds) };
        let before = machine::device_read_bytes(&self.options.folder)?;
        let begun = clock::now_ns();
        let (mut sample, outcome) =
            measure(&contestant.running, &plan, &mut *contestant.source, self.pattern)
                .with_context(|| format!("measuring {}", contestant.running.peer.name()))?;
        let elapsed = (clock::now_ns() - begun) as f64 * 1e-9;
        let read = (machine::device_read_bytes(&self.options.folder)? - before) as f64;
        // The warm-up reads too: what is counted is as large a share of the reads as of the time.
        let objects = sample.bytes_rate * elapsed;
        let device_share = read / objects.max(1.0);
        let hit_share = outcome.hit_share();
        if self.lookaside {
            of_gets(&mut sample, &outcome);
        }
        Ok((Round { sample, device_share, hit_share }, outcome))
    }
}

/// Makes the figures of all requests those of gets, missed ones included; latencies are those of hits.
fn of_gets(sample: &mut Sample, outcome: &Outcome) {
    let gets = outcome.of(Class::Get);
    let answered: u64 = outcome.classes.iter().map(|tally| tally.answered).sum();
    let us = |quantile| gets.latency.value_at_quantile(quantile) as f64 / 1e3;
    sample.rate = gets.answered as f64 / outcome.seconds;
    sample.bytes_rate = gets.bytes as f64 / outcome.seconds;
    (sample.p50_us, sample.p99_us, sample.p999_us) = (us(0.5), us(0.99), us(0.999));
    sample.cpu_us *= answered as f64 / gets.answered.max(1) as f64;
    sample.failures.retain(|(status, _)| *status != Status::NotFound);
}

/// Puts every object into a peer.
fn fill(contestant: &mut Contestant, objects: u64, sizes: &Sizes, pattern: &Pattern) -> Result<()> {
    let name = contestant.name();
    let mut source = Fill::new(SET, objects, sizes.clone());
    source.by_get = contestant.running.reads_through();
    let paced = contestant.running.peer == Peer::MemcachedExtstore;
    let plan = Plan {
        rate: paced.then(|| EXTSTORE_FILL / sizes.mean()),
        duration: None,
        warmup: Duration::ZERO,
        ..closed(8, if contestant.running.endpoint.protocol.pipelines() { 4 } else { 1 }, 0.0)
    };
    let endpoint = contestant.running.endpoint.clone();
    let begun = clock::now_ns();
    let outcome = load::run(&endpoint, &plan, &mut source, pattern, &mut |_| {})
        .with_context(|| format!("filling {name}"))?;
    outcome.check()?;
    let filled = outcome.of(Class::Fill);
    let failures = filled.failures();
    ensure!(filled.ok() > 0, "{name} took no object: {failures:?}");
    if !failures.is_empty() {
        println!("warning: {name} did not take all objects: {failures:?}");
    }
    contestant.running.seal().with_context(|| format!("sealing {name}"))?;
    eprintln!("{name} filled in {:.1} s", (clock::now_ns() - begun) as f64 * 1e-9);
    Ok(())
}
