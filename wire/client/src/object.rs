//! What reads give.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use hedgerow_wire::frame::{FrameHeader, flags};
use hedgerow_wire::{ObjectChecksum, Version};
use tokio::time::{Instant, Sleep};

use crate::call::Rest;
use crate::clock::ttl_of_ms;
use crate::connection::state::{Answer, Failure};
use crate::error::{Error, Result};
use crate::pool::Permit;

/// What is known of an object that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectMeta {
    /// Its version.
    pub version: Version,
    /// Length of the whole object, in bytes.
    pub object_len: u64,
    /// Where in the object the answer begins, in bytes.
    pub offset: u64,
    /// Length of the answer, in bytes: `object_len`, unless a range was asked for.
    pub len: u64,
    /// The checksum that its writer gave. A CRC-32C of a whole read has been compared with the bytes.
    pub checksum: ObjectChecksum,
    /// Too few targets could be asked whether there is a newer version.
    pub unconfirmed: bool,
    /// It came from the daemon's memory.
    pub from_memory: bool,
    /// What is left of its time to live; `None` is for ever.
    pub ttl: Option<Duration>,
}

impl ObjectMeta {
    pub(crate) fn new(header: &FrameHeader) -> ObjectMeta {
        ObjectMeta {
            version: header.version,
            object_len: header.object_len,
            offset: header.offset,
            len: header.length,
            checksum: header.object_checksum,
            unconfirmed: header.has(flags::UNCONFIRMED),
            from_memory: header.has(flags::FROM_MEMORY),
            ttl: ttl_of_ms(header.ttl_ms),
        }
    }
}

/// An object, or a range of one, in one piece. Every byte is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    /// The bytes that were asked for.
    pub bytes: Bytes,
    /// What is known of the object. Its fields are those of the `Object` too, by `Deref`.
    pub meta: ObjectMeta,
}

impl Object {
    pub(crate) fn new(answer: Answer) -> Object {
        Object { meta: ObjectMeta::new(&answer.header), bytes: answer.body }
    }
}

impl std::ops::Deref for Object {
    type Target = ObjectMeta;
    fn deref(&self) -> &ObjectMeta {
        &self.meta
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("len", &self.bytes.len()).field("meta", &self.meta).finish()
    }
}

/// An object, or a range of one, as it comes. Each piece is verified; a whole read is also compared
/// with the object's checksum, and if that is wrong its last piece is [`Error::Corrupt`].
///
/// The daemon sends no more than a few MiB ahead of what is taken, so a slow consumer holds up
/// nothing but itself. Dropping it cancels the rest.
pub struct ObjectStream {
    meta: ObjectMeta,
    /// The piece that came with the first answer.
    first: Option<Answer>,
    /// Nothing once the last piece or an error was given.
    rest: Option<Rest>,
    deadline: Pin<Box<Sleep>>,
    allowed: Duration,
    /// Bytes taken for which no credit was given back yet.
    taken: u64,
    _permit: Permit,
}

impl fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStream")
            .field("meta", &self.meta)
            .field("ended", &self.rest.is_none())
            .finish_non_exhaustive()
    }
}

impl ObjectStream {
    pub(crate) fn new(
        first: Answer,
        rest: Rest,
        deadline: Instant,
        allowed: Duration,
        permit: Permit,
    ) -> ObjectStream {
        ObjectStream {
            meta: ObjectMeta::new(&first.header),
            first: Some(first),
            rest: Some(rest),
            deadline: Box::pin(tokio::time::sleep_until(deadline)),
            allowed,
            taken: 0,
            _permit: permit,
        }
    }

    /// What is known of the object.
    pub fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// The next piece, at most one stripe (1 MiB) long; `None` after the last one, or after an error.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        poll_fn(|context| self.poll_piece(context)).await
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            let reply = match self.first.take() {
                Some(first) => Some(Ok(first)),
                None => match rest.frames.poll_recv(context) {
                    Poll::Ready(reply) => reply,
                    Poll::Pending => {
                        std::task::ready!(self.deadline.as_mut().poll(context));
                        return self.fail(Error::DeadlineExceeded { deadline: self.allowed });
                    }
                },
            };
            let answer = match reply {
                Some(Ok(answer)) => answer,
                Some(Err(failure)) => return self.failed(failure),
                None => return self.fail(Error::Internal { message: "the stream lost its end".to_owned() }),
            };
            if let Some(error) = refusal(&answer, self.allowed) {
                return self.fail(error);
            }
            if answer.header.has(flags::END) {
                self.rest = None;
            } else {
                self.give_back(answer.body.len() as u64);
            }
            if !answer.body.is_empty() {
                return Poll::Ready(Some(Ok(answer.body)));
            }
        }
    }

    fn give_back(&mut self, len: u64) {
        self.taken += len;
        if let Some(rest) = &self.rest
            && self.taken >= rest.ticket.connection.grant_bytes()
        {
            rest.ticket.grant(self.taken as u32);
            self.taken = 0;
        }
    }

    fn failed(&mut self, failure: Failure) -> Poll<Option<Result<Bytes>>> {
        let error = match (failure, &self.rest) {
            (Failure::Failed(error), _) => error,
            (Failure::Lost(lost), Some(rest)) => lost.broken.into_error(&rest.ticket.connection.addr),
            (Failure::Lost(lost), None) => lost.broken.into_error("the daemon"),
        };
        self.fail(error)
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes>>> {
        self.rest = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for ObjectStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.get_mut().poll_piece(context)
    }
}

/// The error of a frame that ends a stream without its object.
fn refusal(answer: &Answer, allowed: Duration) -> Option<Error> {
    let refused = answer.header.status != hedgerow_wire::frame::Status::Ok;
    let limit_bytes = hedgerow_wire::limits::OBJECT_LEN_MAX;
    refused.then(|| crate::error::of_status(&answer.header, &answer.body, allowed, limit_bytes))
}
