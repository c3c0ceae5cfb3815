//! The receiving side of a connection: from bytes to frames to requests.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::AsyncRead;
use hedgerow_wire::Key;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameError, FrameHeader, Op, Status};
use hedgerow_wire::request::{Refusal, check_request};
use hedgerow_wire::time::Timestamp;

use super::bodies::{BodyBuffer, Full, WholeBody};
use super::clock;
use super::connection::Connection;
use super::limits::{
    BODY_BYTES_CONTROL_MAX, BODY_BYTES_MAX, CONNECTION_OUT_BYTES_MAX, CONNECTION_REQUESTS_MAX,
    RECEIVES_IN_A_ROW_MAX,
};
use super::memory_gets::{self, MemoryGet};
use super::outgoing::Body;
use super::put_body::{PutBody, too_many_bytes};
use super::request;
use super::stages::{self, Stage};
use super::turns::turn;

/// Why reading a connection ended, other than by its peer closing it between frames.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
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
    /// Receives bytes of the body under way straight into a put's stripe. `None` if the put has ended: what
    /// comes is not kept.
    async fn receive_direct(&self, put: &PutBody, decoder: &mut Decoder) -> io::Result<Option<usize>> {
        poll_fn(|cx| {
            let _stage = stages::enter(Stage::Decode);
            // The stripe stays the put's while this waits: one that ends takes nothing of it along.
            put.receive(decoder.body_remaining(), |room| {
                let received = {
                    let _stage = stages::enter(Stage::Receive);
                    Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, room)
                };
                if let Poll::Ready(Ok(count)) = received {
                    decoder.body_received(&room[..count]);
                }
                received
            })
        })
        .await
    }

    /// Receives into this core's one receive buffer and hands what came to `take`.
    async fn receive_with<T>(&self, take: impl FnOnce(&[u8]) -> T) -> io::Result<(usize, T)> {
        let count = poll_fn(|cx| {
            let _stage = stages::enter(Stage::Receive);
            let mut buffer = self.core.receive_buffer.borrow_mut();
            Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, &mut buffer)
        })
        .await?;
        // Nothing has run in between: the buffer still holds what was received.
        let buffer = self.core.receive_buffer.borrow();
        Ok((count, take(&buffer[..count])))
    }

    /// Reads frames until the connection ends.
    pub async fn read(self: &Rc<Self>) -> Result<(), Ended> {
        let mut decoder = Decoder::new();
        let mut frame = Frame::None;
        let mut in_a_row = 0;
        loop {
            if self.closing.get() {
                return Err(Ended::Closed);
            }
            self.wait_for_room().await;
            let direct = frame.destination(decoder.body_remaining());
            let count = match direct {
                Some(put) => {
                    let Some(count) = self.receive_direct(&put, &mut decoder).await? else { continue };
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
            self.core.stir();
            self.note_progress(decoder.at_boundary());
            // A peer that never stops sending must not keep this core from its devices.
            in_a_row += 1;
            if in_a_row == RECEIVES_IN_A_ROW_MAX {
                in_a_row = 0;
                turn().await;
            }
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
            && (self.requests.borrow().len() > CONNECTION_REQUESTS_MAX
                || self.out_bytes.get() >= CONNECTION_OUT_BYTES_MAX)
        {
            self.room_signal.wait().await;
        }
    }

    /// Acts on the frames that `input` ends.
    fn take_steps(
        self: &Rc<Self>,
        decoder: &mut Decoder,
        frame: &mut Frame,
        input: &[u8],
    ) -> Result<(), Ended> {
        let _stage = stages::enter(Stage::Decode);
        let mut batch = Batch { received: clock::timestamp(), gets: self.core.gets.take() };
        let taken = self.take_frames(decoder, frame, input, &mut batch);
        let answered = self.answer_gets(&mut batch);
        self.core.gets.replace(batch.gets);
        taken.and(answered)
    }

    fn send_framing_error(&self, error: &FrameError) {
        let status = match error {
            FrameError::ProtocolVersion { .. } => Status::Unsupported,
            _ => Status::BadRequest,
        };
        self.send_error(Op::Hello, 0, status, &error.to_string());
    }

    fn take_frames(
        self: &Rc<Self>,
        decoder: &mut Decoder,
        frame: &mut Frame,
        mut input: &[u8],
        batch: &mut Batch,
    ) -> Result<(), Ended> {
        loop {
            let step = match decoder.step(&mut input) {
                Ok(step) => step,
                Err(error) => {
                    self.answer_gets(batch)?;
                    self.send_framing_error(&error);
                    return Err(error.into());
                }
            };
            match step {
                Step::NeedMore => return Ok(()),
                Step::Header { header, key } => {
                    if header.op != Op::Get {
                        // What came before is there for it to find, and answered before it.
                        self.answer_gets(batch)?;
                    }
                    *frame = self.begin(header, key, batch)?;
                    if matches!(frame, Frame::Skipped) {
                        decoder.skip_body();
                    }
                }
                Step::Body(bytes) => {
                    if let Err((header, full)) = frame.append(bytes) {
                        self.answer_gets(batch)?;
                        self.refuse(&header, &too_many_bytes(full));
                        *frame = Frame::Skipped;
                        decoder.skip_body();
                    }
                }
                Step::End => {
                    // The time that a frame may take is counted for each.
                    self.waiting_since.set(None);
                    self.end(std::mem::replace(frame, Frame::None), batch)?;
                }
                Step::Refused { header, error } => {
                    *frame = Frame::None;
                    self.answer_gets(batch)?;
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

    fn begin(
        self: &Rc<Self>,
        header: FrameHeader,
        key: Option<Key>,
        batch: &mut Batch,
    ) -> Result<Frame, Ended> {
        self.core.counters.frame(header.op);
        if let Err(refusal) = check_request(&header, key.as_ref()) {
            self.answer_gets(batch)?;
            self.refuse(&header, &refusal);
            return Ok(Frame::Skipped);
        }
        if !self.greeted.get() && header.op != Op::Hello {
            self.send_error(header.op, header.request_id, Status::BadRequest, "say hello first");
            return Err(Ended::NotGreeted);
        }
        match header.op {
            Op::Put => {
                if key.is_some() {
                    self.check_id(header.request_id)?;
                }
                Ok(self.begin_put(header, key))
            }
            op => {
                let bound_bytes = if op == Op::PartWrite { BODY_BYTES_MAX } else { BODY_BYTES_CONTROL_MAX };
                let body = self.core.bodies.buffer(bound_bytes);
                Ok(Frame::Whole { body, header, key, received: batch.received })
            }
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
        let received = clock::timestamp();
        let task = super::put::serve(self.clone(), request, header.clone(), key, put.clone(), received);
        self.core.spawn(stages::within(Stage::Request, task));
        Ok(put)
    }

    /// A frame is complete and its checksums are right.
    fn end(self: &Rc<Self>, frame: Frame, batch: &mut Batch) -> Result<(), Ended> {
        match frame {
            Frame::None | Frame::Skipped => Ok(()),
            Frame::Put { header, put } => {
                put.frame_verified(&header);
                Ok(())
            }
            Frame::Whole { header, key: Some(key), received, .. } if header.op == Op::Get => {
                match MemoryGet::new(&self.core, header, key, received) {
                    Ok(get) => batch.gets.push(get),
                    Err((header, key)) => {
                        if self.may_begin(&header)? {
                            self.start_get(header, key, received);
                        }
                    }
                }
                Ok(())
            }
            Frame::Whole { header, key, body, received } => {
                let len = body.filled();
                match body.into_whole(len) {
                    Ok(body) => self.dispatch(header, key, body, received),
                    Err(full) => {
                        self.refuse(&header, &too_many_bytes(full));
                        Ok(())
                    }
                }
            }
        }
    }

    fn answer_gets(self: &Rc<Self>, batch: &mut Batch) -> Result<(), Ended> {
        if batch.gets.is_empty() {
            return Ok(());
        }
        let answered = memory_gets::answer(self, &mut batch.gets);
        batch.gets.clear();
        answered
    }

    /// Starts a get that may begin.
    pub(super) fn start_get(self: &Rc<Self>, header: FrameHeader, key: Key, received: Timestamp) {
        let body = self.core.bodies.empty();
        self.start(header, Some(key), body, received);
    }

    fn dispatch(
        self: &Rc<Self>,
        header: FrameHeader,
        key: Option<Key>,
        body: WholeBody,
        received: Timestamp,
    ) -> Result<(), Ended> {
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
            Op::Touch => {
                // Not answered, so it is no request that could be under way.
                if let Err(error) = super::member::touch(&self.core, &body.bytes) {
                    let message = error.to_string();
                    self.send_error(header.op, header.request_id, Status::BadRequest, &message);
                }
                return Ok(());
            }
            Op::Hello => {
                self.greeted.set(super::control::hello(self, &header, &body.bytes));
                return Ok(());
            }
            _ => {}
        }
        if self.may_begin(&header)? {
            self.start(header, key, body, received);
        }
        Ok(())
    }

    /// Starts the task of a request that may begin.
    fn start(self: &Rc<Self>, header: FrameHeader, key: Option<Key>, body: WholeBody, received: Timestamp) {
        let request = self.add_request(&header);
        let task = request::serve(self.clone(), request, header, key, body, received);
        self.core.spawn(stages::within(Stage::Request, task));
    }
}

/// What came together.
struct Batch {
    /// When.
    received: Timestamp,
    /// Gets that are still to be answered, or started.
    gets: Vec<MemoryGet>,
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
    Whole { header: FrameHeader, key: Option<Key>, body: BodyBuffer, received: Timestamp },
}

impl Frame {
    /// Where `remaining` bytes of a body may be received to directly.
    fn destination(&self, remaining: usize) -> Option<Rc<PutBody>> {
        match self {
            Frame::Put { put, .. } if put.receives_direct(remaining) => Some(put.clone()),
            _ => None,
        }
    }

    /// Takes bytes of its body; if there is no room for them, the frame's header.
    fn append(&mut self, bytes: &[u8]) -> Result<(), (FrameHeader, Full)> {
        match self {
            Frame::None | Frame::Skipped => Ok(()),
            Frame::Put { put, .. } => {
                put.append(bytes);
                Ok(())
            }
            Frame::Whole { body, header, .. } => {
                let appended = body.append(bytes, header.body_len as usize);
                appended.map_err(|full| (header.clone(), full))
            }
        }
    }
}
