//! The load generator: one thread, closed or open loop, over any number of connections.
//!
//! It cannot flatter: in the open loop a latency counts from when the request was to be sent, whether
//! or not there was room to send it; every answer is checked; what is not answered is an error; and the
//! generator says how busy it was itself.

mod outcome;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use hedgerow_wire::frame::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock;
use crate::connection::{Connection, RECEIVE_BYTES};
use crate::driver::Endpoint;
use crate::pattern::{Check, Checker, Pattern, Random};
use crate::request::{Answer, Class, Request};
pub use outcome::{Outcome, Tally, histogram};

/// How long after its deadline a request may stay unanswered before the run is given up.
const GRACE_NS: u64 = 10_000_000_000;
/// In the open loop the generator does not sleep when the next request is due within this, nor while one is under
/// way: waking up takes longer than many an answer, and its lateness would be told as the server's.
const SPIN_NS: u64 = 200_000;
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
    /// Requests that were handed to connections.
    issued: u64,
    /// Time that was spun away with nothing to do.
    spun_ns: u64,
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
        issued: 0,
        spun_ns: 0,
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
                begun = Some((clock::now_ns(), self.busy_ns()));
            }
            let under_way: usize = self.connections.iter().map(Connection::under_way).sum();
            let over = now >= self.end_ns || (self.source_ended && under_way == 0);
            if ended.is_none() && over && begun.is_some() {
                ended = Some((clock::now_ns(), self.busy_ns()));
                mark(Mark::End);
            }
            let issued = self.issued;
            if ended.is_none() {
                self.issue(source, now);
            } else if under_way == 0 {
                break;
            }
            for connection in &mut self.connections {
                connection.flush()?;
            }
            let spins = self.wait(now, ended.is_none(), under_way, &mut buffer, &mut done)?;
            if spins && done.is_empty() && self.issued == issued {
                self.spun_ns += clock::now_ns() - now;
            }
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
        let ((from, busy_from), (to, busy_to)) = match (begun, ended) {
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
            generator_share: busy_to.saturating_sub(busy_from) as f64 / (to - from) as f64,
            unsent,
        })
    }

    /// Processor time of this thread that was not spun away.
    fn busy_ns(&self) -> u64 {
        clock::thread_cpu_ns().saturating_sub(self.spun_ns)
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
                self.issued += 1;
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
                Next::Request(request) => {
                    self.connections[place].send(request, start_ns, &self.checker);
                    self.issued += 1;
                }
                Next::Wait => return,
                Next::End => self.source_ended = true,
            }
            if let Some(rate) = self.plan.rate {
                let gap_ns = arrival_gap_ns(rate, &mut self.random);
                self.next_arrival_ns = self.next_arrival_ns.map(|next| next + gap_ns);
            }
        }
    }

    /// Waits for answers, room in a socket, the next arrival or the end, and takes what came. Whether it only
    /// looked, without sleeping.
    fn wait(
        &mut self,
        now: u64,
        issuing: bool,
        under_way: usize,
        buffer: &mut [u8],
        done: &mut Vec<Answer>,
    ) -> Result<bool> {
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
        let spins = self.next_arrival_ns.is_some() && (under_way > 0 || wake_ns < now + SPIN_NS);
        let sleep_ns = if spins { 0 } else { (wake_ns - now).min(999_999_999).saturating_sub(SPIN_NS / 2) };
        let timeout = Timespec { tv_sec: 0, tv_nsec: sleep_ns as i64 };
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
        Ok(spins)
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
