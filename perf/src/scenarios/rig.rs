//! One system's daemon in one round: what it holds, and what is done to it before a scenario.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hedgerow_engine::shell::settings::SHARD_BYTES_MIN;
use hedgerow_wire::frame::Status;

use super::faults::Trouble;
use super::settle::settle;
use super::systems::System;
use super::{Scenarios, UNDER_WAY};
use crate::bare_server::write_zeroes;
use crate::clock;
use crate::figures::start_daemon;
use crate::load::{self, Plan, Source};
use crate::measure::{Watched, closed, measure};
use crate::pattern::{Pattern, Random};
use crate::request::{Answer, Request};
use crate::server::Server;
use crate::sources::{Fill, Mixed, Sizes, get, put};

/// Set of the objects that all scenarios read.
const SET: u8 = b's';
/// Set of those that fill the devices.
const FULL_SET: u8 = b'f';
/// Shards of each daemon.
const SHARDS: u64 = 6;
/// What the devices have room for, in relation to what the system with the most parity stores.
const ROOM: f64 = 1.6;
/// Parts that an object has for each that it needs, at most: of two copies.
const REDUNDANCY_MAX: f64 = 2.0;
/// Connections and depths of which the best is a system's peak.
const SWEEP: [(usize, usize); 2] = [(8, 4), (16, 8)];
/// How long the load of the scenarios is rehearsed.
const REHEARSAL_SECONDS: f64 = 8.0;
/// Full devices have been written so many times over.
const FULLS: f64 = 1.2;
/// What is read of them is the newest so great a share of what they can hold.
const NEWEST_SHARE: f64 = 0.25;
/// Share of the requests that put an object, where devices are full.
const PUT_SHARE: f64 = 0.1;

/// A daemon, and the load that it is for.
pub struct Rig<'a> {
    pub(super) options: &'a Scenarios,
    system: &'static System,
    pub(super) pattern: &'a Pattern,
    folder: PathBuf,
    /// A file beside the daemon's, and its length, to see whether the device is calm.
    beside: (&'a Path, u64),
    shard_bytes: u64,
    /// None: none has been started yet.
    server: Option<Server>,
    memory_bytes: u64,
    /// The next scenario is not to find it as this one left it.
    spoiled: bool,
    /// Sources that were made: each draws a sequence of its own.
    sources: usize,
}

impl<'a> Rig<'a> {
    /// Starts the daemon with its data in a folder that is empty, puts every object, and reads each once.
    pub fn new(
        options: &'a Scenarios,
        system: &'static System,
        pattern: &'a Pattern,
        folder: &Path,
        beside: (&'a Path, u64),
    ) -> Result<Rig<'a>> {
        let stored = REDUNDANCY_MAX * options.object_bytes() as f64;
        let shard_mib = (stored * ROOM / SHARDS as f64 / f64::from(1 << 20)).ceil() as u64;
        let shard_bytes = (shard_mib << 20).max(SHARD_BYTES_MIN);
        let mut rig = Rig {
            options,
            system,
            pattern,
            folder: folder.to_owned(),
            beside,
            shard_bytes,
            server: None,
            memory_bytes: options.memory_bytes(),
            spoiled: false,
            sources: 0,
        };
        if !options.quick {
            // A new file is written through by the daemon in the background, which would be measured too.
            std::fs::create_dir_all(folder)?;
            for shard in 0..SHARDS {
                write_zeroes(&folder.join(format!("shard-{shard}")), shard_bytes)?;
            }
        }
        rig.start()?;
        let fill = Fill::new(SET, options.objects(), Sizes::Fixed(options.object_len));
        rig.all("putting the objects", fill)?;
        rig.settle()?;
        rig.warm()?;
        Ok(rig)
    }

    /// What is still to be written does not disturb what is measured next.
    fn settle(&self) -> Result<()> {
        rustix::fs::sync();
        if self.options.quick {
            return Ok(());
        }
        settle(self.beside.0, self.beside.1)
    }

    /// The daemon.
    pub fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("no daemon runs")
    }

    fn start(&mut self) -> Result<()> {
        let (code, memory) = (self.system.code()?.to_string(), self.memory_bytes.to_string());
        let (shards, size) = (SHARDS.to_string(), self.shard_bytes.to_string());
        let mut flags = vec!["--code", &code, "--read-policy", self.system.policy, "--memory", &memory];
        flags.extend(["--shards", &shards, "--shard-size", &size, "--allow-faults"]);
        flags.extend(self.options.daemon.flags.iter().map(String::as_str));
        let binary = self.options.daemon.binary.path()?;
        self.server = Some(start_daemon(&binary, &self.folder, self.options.server_core, &flags)?);
        Ok(())
    }

    /// Runs a source to its end, in a closed loop.
    fn drive(&self, what: &str, source: &mut dyn Source) -> Result<load::Outcome> {
        let plan = Plan { duration: None, warmup: Duration::ZERO, ..closed(8, 4, 0.0) };
        let outcome = load::run(&self.server()?.endpoint(), &plan, source, self.pattern, &mut |_| {})
            .with_context(|| format!("{}: {what}", self.system.name))?;
        outcome.check()?;
        Ok(outcome)
    }

    /// The same, and everything must be answered `Ok`.
    fn all(&self, what: &str, mut source: Fill) -> Result<()> {
        let outcome = self.drive(what, &mut source)?;
        let failures: Vec<_> = outcome.classes.iter().flat_map(load::Tally::failures).collect();
        ensure!(failures.is_empty(), "{}: {what}: not answered Ok: {failures:?}", self.system.name);
        Ok(())
    }

    /// Reads every object once: the memory tier has what it can, and every target's latency is known.
    fn warm(&self) -> Result<()> {
        let mut fill = Fill::new(SET, self.options.objects(), Sizes::Fixed(self.options.object_len));
        fill.by_get = true;
        self.all("reading every object once", fill)
    }

    /// Gets of all objects, all alike probable.
    fn gets(&mut self) -> Mixed {
        self.sources += 1;
        let sizes = Sizes::Fixed(self.options.object_len);
        Mixed::gets(SET, self.options.objects(), sizes).for_thread(self.sources)
    }

    /// The greatest rate of a closed loop over some widths, in requests a second. The device is calm after it.
    pub fn peak(&mut self) -> Result<f64> {
        let mut peak = 0.0;
        for (connections, depth) in SWEEP {
            let plan = closed(connections, depth, self.options.sweep_seconds());
            let mut gets = self.gets();
            let (sample, _) = measure(self.server()?, &plan, &mut gets, self.pattern)?;
            peak = f64::max(peak, sample.rate);
        }
        self.settle()?;
        Ok(peak)
    }

    /// Asks at the rate of the scenarios for a while, uncounted: what is new to a daemon, and to the machine below it
    /// (memory that it has not touched yet), is not the healthy window's, which comes first.
    pub fn rehearse(&mut self, rate: f64) -> Result<()> {
        let seconds = if self.options.quick { 0.1 } else { REHEARSAL_SECONDS };
        let (connections, depth) = UNDER_WAY;
        let plan = Plan { rate: Some(rate), ..closed(connections, depth, seconds) };
        let mut gets = self.gets();
        measure(self.server()?, &plan, &mut gets, self.pattern)?;
        Ok(())
    }

    /// Makes the daemon what a scenario wants, and says what it is to be asked. How long a cold start took.
    pub fn prepare(&mut self, trouble: Trouble) -> Result<(Box<dyn Source>, Option<Duration>)> {
        let whole = self.options.memory_bytes();
        let memory_bytes = if trouble == Trouble::HalfMemory { whole / 2 } else { whole };
        let cold = trouble == Trouble::ColdStart;
        let full = trouble == Trouble::FullDevice;
        if (self.spoiled || memory_bytes != self.memory_bytes) && !cold {
            if let Some(server) = self.server.take() {
                server.stop()?;
            }
            self.memory_bytes = memory_bytes;
            self.start()?;
            // Full devices may have let go what the other scenarios read.
            if !full {
                self.warm()?;
            }
        }
        // A shard that failed may be set aside for a while, and a cold memory tier has not been filled.
        self.spoiled = cold || full || trouble == Trouble::Failing;
        match trouble {
            Trouble::ColdStart => {
                if let Some(server) = self.server.take() {
                    server.kill()?;
                }
                self.memory_bytes = memory_bytes;
                self.start()?;
                let ready_after = self.server()?.ready_after;
                Ok((Box::new(self.gets()), Some(ready_after)))
            }
            Trouble::FullDevice => Ok((Box::new(self.turn_over()?), None)),
            _ => Ok((Box::new(self.gets()), None)),
        }
    }

    /// Puts more objects than there is room for.
    fn turn_over(&self) -> Result<Churn> {
        let code = self.system.code_of(self.options.object_len)?;
        let share = code.k() as f64 / code.n() as f64;
        let room = (SHARDS * self.shard_bytes) as f64 * share / self.options.object_len as f64;
        let end = (room * FULLS) as u64;
        let begun = clock::now_ns();
        let sizes = Sizes::Fixed(self.options.object_len);
        let mut puts = Insistent { fill: Fill::new(FULL_SET, end, sizes), again: Vec::new(), refused: 0 };
        self.drive("filling the devices", &mut puts)?;
        eprintln!(
            "  the devices are full: {end} objects put in {:.1} s, {} of them again because they were refused",
            (clock::now_ns() - begun) as f64 * 1e-9,
            puts.refused
        );
        self.settle()?;
        let newest = ((room * NEWEST_SHARE) as u64).max(1);
        Ok(Churn { next: end, newest, object_len: self.options.object_len, random: Random::new(7) })
    }
}

/// Puts each object until it is taken: a device that lets slabs go for new ones refuses some.
struct Insistent {
    fill: Fill,
    again: Vec<Request>,
    refused: u64,
}

impl Source for Insistent {
    fn next(&mut self) -> load::Next {
        match self.again.pop() {
            Some(request) => load::Next::Request(request),
            None => self.fill.next(),
        }
    }

    fn answered(&mut self, answer: &Answer) {
        if answer.status != Status::Ok {
            self.refused += 1;
            self.again.push(answer.request);
        }
    }
}

/// Gets of the newest objects, and puts of new ones.
struct Churn {
    /// The next object to be put.
    next: u64,
    /// How many are read.
    newest: u64,
    object_len: u64,
    random: Random,
}

impl Churn {
    fn request(&mut self) -> Request {
        if self.random.unit() < PUT_SHARE {
            self.next += 1;
            return put(FULL_SET, self.next - 1, self.object_len);
        }
        // Those that may still be on their way are not read.
        let end = self.next.saturating_sub(super::UNDER_WAY_MAX as u64).max(1);
        let newest = self.newest.min(end);
        get(FULL_SET, end - newest + self.random.below(newest), self.object_len)
    }
}

impl Source for Churn {
    fn next(&mut self) -> load::Next {
        load::Next::Request(self.request())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Kind;

    #[test]
    fn the_newest_objects_are_read_and_new_ones_put() {
        let mut churn = Churn { next: 10_000, newest: 100, object_len: 4096, random: Random::new(1) };
        let mut puts = 0;
        for _ in 0..10_000 {
            let before = churn.next;
            let request = churn.request();
            if request.kind == Kind::Put {
                assert_eq!(request.object, before, "every put is of a new object");
                puts += 1;
            } else {
                let end = before - crate::scenarios::UNDER_WAY_MAX as u64;
                assert!((end - 100..end).contains(&request.object));
            }
        }
        assert!((900..1100).contains(&puts), "{puts} puts of 10000 requests");
    }
}
