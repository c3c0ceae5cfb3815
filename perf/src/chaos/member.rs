//! One daemon, as the load sees it: its record, its connections, what is under way; and the requests that it is asked.

use std::collections::VecDeque;

use super::connect::Connector;
use super::load::{DEADLINE, DEPTH, RETRY_NS};
use super::record::Record;
use super::script::Harm;
use crate::connection::Connection;
use crate::pattern::Random;
use crate::request::{Answer, Class, Kind, Request};
use crate::sources::put;

/// Every object of a daemon is being read, or put.
pub struct Sweep {
    /// What its requests are counted with.
    pub class: Class,
    /// When it began.
    pub since_ns: u64,
    /// Objects that are to be asked for, each not before its time.
    pub left: VecDeque<(u64, u64)>,
    /// Requests of it that are not answered.
    pub under_way: usize,
}

/// One daemon, as the load sees it.
pub struct Member {
    /// Set of its objects.
    pub set: u8,
    /// What is known of them.
    pub record: Record,
    /// Bytes that were put.
    pub put_bytes: u64,
    /// Makes its connections.
    pub connector: Connector,
    /// Those that it has.
    pub links: Vec<Connection>,
    /// The sweep that is under way.
    pub sweep: Option<Sweep>,
    /// What was done to it last.
    pub harm: Option<Harm>,
    /// A connection that breaks before this is no wonder: it was killed, or its answers were struck on purpose.
    pub breaks_until_ns: u64,
    /// Since when it has been stopped by a signal, or its answers have been struck.
    pub paused: Option<u64>,
    /// When that was so, from and to.
    pub pauses: Vec<(u64, u64)>,
}

impl Member {
    /// The connection with the fewest requests under way, if it may have another one.
    pub fn room(&self) -> Option<usize> {
        let (place, link) = self.links.iter().enumerate().min_by_key(|(_, link)| link.under_way())?;
        (link.under_way() < DEPTH).then_some(place)
    }

    /// Something was answered that may be of the sweep.
    pub fn swept(&mut self, answer: &Answer, settled: bool, now: u64) {
        let Some(sweep) = &mut self.sweep else { return };
        if answer.request.class != sweep.class {
            return;
        }
        sweep.under_way = sweep.under_way.saturating_sub(1);
        if !settled {
            sweep.left.push_back((answer.request.object, now + RETRY_NS));
        }
    }

    /// It is no longer stopped, or its answers are no longer struck.
    pub fn goes_on(&mut self, now: u64) {
        self.pauses.extend(self.paused.take().map(|since| (since, now)));
    }

    /// Whether it was stopped by a signal, or its answers were struck, within this time.
    pub fn was_stopped(&self, from_ns: u64, to_ns: u64) -> bool {
        self.paused.is_some_and(|since| since <= to_ns)
            || self.pauses.iter().any(|(begin, end)| *begin <= to_ns && *end >= from_ns)
    }
}

/// A get of so many bytes from there, or of what there is of them.
pub fn asked(request: Request, offset: u64, length: u64) -> Request {
    let deadline_us = DEADLINE.as_micros() as u32;
    Request { kind: Kind::Get { offset, length }, object_len: u64::MAX, deadline_us, ..request }
}

/// A write of a version: a put, or a delete if there is no length.
pub fn write(set: u8, object: u64, version: u64, len: Option<u64>) -> Request {
    let deadline_us = DEADLINE.as_micros() as u32;
    let request = Request { version, deadline_us, ..put(set, object, len.unwrap_or(0)) };
    match len {
        Some(_) => request,
        None => Request { kind: Kind::Delete, class: Class::Delete, ..request },
    }
}

/// The length of an object's next content: most are small.
pub fn draw_len(random: &mut Random) -> u64 {
    match random.below(100) {
        0..60 => 100 + random.below(16 << 10),
        60..97 => (16 << 10) + random.below(284 << 10),
        _ => (1 << 20) + random.below(2 << 20),
    }
}
