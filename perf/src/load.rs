//! The load generator: one thread, closed or open loop, over any number of connections.
//!
//! It cannot flatter: in the open loop a latency counts from when the request was to be sent, whether
//! or not there was room to send it; every answer is checked; what is not answered is an error; and the
//! generator says how busy it was itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use hedgerow_wire::frame::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock;
use crate::connection::{Check, Connection, RECEIVE_BYTES};
use crate::pattern::{Pattern, Random};
use crate::request::{Answer, Request};

/// Longest latency that is told apart, in nanoseconds.
const LATENCY_MAX_NS: u64 = 120_000_000_000;
/// How long after its deadline a request may stay unanswered before the run is given up.
const GRACE_NS: u64 = 10_000_000_000;
/// A generator busier than this may be what is measured.
pub const BUSY_SHARE: f64 = 0.9;

/// How a load is driven.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections.
    pub connections: usize,
    /// Requests under way on each at most.
    pub depth: usize,
    /// Arrivals per second, at random times (a Poisson process); none: as soon as there is room.
    pub rate: Option<f64>,
    /// What is not counted at the beginning.
    pub warmup: Duration,
    /// How long is counted; none: until the source ends.
    pub duration: Option<Duration>,
    /// How answers are checked.
    pub check: Check,
    /// Number of request classes.
    pub classes: usize,
}

/// What a source of requests says.
pub enum Next {
    /// The next request.
    Request(Request),
    /// Nothing before something is answered.
    Wait,
    /// No more.
    End,
}

/// Where requests come from.
pub trait Source {
    /// The next one.
    fn next(&mut self) -> Next;
    /// One was answered.
    fn answered(&mut self, answer: &Answer) {
        let _ = answer;
    }
}

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
    fn add(&mut self, answer: &Answer) {
        self.answered += 1;
        self.statuses[answer.status as usize] += 1;
        self.bytes += answer.bytes;
        self.from_memory += u64::from(answer.from_memory);
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
    /// By class.
    pub classes: Vec<Tally>,
    /// The time that counts, in seconds.
    pub seconds: f64,
    /// Share of that time that the generator's thread was busy.
    pub generator_share: f64,
    /// Open loop: requests that were due and had not found room at the end.
    pub unsent: u64,
}

impl Outcome {
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

/// When the time that counts begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// It begins.
    Begin,
    /// It ends.
    End,
}

struct Run<'a> {
    plan: &'a Plan,
    pattern: &'a Pattern,
    connections: Vec<Connection>,
    classes: Vec<Tally>,
    begin_ns: u64,
    end_ns: u64,
    /// Open loop: when the next request is to be sent.
    next_arrival_ns: u64,
    random: Random,
    source_ended: bool,
    turn: usize,
}

/// Drives `source` against the server at `address`. `mark` is called when the time that counts begins and ends.
pub fn run(
    address: SocketAddr,
    plan: &Plan,
    source: &mut dyn Source,
    pattern: &Pattern,
    mark: &mut dyn FnMut(Mark),
) -> Result<Outcome> {
    let connections =
        (0..plan.connections).map(|_| Connection::open(address, plan.check)).collect::<Result<_>>()?;
    let now = clock::now_ns();
    let begin_ns = now + plan.warmup.as_nanos() as u64;
    let end_ns = plan.duration.map_or(u64::MAX, |duration| begin_ns + duration.as_nanos() as u64);
    let mut run = Run {
        plan,
        pattern,
        connections,
        classes: vec![Tally::default(); plan.classes],
        begin_ns,
        end_ns,
        next_arrival_ns: now,
        random: Random::new(now),
        source_ended: false,
        turn: 0,
    };
    run.drive(source, mark)
}

impl Run<'_> {
    fn drive(&mut self, source: &mut dyn Source, mark: &mut dyn FnMut(Mark)) -> Result<Outcome> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut done = Vec::new();
        let (mut begun, mut ended) = (None, None);
        let mut last_progress = clock::now_ns();
        loop {
            let now = clock::now_ns();
            if begun.is_none() && now >= self.begin_ns {
                mark(Mark::Begin);
                begun = Some((clock::now_ns(), clock::thread_cpu_ns()));
            }
            let under_way: usize = self.connections.iter().map(Connection::under_way).sum();
            let over = now >= self.end_ns || (self.source_ended && under_way == 0);
            if ended.is_none() && over && begun.is_some() {
                ended = Some((clock::now_ns(), clock::thread_cpu_ns()));
                mark(Mark::End);
            }
            if ended.is_none() {
                self.issue(source, now);
            } else if under_way == 0 {
                break;
            }
            for connection in &mut self.connections {
                connection.flush()?;
            }
            self.wait(now, ended.is_none(), &mut buffer, &mut done)?;
            if !done.is_empty() || under_way == 0 {
                last_progress = clock::now_ns();
            } else if clock::now_ns() > last_progress + GRACE_NS {
                bail!("{under_way} requests have not been answered for 10 s");
            }
            for answer in done.drain(..) {
                source.answered(&answer);
                self.count(&answer);
            }
        }
        let ((from, cpu_from), (to, cpu_to)) = match (begun, ended) {
            (Some(begun), Some(ended)) => (begun, ended),
            _ => bail!("the run ended before it began to count"),
        };
        let unsent = if self.plan.rate.is_some() && !self.source_ended {
            (to.saturating_sub(self.next_arrival_ns) as f64 * 1e-9 * self.plan.rate.unwrap_or(0.0)) as u64
        } else {
            0
        };
        Ok(Outcome {
            classes: std::mem::take(&mut self.classes),
            seconds: (to - from) as f64 * 1e-9,
            generator_share: (cpu_to - cpu_from) as f64 / (to - from) as f64,
            unsent,
        })
    }

    /// Queues what is to be sent now.
    fn issue(&mut self, source: &mut dyn Source, now: u64) {
        while !self.source_ended {
            let start_ns = match self.plan.rate {
                Some(_) if self.next_arrival_ns > now => return,
                Some(_) => self.next_arrival_ns,
                None => now,
            };
            let count = self.connections.len();
            let turn = (0..count).map(|i| (self.turn + i) % count);
            let room = turn.into_iter().find(|&i| self.connections[i].under_way() < self.plan.depth);
            let Some(place) = room else { return };
            match source.next() {
                Next::Request(request) => self.connections[place].send(request, start_ns, self.pattern),
                Next::Wait => return,
                Next::End => self.source_ended = true,
            }
            self.turn = place + 1;
            if let Some(rate) = self.plan.rate {
                // Inter-arrival times of a Poisson process.
                let gap = -(1.0 - self.random.unit()).ln() / rate;
                self.next_arrival_ns += (gap * 1e9) as u64;
            }
        }
    }

    /// Waits for answers, room in a socket, the next arrival or the end, and takes what came.
    fn wait(&mut self, now: u64, issuing: bool, buffer: &mut [u8], done: &mut Vec<Answer>) -> Result<()> {
        let mut wake_ns = now + 100_000_000;
        for (applies, at) in [
            (issuing && self.plan.rate.is_some(), self.next_arrival_ns),
            (issuing && now < self.begin_ns, self.begin_ns),
            (issuing, self.end_ns),
        ] {
            // An arrival that is due waits for room, which comes with an answer.
            if applies && at > now {
                wake_ns = wake_ns.min(at);
            }
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: (wake_ns - now).min(999_999_999) as i64 };
        let mut waited: Vec<PollFd<'_>> = self
            .connections
            .iter()
            .map(|connection| {
                let out = if connection.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() };
                PollFd::new(connection.socket(), PollFlags::IN | out)
            })
            .collect();
        match poll(&mut waited, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = PollFlags::IN | PollFlags::ERR | PollFlags::HUP;
        let ready: Vec<bool> = waited.iter().map(|fd| fd.revents().intersects(readable)).collect();
        for (connection, _) in self.connections.iter_mut().zip(&ready).filter(|(_, ready)| **ready) {
            while connection.receive(buffer, self.pattern, done)? {}
        }
        Ok(())
    }

    fn count(&mut self, answer: &Answer) {
        // Closed loop: what was answered in the time; open loop: what was due in it.
        let at = if self.plan.rate.is_some() { answer.start_ns } else { answer.end_ns };
        if (self.begin_ns..self.end_ns).contains(&at) {
            self.classes[answer.request.class].add(answer);
        }
    }
}
