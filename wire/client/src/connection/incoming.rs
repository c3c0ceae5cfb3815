//! Matches the frames that come to the requests that wait for them.

use std::sync::Arc;

use bytes::BytesMut;
use hedgerow_wire::frame::{FrameError, FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::CREDIT_BYTES_MAX;
use hedgerow_wire::messages::{ErrorDetail, Message};

use super::Connection;
use super::assembly::Misfit;
use super::reader::Receiver;
use super::state::{Answer, Failure, Pending, Sink, State};
use crate::error::{Broken, Error};

/// The receiver of an established connection.
pub(crate) struct Incoming {
    pub connection: Arc<Connection>,
}

impl Receiver for Incoming {
    fn begin(&mut self, header: &FrameHeader) -> Result<Option<BytesMut>, Broken> {
        let mut state = self.connection.lock();
        if header.op == Op::Credit {
            credit(&mut state, header)?;
            return Ok(None);
        }
        if !header.has(flags::ANSWER) {
            return Err(Broken::Protocol(format!("a request ({:?}) from the daemon", header.op)));
        }
        if header.op == Op::Hello {
            return Ok(Some(BytesMut::with_capacity(header.body_len as usize)));
        }
        // An answer to a request that was cancelled, or to a sign of life, concerns nobody.
        let Some(pending) = state.get_mut(header.request_id) else { return Ok(None) };
        let body = begin_answer(pending, header).map_err(Broken::Protocol)?;
        let wanted = pending.unasked_credit(header, self.connection.hello.limits.stream_credit);
        if wanted > 0 {
            state.grant(header.request_id, wanted);
            drop(state);
            self.connection.wake.notify_one();
        }
        Ok(Some(body))
    }

    fn end(&mut self, header: FrameHeader, body: BytesMut) -> Result<(), Broken> {
        if header.op == Op::Hello {
            return Err(complaint(&header, &body));
        }
        if header.status == Status::ShuttingDown {
            self.connection.set_draining();
        }
        let mut state = self.connection.lock();
        let Some(pending) = state.get_mut(header.request_id) else { return Ok(()) };
        let ended = if is_final_refusal(&header) {
            let header = FrameHeader { status: refusal(&header), ..header.clone() };
            Some(Ok(Answer { header, body: body.freeze() }))
        } else {
            end_answer(pending, &header, body).map_err(Broken::Protocol)?
        };
        if let Some(reply) = ended {
            finish(&mut state, header.request_id, reply);
            drop(state);
            self.connection.wake.notify_one();
        }
        Ok(())
    }

    fn damaged(&mut self, header: FrameHeader, error: FrameError) -> Result<(), Broken> {
        let what = match error {
            FrameError::KeyChecksum => "the key of an answer",
            _ => "the body of an answer",
        };
        let mut state = self.connection.lock();
        if let Some(pending) = state.take(header.request_id) {
            state.abandon(header.request_id);
            pending.sink.finish(Err(Failure::Failed(Error::Corrupt { what })));
            drop(state);
            self.connection.wake.notify_one();
        }
        Ok(())
    }
}

/// What a daemon says that can make nothing of what it gets, before it closes.
fn complaint(header: &FrameHeader, body: &[u8]) -> Broken {
    match ErrorDetail::decode(body) {
        Ok(detail) => Broken::Protocol(format!("it takes this client for wrong: {}", detail.message)),
        Err(_) => Broken::Protocol(format!("a hello of status {:?} that nobody asked for", header.status)),
    }
}

/// A frame that ends its answer without the object: any status but `Ok`, or an abort.
fn is_final_refusal(header: &FrameHeader) -> bool {
    header.status != Status::Ok || header.has(flags::ABORT)
}

/// The status of such a frame. An abort that gives no reason is the daemon's failure.
fn refusal(header: &FrameHeader) -> Status {
    if header.status == Status::Ok { Status::Internal } else { header.status }
}

fn credit(state: &mut State, header: &FrameHeader) -> Result<(), Broken> {
    // Credit for a put that was answered or cancelled comes too late to matter.
    if let Some(Pending { sink: Sink::Put { credit, .. }, .. }) = state.get_mut(header.request_id) {
        if (credit.available_permits() + header.credit as usize) as u64 > CREDIT_BYTES_MAX {
            return Err(Broken::Protocol(format!("{} bytes of credit too many", header.credit)));
        }
        credit.add_permits(header.credit as usize);
    }
    Ok(())
}

/// Where the body goes that follows `header`.
fn begin_answer(pending: &mut Pending, header: &FrameHeader) -> Result<BytesMut, String> {
    if header.op != pending.op() {
        return Err(format!("an answer to {:?} for a request of {:?}", header.op, pending.op()));
    }
    let body_len = header.body_len as usize;
    if is_final_refusal(header) {
        return Ok(BytesMut::with_capacity(body_len));
    }
    pending.assembly.begin(header).map_err(misfit_text)?;
    match &mut pending.sink {
        Sink::Whole { body, .. } => {
            let mut body = std::mem::take(body);
            if body.capacity() == 0 {
                // The header is verified and the length within the limit of an object.
                let answer_len = pending.assembly.answer_len().map_or(body_len, |len| len as usize);
                body.reserve(answer_len);
            }
            Ok(body)
        }
        Sink::Stream { allowance, .. } => match allowance.checked_sub(u64::from(header.body_len)) {
            Some(left) => {
                *allowance = left;
                Ok(BytesMut::with_capacity(body_len))
            }
            None => Err(format!("a body of {body_len} bytes where {allowance} were allowed")),
        },
        Sink::Put { .. } => Ok(BytesMut::with_capacity(body_len)),
    }
}

/// Takes the frame in. What the request is to hear, if that was the last it hears.
fn end_answer(
    pending: &mut Pending,
    header: &FrameHeader,
    body: BytesMut,
) -> Result<Option<Result<Answer, Failure>>, String> {
    let whole = match pending.assembly.end(header) {
        Ok(whole) => whole,
        Err(Misfit::ObjectChecksum) => {
            return Ok(Some(Err(Failure::Failed(Error::Corrupt { what: "the whole object" }))));
        }
        Err(Misfit::Protocol(what)) => return Err(what),
    };
    match (whole, &mut pending.sink) {
        (None, Sink::Whole { body: place, .. }) => {
            *place = body;
            Ok(None)
        }
        (None, Sink::Stream { frames, .. }) => {
            // Without its receiver the request is about to be cancelled.
            drop(frames.send(Ok(Answer { header: header.clone(), body: body.freeze() })));
            Ok(None)
        }
        (None, Sink::Put { .. }) => Ok(None),
        // The consumer of a stream tells the last frame by its flag, which the first one lacks.
        (Some(mut whole), _) => {
            whole.flags |= flags::END;
            Ok(Some(Ok(Answer { header: whole, body: body.freeze() })))
        }
    }
}

fn finish(state: &mut State, id: u64, reply: Result<Answer, Failure>) {
    let Some(pending) = state.take(id) else { return };
    if let Sink::Put { credit, .. } = &pending.sink {
        credit.close();
    }
    pending.sink.finish(reply);
}

fn misfit_text(misfit: Misfit) -> String {
    match misfit {
        Misfit::Protocol(what) => what,
        Misfit::ObjectChecksum => "an object checksum before its end".to_owned(),
    }
}
