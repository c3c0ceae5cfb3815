//! One scenario of one system, measured once: the load, the faults beside it, and what the daemon counted.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use hedgerow_wire::frame::Status;
use hedgerow_wire::messages::StatsAnswer;

use super::UNDER_WAY;
use super::faults::{Event, Scenario, Trouble, schedule};
use super::rig::Rig;
use crate::clock;
use crate::control::{self, counter};
use crate::load::{Mark, Outcome, Plan};
use crate::measure::{Sample, closed, observe};
use crate::request::Class;
use crate::sources::DEADLINE_US;

/// Rates, latencies and counts of one window.
pub struct Cell {
    /// What was the matter.
    pub scenario: &'static Scenario,
    /// Rates and shares. Its latencies are those of `latency`.
    pub sample: Sample,
    /// Latency of gets from when each was due, in nanoseconds. One that failed, as if it had taken until its
    /// deadline, one that was not sent, as long as it was overdue; what may have been evicted is left out.
    pub latency: Histogram<u64>,
    /// What became of the gets.
    pub gets: Gets,
    /// What the daemon counted.
    pub counted: Counted,
    /// From the start of the process until it served, of a cold start.
    pub ready_after: Option<Duration>,
    /// Measurements of it that were dropped because the hypervisor took too much time.
    pub dropped: usize,
}

/// What became of the gets that were due within the window.
#[derive(Clone, Copy, Default, Debug)]
pub struct Gets {
    /// Answered, in whatever way.
    pub answered: u64,
    /// There was no such object.
    pub missed: u64,
    /// Past their deadline, refused or late.
    pub past_deadline: u64,
    /// Any other answer.
    pub errors: u64,
    /// With a byte that was not what it has to be.
    pub wrong: u64,
    /// Due, and never sent for want of room.
    pub unsent: u64,
}

/// By how much the daemon's counters grew.
#[derive(Clone, Default, Debug)]
pub struct Counted {
    /// Requests that it was asked.
    pub requests: u64,
    /// Reads that went to the devices.
    pub reads: u64,
    /// Part reads of every kind.
    pub part_reads: u64,
    /// Of them, spares.
    pub hedges: u64,
    /// Parts that were written again.
    pub repaired: u64,
    /// Faults of the schedule that the daemon had no time for.
    pub not_injected: usize,
    /// Operations of devices that a fault struck.
    pub fault_hits: u64,
    /// Slabs that were let go to make room.
    pub slabs_evicted: u64,
    /// Processor time of the cores in nanoseconds.
    pub cpu_ns: u64,
    /// Of it, by stage of a request.
    pub stages_ns: Vec<(String, u64)>,
}

impl Counted {
    fn between(before: &StatsAnswer, after: &StatsAnswer) -> Result<Counted> {
        let grown = |name: &str| anyhow::Ok(counter(after, name)?.saturating_sub(counter(before, name)?));
        let mut counted = Counted {
            requests: grown("frames.get")? + grown("frames.put")?,
            reads: grown("coordinator_reads")?,
            hedges: grown("coordinator_hedges")?,
            part_reads: grown("coordinator_part_reads")?
                + grown("coordinator_hedges")?
                + grown("coordinator_probes")?,
            repaired: grown("coordinator_parts_repaired")?,
            fault_hits: grown("fault_hits")?,
            slabs_evicted: grown("store_slabs_evicted")?,
            cpu_ns: grown("core_cpu_ns")?,
            ..Counted::default()
        };
        for each in &after.counters {
            let stage = each.name.strip_prefix("stage.").and_then(|name| name.strip_suffix("_ns"));
            if let Some(stage) = stage {
                counted.stages_ns.push((stage.to_owned(), grown(&each.name)?));
            }
        }
        Ok(counted)
    }

    /// Part reads beyond those that could not be done without (`needed` for each read), in relation to these.
    pub fn extra_share(&self, needed: usize) -> f64 {
        let needed = self.reads * needed as u64;
        self.part_reads.saturating_sub(needed) as f64 / needed.max(1) as f64
    }

    /// Microseconds of processor time for each request by stage, `rest` last: the runtime, with its system
    /// calls for the devices, and what an idle core spins.
    pub fn stages_us(&self) -> Vec<(String, f64)> {
        let us = |ns: u64| ns as f64 / 1e3 / self.requests.max(1) as f64;
        let sum = self.stages_ns.iter().map(|(_, ns)| ns).sum();
        let rest = ("rest".to_owned(), us(self.cpu_ns.saturating_sub(sum)));
        self.stages_ns.iter().map(|(name, ns)| (name.clone(), us(*ns))).chain([rest]).collect()
    }
}

/// How a scenario is measured.
pub struct Window {
    /// Gets and puts a second.
    pub rate: f64,
    /// How long is counted.
    pub length: Duration,
}

/// Measures a scenario once.
pub fn measure(rig: &mut Rig<'_>, scenario: &'static Scenario, window: &Window) -> Result<Cell> {
    let (mut source, ready_after) = rig.prepare(scenario.trouble)?;
    let server = rig.server()?;
    let cold = scenario.trouble == Trouble::ColdStart;
    let plan = Plan {
        rate: Some(window.rate),
        warmup: if cold { Duration::ZERO } else { rig.options.warmup() },
        duration: Some(window.length),
        ..closed(UNDER_WAY.0, UNDER_WAY.1, 0.0)
    };
    let events = schedule(scenario.trouble, window.length);
    let (marks, heard) = channel();
    let (observed, counted) = std::thread::scope(|scope| {
        let conductor = scope.spawn(|| conduct(server.address, &events, heard));
        let mut mark = |mark| {
            // If the conductor has ended, its error is the one that is told.
            let _ = marks.send((mark, clock::now_ns()));
        };
        let observed = observe(server, &plan, &mut *source, rig.pattern, &mut mark);
        drop(marks);
        let counted = conductor.join().unwrap_or_else(|_| bail!("the conductor of the faults panicked"));
        (observed, counted)
    });
    let (mut sample, outcome) = observed.with_context(|| scenario.name)?;
    let counted = counted.with_context(|| format!("faults of '{}'", scenario.name))?;
    let (gets, latency) = judge(&outcome, window.rate, scenario.trouble == Trouble::FullDevice);
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    (sample.p50_us, sample.p99_us, sample.p999_us) = (us(0.5), us(0.99), us(0.999));
    Ok(Cell { scenario, sample, latency, gets, counted, ready_after, dropped: 0 })
}

/// Injects the faults at their times, looks at the daemon's counters when the window begins and ends, and
/// leaves no fault behind.
fn conduct(address: SocketAddr, events: &[Event], marks: Receiver<(Mark, u64)>) -> Result<Counted> {
    let ended = "the load ended before its time";
    let (_, begun_ns) = marks.recv().context(ended)?;
    let before = control::stats(address)?;
    let mut not_injected = events.len();
    for event in events {
        let due_ns = begun_ns + event.at.as_nanos() as u64;
        let wait = Duration::from_nanos(due_ns.saturating_sub(clock::now_ns()));
        match marks.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => control::inject(address, event.fault)?,
            Err(RecvTimeoutError::Disconnected) => bail!(ended),
            // The end came first: the daemon was so busy that it took the last fault too late.
            Ok(_) => break,
        }
        not_injected -= 1;
    }
    if not_injected == 0 {
        marks.recv().context(ended)?;
    }
    let after = control::stats(address)?;
    control::clear_faults(address)?;
    Ok(Counted { not_injected, ..Counted::between(&before, &after)? })
}

/// What became of the gets, and their latencies, at this rate of requests. Where nothing is evicted, a miss
/// has failed like any other answer that is not `Ok`.
pub fn judge(outcome: &Outcome, rate: f64, evicts: bool) -> (Gets, Histogram<u64>) {
    let tally = outcome.of(Class::Get);
    let of = |status: Status| tally.statuses[status as usize];
    let missed = of(Status::NotFound);
    let answers_not_ok = tally.answered - tally.ok();
    let failed = if evicts { answers_not_ok - missed } else { answers_not_ok };
    let gets = Gets {
        answered: tally.answered,
        missed,
        past_deadline: of(Status::DeadlineExceeded) + tally.late,
        errors: answers_not_ok - missed - of(Status::DeadlineExceeded),
        wrong: outcome.classes.iter().map(|tally| tally.wrong).sum(),
        unsent: outcome.unsent,
    };
    let mut latency = tally.latency.clone();
    // To record a value no times would make it the greatest.
    if failed > 0 {
        latency.saturating_record_n(u64::from(DEADLINE_US) * 1000, failed);
    }
    // Those that were not sent came evenly until the end: each has waited since.
    (1..=outcome.unsent).for_each(|number| latency.saturating_record((number as f64 / rate * 1e9) as u64));
    (gets, latency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Tally, histogram};

    #[test]
    fn what_failed_counts_until_its_deadline_and_what_was_evicted_does_not() {
        let mut tally = Tally { answered: 1000, latency: histogram(), wrong: 1, ..Tally::default() };
        for (status, count) in [
            (Status::Ok, 900),
            (Status::NotFound, 50),
            (Status::Unavailable, 30),
            (Status::DeadlineExceeded, 20),
        ] {
            tally.statuses[status as usize] = count;
        }
        tally.latency.record_n(1_000_000, 900).unwrap();
        let mut outcome =
            Outcome { classes: Default::default(), seconds: 1.0, generator_share: 0.5, unsent: 10 };
        outcome.classes[Class::Get as usize] = tally;
        let (gets, latency) = judge(&outcome, 1000.0, true);
        assert_eq!((gets.missed, gets.past_deadline, gets.errors, gets.wrong), (50, 20, 30, 1));
        assert_eq!(latency.len(), 960);
        // The ten that were not sent have waited for 1 to 10 ms.
        let unsent = latency.count_between(1_010_000, 1_000_000_000);
        assert_eq!((gets.unsent, unsent), (10, 9));
        assert!(latency.value_at_quantile(0.99) >= 4_990_000_000, "{}", latency.value_at_quantile(0.99));
        assert!(latency.value_at_quantile(0.9) < 1_010_000);
        let (_, latency) = judge(&outcome, 1000.0, false);
        assert_eq!(latency.len(), 1010, "with the 50 that were missed");
        let tally = &mut outcome.classes[Class::Get as usize];
        (tally.statuses, outcome.unsent) = (Tally::default().statuses, 0);
        tally.statuses[Status::Ok as usize] = tally.answered;
        let (gets, latency) = judge(&outcome, 1000.0, true);
        assert_eq!((gets.errors, gets.unsent), (0, 0));
        assert!(latency.max() < 1_010_000, "nothing failed: {}", latency.max());
    }

    #[test]
    fn extra_reads_are_those_beyond_what_gets_from_devices_need() {
        let stages_ns = vec![("receive".to_owned(), 4000), ("send".to_owned(), 8000)];
        let counted = Counted {
            reads: 100,
            part_reads: 412,
            requests: 10,
            cpu_ns: 20_000,
            stages_ns,
            ..Counted::default()
        };
        assert!((counted.extra_share(4) - 0.03).abs() < 1e-9);
        assert_eq!(Counted::default().extra_share(4), 0.0);
        let us: Vec<f64> = counted.stages_us().into_iter().map(|(_, us)| us).collect();
        assert_eq!(us, [0.4, 0.8, 0.8]);
    }
}
