//! Connections: bytes from a socket to requests, answers to a socket.
//!
//! One task reads, one writes. Reading never waits for a request: each runs as a task of its own, so
//! answers leave in the order in which they are ready. What a connection may hold is bounded: by
//! the requests under way, by the bytes that wait to be sent, and by the credit of its streams.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use glommio::net::TcpStream;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::messages::ErrorDetail;
use hedgerow_wire::time::Timestamp;

use super::clock;
use super::core::Core;
use super::faults::{Faults, FrameOf, Struck};
use super::limits::{CONNECTION_GETS_MAX, CORE_OUT_BYTES_MAX};
use super::oneshot::{Bell, Signal};
use super::outgoing::{Body, OutFrame};
use super::permits::Permits;
use super::put_body::PutBody;

/// The connections that a core serves.
#[derive(Default)]
pub struct Connections {
    open: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
    /// Requests under way on all of them.
    pub requests: Cell<usize>,
    /// Bytes that wait to be sent on all of them.
    pub out_bytes: Cell<usize>,
    /// Closed because their peers took too little.
    pub shed: Cell<u64>,
    /// What is done to their answers on purpose.
    pub faults: RefCell<Faults>,
}

impl Connections {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether anything still waits to be sent.
    pub fn sending(&self) -> bool {
        self.out_bytes.get() > 0
    }

    /// Closes all of them.
    pub fn close_all(&self) {
        for connection in self.open.borrow().values() {
            connection.close();
        }
    }

    /// Closes those that have had something waiting for the longest, until the others have little enough.
    pub fn shed(&self) {
        let open = self.open.borrow();
        let waiting = open.values().filter(|connection| !connection.closing.get());
        let mut waiting: Vec<_> = waiting.filter_map(|c| Some((c.waits_since.get()?, c))).collect();
        waiting.sort_by_key(|(since, _)| *since);
        let mut left: usize = waiting.iter().map(|(_, connection)| connection.out_bytes.get()).sum();
        for (_, connection) in waiting {
            if left <= CORE_OUT_BYTES_MAX {
                break;
            }
            left -= connection.out_bytes.get();
            connection.close();
            self.shed.set(self.shed.get() + 1);
        }
    }

    /// Closes those that have left a frame unfinished since `before`, have not said hello by then, or
    /// have taken nothing of what waits for them.
    pub fn close_stalled(&self, before: Timestamp) -> usize {
        let open = self.open.borrow();
        let stalled = open.values().filter(|c| {
            let (waiting, blocked) = (c.waiting_since.get(), c.blocked_since.get());
            waiting.into_iter().chain(blocked).any(|since| since < before)
        });
        stalled.map(|connection| connection.close()).count()
    }
}

/// The topology of a daemon that is alone never changes.
pub const TOPOLOGY_EPOCH: u64 = 1;

/// A request under way.
pub struct Request {
    /// The client's number for it.
    pub id: u64,
    /// Body bytes of its answer that may still be sent.
    pub credit: Cell<u64>,
    /// Raised when there is more credit.
    pub credit_signal: Signal,
    /// Raised when the request is cancelled.
    pub signal: Signal,
    /// The client no longer wants the answer.
    pub cancelled: Cell<bool>,
    /// Its body, if it is a put that is still coming in.
    pub put: RefCell<Option<Rc<PutBody>>>,
}

/// One connection. Lives on the core that serves it.
pub struct Connection {
    /// The core that serves it.
    pub core: Rc<Core>,
    pub(super) stream: RefCell<TcpStream>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) requests: RefCell<HashMap<u64, Rc<Request>>>,
    pub(super) out: RefCell<VecDeque<OutFrame>>,
    pub(super) out_bytes: Cell<usize>,
    pub(super) out_signal: Signal,
    pub(super) room_signal: Signal,
    /// Nothing is read any more; what waits is still sent.
    pub(super) ending: Cell<bool>,
    /// Nothing is sent any more either.
    pub(super) closing: Cell<bool>,
    pub(super) sent_all: Signal,
    pub(super) greeted: Cell<bool>,
    pub(super) waiting_since: Cell<Option<Timestamp>>,
    /// Since when the peer takes nothing of what waits for it.
    pub(super) blocked_since: Cell<Option<Timestamp>>,
    /// Since when something has been waiting for the peer all the time.
    pub(super) waits_since: Cell<Option<Timestamp>>,
    /// Rung when the peer has taken something.
    pub(super) taken: Bell,
    /// Turns to fetch: each may bring a stripe that waits to be sent.
    pub(super) gets: Rc<Permits>,
    /// What it keeps for faults.
    pub(super) struck: Struck,
}

/// Serves a connection until either side ends it.
pub async fn serve(core: Rc<Core>, stream: TcpStream) {
    let number = core.connections.next.replace(core.connections.next.get() + 1);
    let connection = Rc::new(Connection {
        peer: stream.peer_addr().ok(),
        stream: RefCell::new(stream),
        requests: RefCell::default(),
        out: RefCell::default(),
        out_bytes: Cell::new(0),
        out_signal: Signal::default(),
        room_signal: Signal::default(),
        ending: Cell::new(false),
        closing: Cell::new(false),
        sent_all: Signal::default(),
        greeted: Cell::new(false),
        waiting_since: Cell::new(Some(clock::timestamp())),
        blocked_since: Cell::new(None),
        waits_since: Cell::new(None),
        taken: Bell::default(),
        gets: Permits::new(CONNECTION_GETS_MAX),
        struck: Struck::of(core.id, number),
        core: core.clone(),
    });
    connection.tune();
    core.connections.open.borrow_mut().insert(number, connection.clone());
    core.spawn(connection.clone().write());
    let ended = connection.read().await;
    if let Err(error) = ended {
        tracing::debug!(peer = ?connection.peer, %error, "connection ended");
    }
    for request in connection.requests.borrow().values() {
        request.cancel();
    }
    // What was answered already is still sent; a peer that does not take it is not waited for long.
    connection.waiting_since.set(Some(clock::timestamp()));
    connection.ending.set(true);
    connection.out_signal.raise();
    connection.sent_all.wait().await;
    connection.close();
    core.connections.open.borrow_mut().remove(&number);
    core.shared.connections.fetch_sub(1, Ordering::Relaxed);
}

impl Request {
    /// The client no longer wants the answer.
    pub fn cancel(&self) {
        self.cancelled.set(true);
        self.signal.raise();
        if let Some(put) = self.put.borrow().as_ref() {
            put.abort();
        }
    }
}

impl Connection {
    /// Its socket.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        let fd = self.stream.borrow().as_raw_fd();
        // SAFETY: the descriptor belongs to `self.stream`, which lives as long as `self` and is never replaced.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }

    /// Answers leave at once; and not at the pace that BBR finds, where it is the system's choice and there is no
    /// path to be sparing of: its timers cost a third of the processor time of large objects on loopback.
    fn tune(&self) {
        let _ = self.stream.borrow().set_nodelay(true);
        if self.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
            let choose = |name| rustix::net::sockopt::set_tcp_congestion(self.socket(), name);
            // Where neither is to be had, the system's own does.
            let _ = choose("cubic").or_else(|_| choose("reno"));
        }
    }

    /// Ends the connection: what waits to be sent is let go.
    pub fn close(&self) {
        self.closing.set(true);
        let _ = rustix::net::shutdown(self.socket(), rustix::net::Shutdown::Both);
        self.out_signal.raise();
        self.room_signal.raise();
    }

    /// Removes a request that has been answered.
    pub fn finish(&self, request: &Rc<Request>) {
        let mut requests = self.requests.borrow_mut();
        if requests.get(&request.id).is_some_and(|known| Rc::ptr_eq(known, request)) {
            requests.remove(&request.id);
            self.core.connections.requests.set(self.core.connections.requests.get() - 1);
        }
        self.room_signal.raise();
    }

    /// Puts a frame into the queue. `header` gets length and checksum of the body from here.
    pub fn send(&self, header: FrameHeader, body: Body, body_checksum: u32) {
        if self.closing.get() {
            return;
        }
        let of = FrameOf { op: header.op, request: header.request_id, end: header.has(flags::END) };
        let body_len = body.len();
        let header = FrameHeader { topology_epoch: TOPOLOGY_EPOCH, ..header };
        let head = header.sealed_with(None, body_len, body_checksum).encode();
        let frame = OutFrame::new(head, body);
        let Some(frame) = self.strike(of, frame) else { return };
        self.set_out_bytes(self.out_bytes.get() + frame.len);
        self.out.borrow_mut().push_back(frame);
        self.out_signal.raise();
    }

    /// Answers with bytes of their own.
    pub fn send_bytes(&self, header: FrameHeader, bytes: Vec<u8>) {
        let checksum = hedgerow_wire::checksum::crc32c(&bytes);
        self.send(header, if bytes.is_empty() { Body::Empty } else { Body::Bytes(bytes) }, checksum);
    }

    /// Answers that a request failed, with a sentence.
    pub fn send_error(&self, op: Op, id: u64, status: Status, message: &str) {
        let (message, field) = (message.to_owned(), String::new());
        let detail = ErrorDetail { status, message, field, value: 0 };
        self.core.counters.refused(status);
        self.send_bytes(FrameHeader::answer(op, id, status), detail.encode());
    }
}
