//! Writes that wait until a slab is free: a device that is written faster than it lets slabs go takes them at
//! its own pace, and refuses only what is beyond its bound on bytes.

use std::collections::VecDeque;

use hedgerow_wire::part::{PartAnswer, PartWrite};
use hedgerow_wire::time::{Now, Timestamp};

use super::append::Room;
use super::store::{Request, Store};
use super::{Buffers, Token};

/// See the module. Holds what it waits for in the order in which it came.
pub(super) struct Backlog {
    writes: VecDeque<Waiting>,
    /// When the first of them expires, or earlier.
    next_deadline: Timestamp,
}

struct Waiting {
    token: Token,
    write: PartWrite,
    payload: Vec<u8>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.write.meta.head_len() + self.payload.len()
    }
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog { writes: VecDeque::new(), next_deadline: Timestamp::NEVER }
    }
}

impl Backlog {
    /// When [`Store::expire_backlog`] is to be called.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        (!self.writes.is_empty() && self.next_deadline != Timestamp::NEVER).then_some(self.next_deadline)
    }
}

impl<D: Buffers> Store<D> {
    /// Keeps a write, with a copy of its payload, until a slab is free.
    pub(super) fn wait_for_slab(&mut self, token: Token, write: &PartWrite, payload: &[u8]) {
        self.requests.insert(token, Request::Backlog);
        self.writes_waiting += 1;
        self.counters.writes_delayed += 1;
        let waiting = Waiting { token, write: write.clone(), payload: payload.to_vec() };
        self.pending_bytes += waiting.len();
        self.backlog.next_deadline = self.backlog.next_deadline.min(write.deadline);
        self.backlog.writes.push_back(waiting);
    }

    /// Goes on with the writes that wait, as far as there is room. Whether there were any.
    pub(super) fn pump_backlog(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(first) = self.backlog.writes.front() {
            let (len, deadline) = (first.len() as u32, first.write.deadline);
            if !self.refuses() && deadline > now.mono && matches!(self.make_room(len), Room::None) {
                break;
            }
            any = true;
            let Some(waiting) = self.backlog.writes.pop_front() else { break };
            self.requests.remove(&waiting.token);
            self.let_go(&waiting);
            self.write(waiting.token, &waiting.write, &waiting.payload, now);
        }
        any
    }

    /// Answers the writes whose deadline is over.
    pub(super) fn expire_backlog(&mut self, now: Now) {
        let (over, kept) = std::mem::take(&mut self.backlog.writes)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| waiting.write.deadline <= now.mono);
        self.backlog.next_deadline =
            kept.iter().map(|waiting| waiting.write.deadline).min().unwrap_or(Timestamp::NEVER);
        self.backlog.writes = kept;
        for waiting in over {
            self.end_waiting(&waiting, PartAnswer::Expired);
        }
    }

    /// The device is set aside: nothing waits for it.
    pub(super) fn fail_backlog(&mut self) {
        for waiting in std::mem::take(&mut self.backlog).writes {
            self.end_waiting(&waiting, PartAnswer::Failed);
        }
    }

    /// The answer to `token` is no longer wanted, and nothing of the write was done yet.
    pub(super) fn cancel_waiting(&mut self, token: Token) {
        let place = self.backlog.writes.iter().position(|waiting| waiting.token == token);
        if let Some(waiting) = place.and_then(|place| self.backlog.writes.remove(place)) {
            self.let_go(&waiting);
        }
    }

    fn end_waiting(&mut self, waiting: &Waiting, answer: PartAnswer<super::Payload<D::Read>>) {
        self.requests.remove(&waiting.token);
        self.let_go(waiting);
        self.answer(waiting.token, answer);
    }

    fn let_go(&mut self, waiting: &Waiting) {
        self.pending_bytes -= waiting.len();
        self.writes_waiting -= 1;
    }
}
