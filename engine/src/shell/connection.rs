//! Connections: bytes from a socket to requests, answers to a socket.
//!
//! One task reads, one writes. Reading never waits for a request: each runs as a task of its own, so
//! answers leave in the order in which they are ready. What a connection may hold is bounded: by
//! the requests under way, by the bytes that wait to be sent, and by the credit of its streams.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use futures_lite::AsyncRead;
use glommio::net::TcpStream;
use hedgerow_wire::Key;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameError, FrameHeader, Op, Status};
use hedgerow_wire::limits::FRAME_HEADER_LEN;
use hedgerow_wire::messages::ErrorDetail;
use hedgerow_wire::request::{Refusal, check_request};
use hedgerow_wire::time::Timestamp;

use super::clock;
use super::core::Core;
use super::limits::{CONNECTION_OUT_BYTES_MAX, CONNECTION_REQUESTS_MAX};
use super::oneshot::Signal;
use super::outgoing::{Body, OutFrame};
use super::put::PutBody;
use super::request;

/// The connections that a core serves.
#[derive(Default)]
pub struct Connections {
    open: RefCell<HashMap<u64, Rc<Connection>>>,
    next: Cell<u64>,
}

impl Connections {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Requests under way on all of them.
    pub fn requests(&self) -> usize {
        self.open.borrow().values().map(|c| c.requests.borrow().len()).sum()
    }

    /// Whether anything still waits to be sent.
    pub fn sending(&self) -> bool {
        self.open.borrow().values().any(|c| c.out_bytes.get() > 0)
    }

    /// Closes all of them.
    pub fn close_all(&self) {
        for connection in self.open.borrow().values() {
            connection.close();
        }
    }

    /// Closes those that have left a frame unfinished since `before`, or have not said hello by then.
    pub fn close_stalled(&self, before: Timestamp) -> usize {
        let open = self.open.borrow();
        let stalled = open.values().filter(|c| c.waiting_since.get().is_some_and(|since| since < before));
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
    requests: RefCell<HashMap<u64, Rc<Request>>>,
    pub(super) out: RefCell<VecDeque<OutFrame>>,
    pub(super) out_bytes: Cell<usize>,
    pub(super) out_signal: Signal,
    pub(super) room_signal: Signal,
    /// Nothing is read any more; what waits is still sent.
    pub(super) ending: Cell<bool>,
    /// Nothing is sent any more either.
    pub(super) closing: Cell<bool>,
    pub(super) sent_all: Signal,
    greeted: Cell<bool>,
    waiting_since: Cell<Option<Timestamp>>,
}

/// Serves a connection until either side ends it.
pub async fn serve(core: Rc<Core>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
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
        core: core.clone(),
    });
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

/// Why reading a connection ended, other than by its peer closing it between frames.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("closed in the middle of a frame")]
    Truncated,
    #[error("the first frame was no hello")]
    NotGreeted,
    #[error("the peer broke the rules of streams: {0}")]
    Stream(&'static str),
    #[error("closed from this side")]
    Closed,
}

impl Connection {
    /// Ends the connection: what waits to be sent is let go.
    pub fn close(&self) {
        self.closing.set(true);
        let fd = self.stream.borrow().as_raw_fd();
        // SAFETY: the descriptor belongs to `self.stream`, which lives as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
        self.out_signal.raise();
        self.room_signal.raise();
    }

    /// Removes a request that has been answered.
    pub fn finish(&self, id: u64) {
        self.requests.borrow_mut().remove(&id);
        self.room_signal.raise();
    }

    /// Puts a frame into the queue. `header` gets length and checksum of the body from here.
    pub fn send(&self, header: FrameHeader, body: Body, body_checksum: u32) {
        if self.closing.get() {
            return;
        }
        let body_len = body.len();
        let header = FrameHeader { topology_epoch: TOPOLOGY_EPOCH, ..header };
        let head = header.sealed_with(None, body_len, body_checksum).encode();
        let len = FRAME_HEADER_LEN + body_len;
        self.out.borrow_mut().push_back(OutFrame { head, body, len });
        self.out_bytes.set(self.out_bytes.get() + len);
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

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer)).await
    }

    /// Receives into this core's one receive buffer and hands what came to `take`.
    async fn receive_with<T>(&self, take: impl FnOnce(&[u8]) -> T) -> io::Result<(usize, T)> {
        let count = poll_fn(|cx| {
            let mut buffer = self.core.receive_buffer.borrow_mut();
            Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, &mut buffer)
        })
        .await?;
        // Nothing has run in between: the buffer still holds what was received.
        let buffer = self.core.receive_buffer.borrow();
        Ok((count, take(&buffer[..count])))
    }

    async fn read(self: &Rc<Self>) -> Result<(), Ended> {
        let mut decoder = Decoder::new();
        let mut frame = Frame::None;
        loop {
            if self.closing.get() {
                return Err(Ended::Closed);
            }
            self.wait_for_room().await;
            let direct = frame.destination(decoder.body_remaining());
            let count = match direct {
                Some(put) => {
                    let mut stripe = put.take_stripe();
                    let room = stripe.room(decoder.body_remaining());
                    let count = self.receive(room).await;
                    if let Ok(count) = count {
                        decoder.body_received(&room[..count]);
                        stripe.advance(count);
                    }
                    put.give_back(stripe);
                    let count = count?;
                    self.take_steps(&mut decoder, &mut frame, &[])?;
                    count
                }
                None => {
                    let (count, taken) =
                        self.receive_with(|bytes| self.take_steps(&mut decoder, &mut frame, bytes)).await?;
                    taken?;
                    count
                }
            };
            if count == 0 {
                return if decoder.at_boundary() { Ok(()) } else { Err(Ended::Truncated) };
            }
            self.note_progress(decoder.at_boundary());
        }
    }

    /// A frame that is begun and not finished, and a connection that has not said hello, may take
    /// only so long: remembers since when it does.
    fn note_progress(&self, at_boundary: bool) {
        if at_boundary && self.greeted.get() {
            self.waiting_since.set(None);
        } else if self.waiting_since.get().is_none() {
            self.waiting_since.set(Some(clock::timestamp()));
        }
    }

    /// Stops reading while the client has too much under way or does not take its answers.
    async fn wait_for_room(&self) {
        while !self.closing.get()
            && (self.requests.borrow().len() >= CONNECTION_REQUESTS_MAX
                || self.out_bytes.get() >= CONNECTION_OUT_BYTES_MAX)
        {
            self.room_signal.wait().await;
        }
    }

    fn take_steps(
        self: &Rc<Self>,
        decoder: &mut Decoder,
        frame: &mut Frame,
        mut input: &[u8],
    ) -> Result<(), Ended> {
        loop {
            let step = decoder.step(&mut input).inspect_err(|error| {
                let status = match error {
                    FrameError::ProtocolVersion { .. } => Status::Unsupported,
                    _ => Status::BadRequest,
                };
                self.send_error(Op::Hello, 0, status, &error.to_string());
            })?;
            match step {
                Step::NeedMore => return Ok(()),
                Step::Header { header, key } => {
                    *frame = self.begin(header, key)?;
                    if matches!(frame, Frame::Skipped) {
                        decoder.skip_body();
                    }
                }
                Step::Body(bytes) => frame.append(bytes)?,
                Step::End => self.end(std::mem::replace(frame, Frame::None))?,
                Step::Refused { header, error } => {
                    *frame = Frame::None;
                    let message = match error {
                        FrameError::KeyChecksum => "the key's checksum is wrong",
                        _ => "the body's checksum is wrong",
                    };
                    let (status, field, value) = (Status::Corrupt, "", 0);
                    self.refuse(&header, &Refusal { status, message, field, value });
                }
            }
        }
    }

    /// A frame is not to be believed, or asks for what is not allowed: its request is answered so.
    fn refuse(&self, header: &FrameHeader, refusal: &Refusal) {
        let request = self.requests.borrow().get(&header.request_id).cloned();
        if let Some(request) = request {
            request.cancel();
            self.finish(header.request_id);
        }
        self.send_refusal(header, refusal);
    }

    fn send_refusal(&self, header: &FrameHeader, refusal: &Refusal) {
        self.core.counters.refused(refusal.status);
        let answer = FrameHeader::answer(header.op, header.request_id, refusal.status);
        self.send_bytes(answer, refusal.detail().encode());
    }

    fn begin(self: &Rc<Self>, header: FrameHeader, key: Option<Key>) -> Result<Frame, Ended> {
        self.core.counters.frame(header.op);
        if let Err(refusal) = check_request(&header, key.as_ref()) {
            self.refuse(&header, &refusal);
            return Ok(Frame::Skipped);
        }
        if !self.greeted.get() && header.op != Op::Hello {
            self.send_error(header.op, header.request_id, Status::BadRequest, "say hello first");
            return Err(Ended::NotGreeted);
        }
        match header.op {
            Op::Put => Ok(self.begin_put(header, key)),
            _ => Ok(Frame::Whole { body: Vec::with_capacity(header.body_len as usize), header, key }),
        }
    }

    /// The first frame of a put starts its task; later ones add to its body.
    fn begin_put(self: &Rc<Self>, header: FrameHeader, key: Option<Key>) -> Frame {
        let put = match key {
            None => self.further_put(&header),
            Some(key) => match self.start_put(&header, key) {
                Ok(put) => Some(put),
                Err(refusal) => {
                    self.send_refusal(&header, &refusal);
                    None
                }
            },
        };
        match put {
            Some(put) => Frame::Put { header, put },
            // Its request has been answered already (it was refused, or its deadline has passed).
            None => Frame::Skipped,
        }
    }

    fn further_put(&self, header: &FrameHeader) -> Option<Rc<PutBody>> {
        let request = self.requests.borrow().get(&header.request_id).cloned()?;
        let put = request.put.borrow().clone()?;
        put.next_frame(header);
        Some(put)
    }

    fn start_put(self: &Rc<Self>, header: &FrameHeader, key: Key) -> Result<Rc<PutBody>, Refusal> {
        self.admit(header)?;
        let put = PutBody::new(&self.core, header)?;
        let request = self.add_request(header);
        *request.put.borrow_mut() = Some(put.clone());
        self.core.spawn(super::put::serve(self.clone(), request, header.clone(), key, put.clone()));
        Ok(put)
    }

    /// Whether a new request may begin.
    fn admit(&self, header: &FrameHeader) -> Result<(), Refusal> {
        if self.core.stopping() {
            let (status, message) = (Status::ShuttingDown, "the daemon is stopping");
            return Err(Refusal { status, message, field: "", value: 0 });
        }
        if self.requests.borrow().contains_key(&header.request_id) {
            return Err(Refusal::bad("request_id", header.request_id, "a request with this id is under way"));
        }
        Ok(())
    }

    fn add_request(&self, header: &FrameHeader) -> Rc<Request> {
        let request = Rc::new(Request {
            id: header.request_id,
            credit: Cell::new(u64::from(hedgerow_wire::limits::STREAM_CREDIT_INITIAL_BYTES)),
            credit_signal: Signal::default(),
            signal: Signal::default(),
            cancelled: Cell::new(false),
            put: RefCell::new(None),
        });
        self.requests.borrow_mut().insert(header.request_id, request.clone());
        request
    }

    /// A frame is complete and its checksums are right.
    fn end(self: &Rc<Self>, frame: Frame) -> Result<(), Ended> {
        match frame {
            Frame::None | Frame::Skipped => Ok(()),
            Frame::Put { header, put } => {
                put.frame_verified(&header);
                Ok(())
            }
            Frame::Whole { header, key, body } => self.dispatch(header, key, body),
        }
    }

    fn dispatch(self: &Rc<Self>, header: FrameHeader, key: Option<Key>, body: Vec<u8>) -> Result<(), Ended> {
        match header.op {
            Op::Credit => {
                let request = self.requests.borrow().get(&header.request_id).cloned();
                if let Some(request) = request {
                    let credit = request.credit.get().checked_add(u64::from(header.credit));
                    request.credit.set(credit.ok_or(Ended::Stream("its credit overflows"))?);
                    request.credit_signal.raise();
                }
                return Ok(());
            }
            Op::Cancel => {
                let request = self.requests.borrow().get(&header.request_id).cloned();
                if let Some(request) = request {
                    request.cancel();
                }
                return Ok(());
            }
            Op::Ping => {
                self.send(FrameHeader::answer(Op::Ping, header.request_id, Status::Ok), Body::Empty, 0);
                return Ok(());
            }
            Op::Hello => {
                self.greeted.set(true);
                super::control::hello(self, &header, &body);
                return Ok(());
            }
            _ => {}
        }
        if let Err(refusal) = self.admit(&header) {
            self.send_refusal(&header, &refusal);
            return Ok(());
        }
        let request = self.add_request(&header);
        self.core.spawn(request::serve(self.clone(), request, header, key, body));
        Ok(())
    }
}

/// The frame that is coming in.
enum Frame {
    /// None.
    None,
    /// One whose request was refused: its body is passed over.
    Skipped,
    /// A piece of a put's body.
    Put { header: FrameHeader, put: Rc<PutBody> },
    /// Any other: acted on when it is whole.
    Whole { header: FrameHeader, key: Option<Key>, body: Vec<u8> },
}

/// From so many bytes on, what is left of a body is received into its place.
const DIRECT_BYTES_MIN: usize = 16 << 10;

impl Frame {
    /// Where `remaining` bytes of a body may be received to directly.
    fn destination(&self, remaining: usize) -> Option<Rc<PutBody>> {
        match self {
            Frame::Put { put, .. } if remaining >= DIRECT_BYTES_MIN && put.wants_bytes() => Some(put.clone()),
            _ => None,
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        match self {
            Frame::None | Frame::Skipped => {}
            Frame::Put { put, .. } => put.append(bytes),
            Frame::Whole { body, .. } => body.extend_from_slice(bytes),
        }
        Ok(())
    }
}
