//! What a run found: counts and latencies by class of requests.

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use hedgerow_wire::frame::Status;

use crate::request::{Answer, Class};

/// Longest latency that is told apart, in nanoseconds.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// What is known of one class of requests after a run.
#[derive(Clone)]
pub struct Tally {
    /// Answered in the time that counts.
    pub answered: u64,
    /// Of them, by their status.
    pub statuses: [u64; Status::ALL.len()],
    /// Bytes of objects.
    pub bytes: u64,
    /// Answered from the memory tier.
    pub from_memory: u64,
    /// Fetched from its origin by a read-through server.
    pub through: u64,
    /// Answered `Ok` after its deadline.
    pub late: u64,
    /// Answered without confirmation.
    pub unconfirmed: u64,
    /// Answered `Ok` with a byte that was not what it has to be.
    pub wrong: u64,
    /// Latency of those answered `Ok`, in nanoseconds.
    pub latency: Histogram<u64>,
    /// As `latency`, of those answered `DeadlineExceeded`, since they were sent.
    pub refused_after: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            answered: 0,
            statuses: [0; Status::ALL.len()],
            bytes: 0,
            from_memory: 0,
            through: 0,
            late: 0,
            unconfirmed: 0,
            wrong: 0,
            latency: histogram(),
            refused_after: histogram(),
        }
    }
}

/// An empty histogram of nanoseconds with three digits.
pub fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants: {error}"),
    }
}

impl Tally {
    pub(super) fn add(&mut self, answer: &Answer) {
        self.answered += 1;
        self.statuses[answer.status as usize] += 1;
        self.bytes += answer.bytes;
        self.from_memory += u64::from(answer.from_memory);
        self.through += u64::from(answer.through);
        let late = answer.end_ns > answer.start_ns + u64::from(answer.request.deadline_us) * 1000;
        self.late += u64::from(late && answer.status == Status::Ok);
        self.unconfirmed += u64::from(answer.unconfirmed);
        self.wrong += u64::from(answer.wrong);
        match answer.status {
            Status::Ok => self.latency.saturating_record(answer.end_ns.saturating_sub(answer.start_ns)),
            Status::DeadlineExceeded => {
                self.refused_after.saturating_record(answer.end_ns.saturating_sub(answer.sent_ns));
            }
            _ => {}
        }
    }

    /// Adds what another thread counted.
    fn merge(&mut self, other: &Tally) {
        self.answered += other.answered;
        self.statuses.iter_mut().zip(other.statuses).for_each(|(sum, count)| *sum += count);
        self.bytes += other.bytes;
        self.from_memory += other.from_memory;
        self.through += other.through;
        self.late += other.late;
        self.unconfirmed += other.unconfirmed;
        self.wrong += other.wrong;
        self.latency += &other.latency;
        self.refused_after += &other.refused_after;
    }

    /// Answered `Ok`.
    pub fn ok(&self) -> u64 {
        self.statuses[Status::Ok as usize]
    }

    /// Names and counts of what was not answered `Ok`.
    pub fn failures(&self) -> Vec<(Status, u64)> {
        let others = Status::ALL.iter().filter(|status| **status != Status::Ok);
        others
            .map(|&status| (status, self.statuses[status as usize]))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// What a run found.
pub struct Outcome {
    /// By class: index it with `Class as usize`.
    pub classes: [Tally; Class::ALL.len()],
    /// The time that counts, in seconds.
    pub seconds: f64,
    /// Share of that time that the generator's thread was busy, spinning not counted; of its threads, the busiest.
    pub generator_share: f64,
    /// Open loop: requests that were due and had not found room at the end.
    pub unsent: u64,
}

impl Outcome {
    /// What is known of one class.
    pub fn of(&self, class: Class) -> &Tally {
        &self.classes[class as usize]
    }

    /// Adds what another thread found in the same time.
    pub(super) fn merge(&mut self, other: &Outcome) {
        self.classes.iter_mut().zip(&other.classes).for_each(|(sum, tally)| sum.merge(tally));
        self.seconds = self.seconds.max(other.seconds);
        self.generator_share = self.generator_share.max(other.generator_share);
        self.unsent += other.unsent;
    }

    /// Of all gets, the share that was there: neither missed nor fetched from an origin.
    pub fn hit_share(&self) -> f64 {
        let gets = self.of(Class::Get);
        (gets.ok() - gets.through) as f64 / gets.answered.max(1) as f64
    }

    /// Latency over all classes.
    pub fn latency(&self) -> Histogram<u64> {
        let mut sum = histogram();
        self.classes.iter().for_each(|tally| sum += &tally.latency);
        sum
    }

    /// Answered `Ok` per second, over all classes.
    pub fn rate(&self) -> f64 {
        self.classes.iter().map(Tally::ok).sum::<u64>() as f64 / self.seconds
    }

    /// Bytes of objects per second, over all classes.
    pub fn bytes_rate(&self) -> f64 {
        self.classes.iter().map(|tally| tally.bytes).sum::<u64>() as f64 / self.seconds
    }

    /// Stops a run whose answers cannot be believed.
    pub fn check(&self) -> Result<()> {
        let wrong: u64 = self.classes.iter().map(|tally| tally.wrong).sum();
        if wrong > 0 {
            bail!("{wrong} answers had wrong bytes");
        }
        Ok(())
    }
}
