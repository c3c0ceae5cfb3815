//! What one connection has under way: requests that wait for the writer, requests that wait for
//! their answer, and the order in which frames go out. Plain data, changed under one lock.
//!
//! Two lanes: small frames pass the bodies of large puts, so that a small request waits for at most
//! one batch of them. The frames of one request never pass each other: all of them use one lane.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hedgerow_wire::Key;
use hedgerow_wire::frame::{FrameHeader, Op, flags};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::assembly::Assembly;
use crate::clock::budget_us;
use crate::error::{Broken, Error};
use crate::limits::{BATCH_BODY_BYTES, BATCH_FRAMES_MAX, BULK_BODY_LEN_MIN, STALE_ENTRIES_MAX};

/// A frame on its way to the writer, sealed but for its deadline budget.
#[derive(Clone, Debug)]
pub(crate) struct OutFrame {
    pub header: FrameHeader,
    pub key: Option<Key>,
    pub body: Bytes,
}

/// A whole answer, of whatever status.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub header: FrameHeader,
    pub body: Bytes,
}

/// What was known of a request when its connection broke.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lost {
    /// Something of it was handed to the socket.
    pub sent: bool,
    /// It is a write, and all of it was handed to the socket: it may have taken effect.
    pub effect: bool,
    /// How the connection broke.
    pub broken: Broken,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection broke.
    Lost(Lost),
    /// An answer came and cannot be believed, or the request could not be made.
    Failed(Error),
}

pub(crate) type Reply = Result<Answer, Failure>;

/// Where the answer of a request goes.
pub(crate) enum Sink {
    /// One answer, its body in one piece.
    Whole { reply: oneshot::Sender<Reply>, body: BytesMut },
    /// The answer to a put of several frames; `credit` is what may be sent of it.
    Put { reply: oneshot::Sender<Reply>, credit: Arc<Semaphore> },
    /// The frames of a get as they come. `allowance` is what the daemon may still send.
    Stream { frames: mpsc::UnboundedSender<Reply>, allowance: u64 },
}

impl Sink {
    /// The last that this sink hears.
    pub(crate) fn finish(self, reply: Reply) {
        // A receiver that is gone has no use for it: its request was cancelled.
        match self {
            Sink::Whole { reply: to, .. } | Sink::Put { reply: to, .. } => drop(to.send(reply)),
            Sink::Stream { frames, .. } => drop(frames.send(reply)),
        }
    }
}

/// A request under way.
pub(crate) struct Pending {
    pub assembly: Assembly,
    pub sink: Sink,
    deadline: Instant,
    is_write: bool,
    bulk: bool,
    /// The first frame until the writer takes it.
    first: Option<OutFrame>,
    /// Further frames (streamed puts).
    more: VecDeque<OutFrame>,
    sent: bool,
    ended: bool,
}

impl Pending {
    pub(crate) fn new(first: OutFrame, deadline: Instant, sink: Sink) -> Pending {
        Pending {
            assembly: Assembly::new(&first.header),
            sink,
            deadline,
            is_write: matches!(first.header.op, Op::Put | Op::Delete),
            bulk: first.body.len() >= BULK_BODY_LEN_MIN || !first.header.has(flags::END),
            first: Some(first),
            more: VecDeque::new(),
            sent: false,
            ended: false,
        }
    }

    pub(crate) fn op(&self) -> Op {
        self.assembly.op()
    }

    /// What the daemon needs to send all of an answer whose place in memory is whole: told with its
    /// first frame, as soon as it is known.
    pub(crate) fn unasked_credit(&self, header: &FrameHeader, initial: u32) -> u32 {
        let first = self.assembly.is_first(header);
        match &self.sink {
            Sink::Whole { .. } if first => header.length.saturating_sub(u64::from(initial)) as u32,
            _ => 0,
        }
    }

    fn lost(&self, broken: Broken) -> Lost {
        Lost { sent: self.sent, effect: self.is_write && self.ended, broken }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Frame(u64),
    Cancel(u64),
    Credit(u64, u32),
    Ping,
}

/// A frame that the writer took, and whose it is (0: nobody's).
pub(crate) struct Taken {
    pub id: u64,
    pub frame: OutFrame,
    first: bool,
    last: bool,
}

/// What became of a further frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pushed {
    /// It waits, and so does all of its request.
    Unsent,
    /// It waits; some of its request is sent.
    Sent,
    /// Its request is answered or lost already.
    Answered,
}

/// What is known of a request that was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancelled {
    /// It had been answered.
    Answered,
    /// It had no effect and will have none.
    NoEffect,
    /// It is a write that was sent: it may have taken effect.
    Doubtful,
}

/// See the module.
pub(crate) struct State {
    /// Longest budget that the daemon takes, in microseconds.
    budget_us_max: u32,
    pending: HashMap<u64, Pending>,
    quick: VecDeque<Entry>,
    bulk: VecDeque<Entry>,
    last_id: u64,
    /// Entries whose request is gone.
    stale: usize,
    broken: Option<Broken>,
}

impl State {
    pub(crate) fn new(budget_us_max: u32) -> State {
        State {
            budget_us_max,
            pending: HashMap::new(),
            quick: VecDeque::new(),
            bulk: VecDeque::new(),
            last_id: 0,
            stale: 0,
            broken: None,
        }
    }

    /// Takes a request in and queues its first frame. If the connection is broken the request comes
    /// back as never sent.
    pub(crate) fn register(&mut self, mut pending: Pending) -> Result<u64, Lost> {
        if let Some(broken) = &self.broken {
            return Err(pending.lost(broken.clone()));
        }
        self.last_id += 1;
        let id = self.last_id;
        if let Some(first) = &mut pending.first {
            first.header.request_id = id;
        }
        self.lane(pending.bulk).push_back(Entry::Frame(id));
        self.pending.insert(id, pending);
        Ok(id)
    }

    /// Queues a further frame of a put.
    pub(crate) fn push(&mut self, id: u64, mut frame: OutFrame) -> Pushed {
        let Some(pending) = self.pending.get_mut(&id) else { return Pushed::Answered };
        frame.header.request_id = id;
        pending.more.push_back(frame);
        let (bulk, sent) = (pending.bulk, pending.sent);
        self.lane(bulk).push_back(Entry::Frame(id));
        if sent { Pushed::Sent } else { Pushed::Unsent }
    }

    /// Forgets a request whose answer is not wanted any more, and tells the daemon if it knows of it.
    pub(crate) fn cancel(&mut self, id: u64) -> Cancelled {
        let Some(pending) = self.take(id) else { return Cancelled::Answered };
        if pending.sent {
            self.quick.push_back(Entry::Cancel(id));
        }
        if pending.is_write && pending.ended { Cancelled::Doubtful } else { Cancelled::NoEffect }
    }

    /// Tells the daemon that the rest of an answer is of no use.
    pub(crate) fn abandon(&mut self, id: u64) {
        self.quick.push_back(Entry::Cancel(id));
    }

    /// Lets the daemon send `bytes` more of a stream.
    pub(crate) fn grant(&mut self, id: u64, bytes: u32) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if let Sink::Stream { allowance, .. } = &mut pending.sink {
            *allowance += u64::from(bytes);
        }
        self.quick.push_back(Entry::Credit(id, bytes));
    }

    /// Asks the daemon for a sign of life.
    pub(crate) fn ping(&mut self) {
        self.quick.push_back(Entry::Ping);
    }

    /// The request with this id, if it still waits for its answer.
    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Pending> {
        self.pending.get_mut(&id)
    }

    /// Takes a request out: it is answered, lost or cancelled.
    pub(crate) fn take(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.stale += usize::from(pending.first.is_some()) + pending.more.len();
        if self.stale > STALE_ENTRIES_MAX && self.stale * 2 > self.quick.len() + self.bulk.len() {
            self.sweep();
        }
        Some(pending)
    }

    /// Takes the next frames for one vectored write: everything small first, then bulk. Empty if
    /// there are none. A request whose time is over is not begun.
    pub(crate) fn next_batch(&mut self, now: Instant, out: &mut Vec<Taken>) {
        let mut body_bytes = 0;
        while out.len() < BATCH_FRAMES_MAX && body_bytes < BATCH_BODY_BYTES {
            let Some(entry) = self.quick.pop_front().or_else(|| self.bulk.pop_front()) else { return };
            if let Some(taken) = self.take_frame(entry, now) {
                body_bytes += taken.frame.body.len();
                out.push(taken);
            }
        }
    }

    /// The socket took nothing of these frames: their requests were not sent so far.
    pub(crate) fn untake(&mut self, taken: &[Taken]) {
        for frame in taken {
            if let Some(pending) = self.pending.get_mut(&frame.id) {
                pending.sent &= !frame.first;
                pending.ended &= !frame.last;
            }
        }
    }

    /// The connection is over: every request under way is told. Nothing is taken in from now on.
    pub(crate) fn close(&mut self, broken: Broken) {
        let broken = self.broken.get_or_insert(broken).clone();
        self.quick.clear();
        self.bulk.clear();
        for (_, pending) in self.pending.drain() {
            if let Sink::Put { credit, .. } = &pending.sink {
                credit.close();
            }
            let lost = pending.lost(broken.clone());
            pending.sink.finish(Err(Failure::Lost(lost)));
        }
    }

    fn lane(&mut self, bulk: bool) -> &mut VecDeque<Entry> {
        if bulk { &mut self.bulk } else { &mut self.quick }
    }

    fn take_frame(&mut self, entry: Entry, now: Instant) -> Option<Taken> {
        let control = |header| {
            let frame = OutFrame { header, key: None, body: Bytes::new() };
            Some(Taken { id: 0, frame, first: false, last: false })
        };
        let id = match entry {
            Entry::Frame(id) => id,
            Entry::Cancel(id) => return control(FrameHeader::request(Op::Cancel, id)),
            Entry::Credit(id, credit) => {
                return control(FrameHeader { credit, ..FrameHeader::request(Op::Credit, id) });
            }
            Entry::Ping => return control(FrameHeader::request(Op::Ping, 0)),
        };
        let Some(pending) = self.pending.get_mut(&id) else {
            self.stale = self.stale.saturating_sub(1);
            return None;
        };
        let first = pending.first.is_some();
        let mut frame = pending.first.take().or_else(|| pending.more.pop_front())?;
        match budget_us(pending.deadline, now) {
            Some(left_us) => frame.header.deadline_budget_us = left_us.min(self.budget_us_max),
            // Whoever waits for it has a clock too and is about to cancel.
            None => return None,
        }
        let last = frame.header.has(flags::END);
        pending.sent = true;
        pending.ended |= last;
        Some(Taken { id, frame, first, last })
    }

    fn sweep(&mut self) {
        let pending = &self.pending;
        let keep = |entry: &Entry| !matches!(entry, Entry::Frame(id) if !pending.contains_key(id));
        self.quick.retain(keep);
        self.bulk.retain(keep);
        self.stale = 0;
    }
}

#[cfg(test)]
mod tests;
