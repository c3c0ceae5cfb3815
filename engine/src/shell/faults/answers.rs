//! What faults do to the answers on a connection. Those to a hello and to a fault request are never struck: whoever
//! injected a fault can end it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use hedgerow_wire::frame::Op;
use hedgerow_wire::limits::FRAME_HEADER_LEN;
use hedgerow_wire::messages::{FaultKind, FaultPlace};
use hedgerow_wire::time::Timestamp;

use super::super::clock;
use super::super::connection::Connection;
use super::super::outgoing::{Body, OutFrame};
use super::{Faults, Injected, mix};

/// Whose answer it is that may be struck.
struct Answer {
    peer: Option<SocketAddr>,
    /// The connection's number.
    connection: u64,
    /// The client's number of the request. All frames of an answer share its fate.
    request: u64,
    /// Bytes of the frame.
    len: u64,
}

/// What is to happen to one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Verdict {
    /// It leaves so much later, and what follows it not before.
    delay: Duration,
    /// A bit of it is wrong.
    damage: bool,
    /// It is not sent.
    vanish: bool,
    /// Only so many bytes of it are sent, and nothing after it.
    cut: Option<u64>,
}

impl Injected {
    fn is_about(&self, answer: &Answer) -> bool {
        match self.fault.place {
            FaultPlace::Shard(_) => false,
            FaultPlace::Connections => true,
            FaultPlace::Peer(wanted) => answer.peer.is_some_and(|peer| {
                peer.ip().to_canonical() == wanted.ip().to_canonical()
                    && (wanted.port() == 0 || wanted.port() == peer.port())
            }),
        }
    }
}

impl Faults {
    /// What is to happen to a frame. `sent` has how many bytes its connection has sent under each fault that cuts.
    fn judge_answer(&mut self, answer: &Answer, sent: &mut BTreeMap<u64, u64>, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        self.each(now, |injected, number| {
            if !injected.is_about(answer) {
                return false;
            }
            // A share of answers, and of connections where these are cut. Clients number their requests alike: the
            // connection keeps them from having the same ones struck.
            let fate = mix(answer.connection);
            let cuts = matches!(injected.fault.kind, FaultKind::Cut { .. });
            if !injected.strikes(if cuts { fate } else { fate.wrapping_add(answer.request) }) {
                return false;
            }
            match injected.fault.kind {
                FaultKind::Damage => verdict.damage = true,
                FaultKind::Vanish => verdict.vanish = true,
                FaultKind::Cut { after_bytes } => {
                    let before = sent.entry(injected.id).or_default();
                    let left = u64::from(after_bytes).saturating_sub(*before);
                    *before += answer.len;
                    if answer.len < left {
                        return false;
                    }
                    verdict.cut = Some(verdict.cut.map_or(left, |other| other.min(left)));
                }
                _ => verdict.delay = injected.prolong(verdict.delay, now, mix(number)),
            }
            true
        });
        verdict
    }
}

/// What a connection keeps for faults.
pub struct Struck {
    /// A number of its own among the connections of all cores.
    number: u64,
    /// Bytes sent under each fault that cuts connections.
    sent: RefCell<BTreeMap<u64, u64>>,
    /// Requests of whose answers something was not sent: nothing more of them is.
    vanished: RefCell<BTreeSet<u64>>,
}

impl Struck {
    /// Of the connection with this number on its core.
    pub fn of(core: usize, number: u64) -> Struck {
        let number = number << 16 | core as u64;
        Struck { number, sent: RefCell::default(), vanished: RefCell::default() }
    }
}

/// What a frame belongs to.
#[derive(Clone, Copy)]
pub struct FrameOf {
    /// The operation.
    pub op: Op,
    /// The client's number of the request.
    pub request: u64,
    /// It is the answer's last one.
    pub end: bool,
}

impl Connection {
    /// The frame as faults leave it, if they do.
    pub fn strike(&self, of: FrameOf, frame: OutFrame) -> Option<OutFrame> {
        let faults = &self.core.connections.faults;
        let mut vanished = self.struck.vanished.borrow_mut();
        let spared = !faults.borrow().any() && vanished.is_empty();
        if spared || matches!(of.op, Op::Hello | Op::Fault) {
            return Some(frame);
        }
        let answer = Answer {
            peer: self.peer,
            connection: self.struck.number,
            request: of.request,
            len: frame.len as u64,
        };
        let now = clock::timestamp();
        let verdict = faults.borrow_mut().judge_answer(&answer, &mut self.struck.sent.borrow_mut(), now);
        if verdict.vanish || vanished.contains(&of.request) {
            if of.end {
                vanished.remove(&of.request)
            } else {
                vanished.insert(of.request)
            };
            return None;
        }
        Some(verdict.apply(frame, now))
    }
}

impl Verdict {
    fn apply(self, mut frame: OutFrame, now: Timestamp) -> OutFrame {
        if !self.delay.is_zero() {
            frame.not_before = now + self.delay;
        }
        if self.damage {
            frame = damaged(&frame);
        }
        if let Some(bytes) = self.cut {
            frame.len = bytes as usize;
            frame.last = true;
        }
        frame
    }
}

/// A copy with one bit wrong: in the middle of the body, or of the header where there is none.
fn damaged(frame: &OutFrame) -> OutFrame {
    let mut slices = Default::default();
    frame.slices(0, &mut slices);
    let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
    let body_len = bytes.len() - FRAME_HEADER_LEN;
    let place = if body_len == 0 { FRAME_HEADER_LEN / 2 } else { FRAME_HEADER_LEN + body_len / 2 };
    bytes[place] ^= 0x10;
    let (mut head, body) = (frame.head, bytes.split_off(FRAME_HEADER_LEN));
    head.copy_from_slice(&bytes);
    let body = if body.is_empty() { Body::Empty } else { Body::Bytes(body) };
    OutFrame { head, body, ..*frame }
}
