//! The load, and the judgement of every answer: one thread, open loop, some connections to each daemon.
//!
//! What is due while a daemon cannot be asked (it is down, or every connection has as many requests as it may have)
//! is counted and not asked later. An echo over loopback goes through the same loop all the time: what it takes is
//! what an answer may be late without anybody's fault but the machine's.

use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use anyhow::Result;
use hedgerow_wire::frame::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connect::{Connector, Echo};
use super::device::Device;
use super::member::{Member, Sweep, asked, draw_len, write};
use super::record::{Finding, Record};
use super::script::Harm;
use super::table::{Counts, Timing};
use crate::clock;
use crate::connection::{Connection, RECEIVE_BYTES};
use crate::load::arrival_gap_ns;
use crate::pattern::{Check, Checker, Pattern, Random};
use crate::request::{Answer, Class, Kind, Request};
use crate::sources::get;

/// Connections to each daemon.
const CONNECTIONS: usize = 4;
/// Requests under way on each.
pub const DEPTH: usize = 64;
/// Reads of a sweep under way at a time.
const SWEEP_DEPTH: usize = 8;
/// A sweep asks again for what could not be read after so long.
pub const RETRY_NS: u64 = 20_000_000;
/// How long a sweep tries.
const SWEEP_MAX_NS: u64 = 60_000_000_000;
/// Deadline of every request.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// Precision of the daemon's timers beside what the echo needs.
const TICK_NS: u64 = 2_000_000;
/// After its deadline an answer that has not come for so long is one that never comes.
const NEVER_NS: u64 = 10_000_000_000;
/// Share of the requests that are gets of all of an object, of a range, puts; the others are deletes.
const MIX: [f64; 3] = [0.55, 0.15, 0.26];

/// What the script tells.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// Harm of this kind begins.
    Begun(usize, Harm),
    /// A daemon is about to be killed: its connections break.
    Down(usize),
    /// It serves again.
    Up(usize),
    /// A daemon is about to be stopped by a signal.
    Paused(usize),
    /// It goes on.
    Continued(usize),
    /// Its answers are about to be late, spoiled or lost on purpose: its connections may break.
    Struck(usize),
    /// They are whole again. What was lost is not waited for.
    Spared(usize),
    /// A shard is about to lose something for good.
    Harmed(usize, u16),
    /// Every object of a daemon is to be read; the answer is a [`Swept`].
    Sweep(usize),
    /// Every object of a daemon is to be put; the answer is a [`Swept`] too.
    Fill(usize),
    /// No more.
    End,
}

/// Every object of a daemon has been read, or put.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// When the last one was.
    pub at_ns: u64,
    /// Those that could not be.
    pub failed: usize,
}

/// What is spoiled in the record on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Plant {
    /// An object has other bytes.
    Wrong,
    /// An object was written once more.
    Old,
    /// An object is there that never was.
    Lost,
    /// Deadlines are a second earlier.
    Late,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests per second of all daemons together.
    pub rate: f64,
    /// Objects of each daemon.
    pub objects: u64,
    /// Seed of what is drawn.
    pub seed: u64,
    /// Bytes that are put to each daemon at most: no more is asked for then but gets and deletes.
    pub put_bytes_max: u64,
    /// What is to be noticed.
    pub plant: Option<Plant>,
}

/// What came while the generator waited.
#[derive(Default)]
struct Received {
    /// By daemon.
    answers: Vec<(usize, Answer)>,
    broken: Vec<Broken>,
}

/// A connection that is no more.
struct Broken {
    daemon: usize,
    link: Connection,
    error: anyhow::Error,
    at_ns: u64,
}

/// The generator.
pub struct Generator<'a> {
    load: Load,
    checker: Checker<'a>,
    members: Vec<Member>,
    told: Receiver<Told>,
    swept: Sender<Swept>,
    echo: Echo,
    device: Device,
    random: Random,
    next_arrival_ns: u64,
    /// What it found.
    pub counts: Counts,
}

/// Mean of [`draw_len`], about.
pub const MEAN_LEN: u64 = 125 << 10;

/// Share of the requests that are puts.
pub const PUT_SHARE: f64 = MIX[2];

impl<'a> Generator<'a> {
    /// A generator for daemons that are reached by these connectors.
    pub fn new(
        load: Load,
        pattern: &'a Pattern,
        connectors: Vec<Connector>,
        (echo, device): (Echo, Device),
        (told, swept): (Receiver<Told>, Sender<Swept>),
    ) -> Generator<'a> {
        let member = |(number, connector)| Member {
            set: b'a' + number as u8,
            record: Record::new(b'a' + number as u8, load.objects + 1),
            put_bytes: 0,
            connector,
            links: Vec::new(),
            sweep: None,
            harm: None,
            breaks_until_ns: 0,
            paused: None,
            pauses: Vec::new(),
        };
        Generator {
            load,
            checker: Checker { pattern, check: Check::Kept },
            members: connectors.into_iter().enumerate().map(member).collect(),
            told,
            swept,
            echo,
            device,
            random: Random::new(load.seed),
            next_arrival_ns: u64::MAX,
            counts: Counts::default(),
        }
    }

    /// Asks and judges until it is told to end, and everything is answered.
    pub fn run(mut self) -> Result<Counts> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut received = Received::default();
        let mut ending_at_ns = None;
        loop {
            let now = clock::now_ns();
            self.connect()?;
            if ending_at_ns.is_none() {
                self.issue(now);
            }
            self.sweep(now);
            self.echo.send(now)?;
            self.wait(now, &mut buffer, &mut received)?;
            // Harm is told of before it is done: what came of it is not judged before that was heard.
            let now = clock::now_ns();
            if !self.listen(now) && ending_at_ns.is_none() {
                ending_at_ns = Some(now + DEADLINE.as_nanos() as u64 + NEVER_NS);
            }
            for broken in std::mem::take(&mut received.broken) {
                self.broke(broken);
            }
            for (daemon, answer) in std::mem::take(&mut received.answers) {
                self.answered(daemon, &answer);
            }
            let under_way: usize =
                self.members.iter().flat_map(|m| &m.links).map(Connection::under_way).sum();
            if ending_at_ns.is_some_and(|end| under_way == 0 || now > end) {
                break;
            }
        }
        for member in &mut self.members {
            for link in member.links.drain(..) {
                self.counts.never_answered += link.abandon().len() as u64;
            }
        }
        self.counts.echo = self.echo.histogram();
        self.counts.device = self.device.histogram();
        Ok(self.counts)
    }

    /// Takes what the script says; whether there will be more.
    fn listen(&mut self, now: u64) -> bool {
        loop {
            match self.told.try_recv() {
                Ok(Told::Begun(daemon, harm)) => self.members[daemon].harm = Some(harm),
                Ok(Told::Down(daemon)) => self.members[daemon].breaks_until_ns = u64::MAX,
                Ok(Told::Up(daemon)) => self.begin_anew(daemon, now),
                Ok(Told::Paused(daemon)) => self.members[daemon].paused = Some(now),
                Ok(Told::Continued(daemon)) => self.members[daemon].goes_on(now),
                Ok(Told::Struck(daemon)) => {
                    self.members[daemon].paused = Some(now);
                    self.members[daemon].breaks_until_ns = u64::MAX;
                }
                Ok(Told::Spared(daemon)) => {
                    self.members[daemon].goes_on(now);
                    self.begin_anew(daemon, now);
                }
                Ok(Told::Harmed(daemon, shard)) => self.members[daemon].record.harm(shard, now),
                Ok(Told::Sweep(daemon)) => self.begin_sweep(daemon, Class::Probe, now),
                Ok(Told::Fill(daemon)) => self.begin_sweep(daemon, Class::Fill, now),
                Ok(Told::End) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Lets go of the connections to a process that was killed, or that may have been struck.
    fn begin_anew(&mut self, daemon: usize, now: u64) {
        self.members[daemon].breaks_until_ns = now;
        for link in std::mem::take(&mut self.members[daemon].links) {
            self.lost(daemon, link, false);
        }
    }

    fn begin_sweep(&mut self, daemon: usize, class: Class, now: u64) {
        if class == Class::Probe && self.next_arrival_ns == u64::MAX {
            self.next_arrival_ns = now;
            self.spoil(now);
        }
        // One more is there by the record only.
        let planted = u64::from(class == Class::Probe && self.load.plant == Some(Plant::Lost));
        let left = (0..self.load.objects + planted).map(|object| (object, now)).collect();
        self.members[daemon].sweep = Some(Sweep { class, since_ns: now, left, under_way: 0 });
    }

    /// Spoils the record as it was asked to.
    fn spoil(&mut self, now: u64) {
        let record = &mut self.members[0].record;
        match self.load.plant {
            Some(Plant::Wrong) => record.plant_other_bytes(0),
            Some(Plant::Old) => record.plant_write(0, now),
            Some(Plant::Lost) => record.plant_write(self.load.objects, now),
            Some(Plant::Late) | None => {}
        }
    }

    fn connect(&mut self) -> Result<()> {
        for member in &mut self.members {
            while member.links.len() < CONNECTIONS
                && let Some(link) = member.connector.take()?
            {
                member.links.push(link);
            }
            member.connector.want(CONNECTIONS - member.links.len());
        }
        Ok(())
    }

    /// Asks for what is due.
    fn issue(&mut self, now: u64) {
        while self.next_arrival_ns <= now {
            let due_ns = self.next_arrival_ns;
            self.next_arrival_ns += arrival_gap_ns(self.load.rate, &mut self.random);
            let daemon = self.random.below(self.members.len() as u64) as usize;
            let Some(place) = self.members[daemon].room() else {
                self.counts.unsent += 1;
                continue;
            };
            let request = self.draw(daemon, now);
            self.counts.requests += 1;
            self.members[daemon].links[place].send(request, due_ns, &self.checker);
        }
    }

    /// A request of the mix.
    fn draw(&mut self, daemon: usize, now: u64) -> Request {
        let member = &mut self.members[daemon];
        let object = self.random.below(self.load.objects);
        let share = self.random.unit();
        let whole = asked(get(member.set, object, u64::MAX), 0, u64::MAX);
        if share >= MIX[0] + MIX[1] {
            let is_put = share < MIX[0] + MIX[1] + MIX[2];
            let len = is_put.then(|| draw_len(&mut self.random));
            if is_put && member.put_bytes > self.load.put_bytes_max {
                return whole;
            }
            return match member.record.begin(object, len, now) {
                Some(version) => {
                    member.put_bytes += len.unwrap_or(0);
                    write(member.set, object, version, len)
                }
                None => whole,
            };
        }
        match member.record.settled_len(object) {
            Some(len) if share >= MIX[0] && len > 0 => {
                let offset = self.random.below(len);
                let length = 1 + self.random.below(len - offset);
                Request { class: Class::Range, ..asked(whole, offset, length) }
            }
            _ => whole,
        }
    }

    /// Goes on with the sweeps.
    fn sweep(&mut self, now: u64) {
        for member in &mut self.members {
            let Some(mut sweep) = member.sweep.take() else { continue };
            while sweep.under_way < SWEEP_DEPTH
                && let Some(&(object, from_ns)) = sweep.left.front()
                && from_ns <= now
                && let Some(place) = member.room()
            {
                sweep.left.pop_front();
                let request = match sweep.class {
                    Class::Fill => {
                        let len = Some(draw_len(&mut self.random));
                        match member.record.begin(object, len, now) {
                            Some(version) => write(member.set, object, version, len),
                            None => {
                                sweep.left.push_back((object, now + RETRY_NS));
                                continue;
                            }
                        }
                    }
                    _ => asked(get(member.set, object, u64::MAX), 0, u64::MAX),
                };
                sweep.under_way += 1;
                self.counts.requests += 1;
                let request = Request { class: sweep.class, ..request };
                member.links[place].send(request, now, &self.checker);
            }
            let over = sweep.left.is_empty() && sweep.under_way == 0;
            if over || now > sweep.since_ns + SWEEP_MAX_NS {
                let failed = sweep.left.len() + sweep.under_way;
                // The script may have ended.
                let _ = self.swept.send(Swept { at_ns: now, failed });
                continue;
            }
            member.sweep = Some(sweep);
        }
    }

    /// Waits for answers or the next arrival, and takes what came.
    fn wait(&mut self, now: u64, buffer: &mut [u8], received: &mut Received) -> Result<()> {
        let wake_ns = (now + 5_000_000).min(self.next_arrival_ns.max(now));
        let timeout = Timespec { tv_sec: 0, tv_nsec: (wake_ns - now) as i64 };
        self.flush();
        let mut waited = Vec::new();
        for link in self.members.iter().flat_map(|member| &member.links) {
            let out = if link.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() };
            waited.push(PollFd::new(link.socket(), PollFlags::IN | out));
        }
        waited.push(PollFd::new(self.echo.socket(), PollFlags::IN));
        match poll(&mut waited, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(waited);
        self.echo.receive()?;
        for daemon in 0..self.members.len() {
            let mut place = 0;
            while place < self.members[daemon].links.len() {
                match self.receive(daemon, place, buffer, &mut received.answers) {
                    Ok(()) => place += 1,
                    Err(error) => {
                        let link = self.members[daemon].links.swap_remove(place);
                        received.broken.push(Broken { daemon, link, error, at_ns: clock::now_ns() });
                    }
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        for member in &mut self.members {
            for link in &mut member.links {
                // A connection that is broken is found so when it is read from.
                let _ = link.flush();
            }
        }
    }

    fn receive(
        &mut self,
        daemon: usize,
        place: usize,
        buffer: &mut [u8],
        done: &mut Vec<(usize, Answer)>,
    ) -> Result<()> {
        let mut answers = Vec::new();
        let link = &mut self.members[daemon].links[place];
        let received = loop {
            match link.receive(buffer, &self.checker, &mut answers) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        done.extend(answers.into_iter().map(|answer| (daemon, answer)));
        received
    }

    fn broke(&mut self, Broken { daemon, link, error, at_ns }: Broken) {
        let unexpected = at_ns > self.members[daemon].breaks_until_ns;
        if unexpected {
            self.counts.notes.push(format!("daemon {daemon}: a connection broke: {error:#}"));
        }
        self.lost(daemon, link, unexpected);
    }

    /// A connection is over. Its requests have no answer.
    fn lost(&mut self, daemon: usize, link: Connection, unexpected: bool) {
        self.counts.broken_connections += u64::from(unexpected);
        let now = clock::now_ns();
        for answer in link.abandon() {
            self.counts.broken_off += 1;
            let member = &mut self.members[daemon];
            if matches!(answer.request.kind, Kind::Put | Kind::Delete) {
                member.record.written(&answer.request, None, now);
            }
            member.swept(&answer, false, now);
        }
    }

    fn answered(&mut self, daemon: usize, answer: &Answer) {
        let member = &mut self.members[daemon];
        let is_write = matches!(answer.request.kind, Kind::Put | Kind::Delete);
        let finding = match (is_write, answer.status) {
            (true, status) => member.record.written(&answer.request, Some(status), answer.end_ns),
            (false, Status::Ok | Status::NotFound) => member.record.read(answer, self.checker.pattern),
            (false, Status::Unavailable) if member.record.may_be_lost(answer.request.object) => {
                Finding::BeyondPromise
            }
            (false, _) => Finding::Right,
        };
        let settled = matches!(answer.status, Status::Ok)
            || (!is_write && answer.status == Status::NotFound)
            || finding == Finding::BeyondPromise;
        member.swept(answer, settled, answer.end_ns);
        let planted_ns = if self.load.plant == Some(Plant::Late) { DEADLINE.as_nanos() as u64 } else { 0 };
        let due_ns = answer.sent_ns + u64::from(answer.request.deadline_us) * 1000 - planted_ns;
        let allowed_ns = TICK_NS + self.echo.longest_ns(due_ns.min(answer.end_ns), answer.end_ns);
        let over_ns = answer.end_ns.saturating_sub(due_ns + allowed_ns);
        let timing = match over_ns {
            0 => Timing::InTime,
            _ if member.was_stopped(answer.sent_ns, answer.end_ns) => Timing::Stopped,
            _ => Timing::Late { over_ns, device_ns: self.device.longest_ns(answer.sent_ns, answer.end_ns) },
        };
        let harm = member.harm.map_or("any harm".to_owned(), Harm::name);
        self.counts.answer((daemon, &harm), answer, finding, timing);
    }
}
