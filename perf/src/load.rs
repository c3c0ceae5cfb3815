//! The load generator: one thread, closed or open loop, over any number of connections.
//!
//! It cannot flatter: in the open loop a latency counts from when the request was to be sent, whether
//! or not there was room to send it; every answer is checked; what is not answered is an error; and the
//! generator says how busy it was itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use hedgerow_wire::frame::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock;
use crate::connection::{Connection, RECEIVE_BYTES};
use crate::driver::Endpoint;
use crate::pattern::{Check, Checker, Pattern, Random};
use crate::request::{Answer, Class, Request};

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
pub trait Source: Send {
    /// The next one.
    fn next(&mut self) -> Next;
    /// One that does not wait for its turn in a schedule: a miss is filled as soon as there is room.
    fn urgent(&mut self) -> Option<Request> {
        None
    }
    /// When the next one is due, in nanoseconds since the start, if the source has times of its own.
    fn due_ns(&self) -> Option<u64> {
        None
    }
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
    fn add(&mut self, answer: &Answer) {
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
    /// Share of that time that the generator's thread was busy; of its threads, the busiest.
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
    fn merge(&mut self, other: &Outcome) {
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

/// When the time that counts begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// It begins.
    Begin,
    /// It ends.
    End,
}

/// What a run has done so far, for a line that says so while it runs.
#[derive(Default)]
pub struct Progress {
    /// Answered `Ok`, what does not count included.
    pub ok: AtomicU64,
    /// Answered otherwise.
    pub failed: AtomicU64,
    /// Bytes of objects.
    pub bytes: AtomicU64,
}

/// Time between two arrivals of a Poisson process of so many a second, in nanoseconds.
pub fn arrival_gap_ns(rate: f64, random: &mut Random) -> u64 {
    (-(1.0 - random.unit()).ln() / rate * 1e9) as u64
}

struct Run<'a> {
    plan: &'a Plan,
    checker: Checker<'a>,
    connections: Vec<Connection>,
    classes: [Tally; Class::ALL.len()],
    started_ns: u64,
    begin_ns: u64,
    end_ns: u64,
    /// When the next request is to be sent, if there is a schedule.
    next_arrival_ns: Option<u64>,
    random: Random,
    source_ended: bool,
    turn: usize,
    progress: &'a Progress,
}

/// Drives `source` against a server. `mark` is called when the time that counts begins and ends.
pub fn run(
    endpoint: &Endpoint,
    plan: &Plan,
    source: &mut dyn Source,
    pattern: &Pattern,
    mark: &mut dyn FnMut(Mark),
) -> Result<Outcome> {
    run_one(endpoint, plan, source, pattern, mark, &Progress::default())
}

/// As [`run`], with a thread and a share of connections and rate for each source.
pub fn run_all(
    endpoint: &Endpoint,
    plan: &Plan,
    sources: &mut [Box<dyn Source>],
    pattern: &Pattern,
    mark: &mut dyn FnMut(Mark),
    progress: &Progress,
) -> Result<Outcome> {
    let count = sources.len();
    let Some((first, others)) = sources.split_first_mut() else { bail!("no source") };
    let share = |thread: usize| Plan {
        connections: (plan.connections + count - 1 - thread) / count,
        rate: plan.rate.map(|rate| rate / count as f64),
        ..plan.clone()
    };
    if plan.connections < count {
        bail!("{count} threads need as many connections");
    }
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (place, source) in others.iter_mut().enumerate() {
            let plan = share(place + 1);
            let one = move || run_one(endpoint, &plan, &mut **source, pattern, &mut |_| {}, progress);
            threads.push(scope.spawn(one));
        }
        let mut outcome = run_one(endpoint, &share(0), &mut **first, pattern, mark, progress)?;
        for thread in threads {
            match thread.join() {
                Ok(other) => outcome.merge(&other?),
                Err(_) => bail!("a thread of the generator panicked"),
            }
        }
        Ok(outcome)
    })
}

fn run_one(
    endpoint: &Endpoint,
    plan: &Plan,
    source: &mut dyn Source,
    pattern: &Pattern,
    mark: &mut dyn FnMut(Mark),
    progress: &Progress,
) -> Result<Outcome> {
    let connections = (0..plan.connections).map(|_| Connection::open(endpoint)).collect::<Result<_>>()?;
    let now = clock::now_ns();
    let begin_ns = now + plan.warmup.as_nanos() as u64;
    let end_ns = plan.duration.map_or(u64::MAX, |duration| begin_ns + duration.as_nanos() as u64);
    let mut run = Run {
        plan,
        checker: Checker { pattern, check: plan.check },
        connections,
        classes: Default::default(),
        started_ns: now,
        begin_ns,
        end_ns,
        next_arrival_ns: plan.rate.map(|_| now),
        random: Random::new(now),
        source_ended: false,
        turn: 0,
        progress,
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
        let overdue_ns = self.next_arrival_ns.map_or(0, |next| to.saturating_sub(next));
        let unsent = match self.plan.rate {
            Some(rate) if !self.source_ended => (overdue_ns as f64 * 1e-9 * rate) as u64,
            _ => 0,
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
            let count = self.connections.len();
            let turn = (0..count).map(|i| (self.turn + i) % count);
            let room = turn.into_iter().find(|&i| self.connections[i].under_way() < self.plan.depth);
            let Some(place) = room else { return };
            self.turn = place + 1;
            if let Some(request) = source.urgent() {
                self.connections[place].send(request, now, &self.checker);
                continue;
            }
            if let Some(due_ns) = source.due_ns() {
                self.next_arrival_ns = Some(self.started_ns + due_ns);
            }
            if self.next_arrival_ns.is_some_and(|next| next > now) {
                return;
            }
            let start_ns = self.next_arrival_ns.unwrap_or(now);
            match source.next() {
                Next::Request(request) => self.connections[place].send(request, start_ns, &self.checker),
                Next::Wait => return,
                Next::End => self.source_ended = true,
            }
            if let Some(rate) = self.plan.rate {
                let gap_ns = arrival_gap_ns(rate, &mut self.random);
                self.next_arrival_ns = self.next_arrival_ns.map(|next| next + gap_ns);
            }
        }
    }

    /// Waits for answers, room in a socket, the next arrival or the end, and takes what came.
    fn wait(&mut self, now: u64, issuing: bool, buffer: &mut [u8], done: &mut Vec<Answer>) -> Result<()> {
        let mut wake_ns = now + 100_000_000;
        for (applies, at) in [
            (issuing, self.next_arrival_ns.unwrap_or(0)),
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
            while connection.receive(buffer, &self.checker, done)? {}
        }
        Ok(())
    }

    fn count(&mut self, answer: &Answer) {
        let ok = answer.status == Status::Ok;
        let counter = if ok { &self.progress.ok } else { &self.progress.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.progress.bytes.fetch_add(answer.bytes, Ordering::Relaxed);
        // Closed loop: what was answered in the time; open loop: what was due in it.
        let at = if self.next_arrival_ns.is_some() { answer.start_ns } else { answer.end_ns };
        if (self.begin_ns..self.end_ns).contains(&at) {
            self.classes[answer.request.class as usize].add(answer);
        }
    }
}
