//! What a streamed put stores, and how it is cut into the bodies of frames.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::{Error, Result};

/// An object that is stored as it comes: bytes, a reader or a stream of bytes.
pub struct Body<'a> {
    source: Source<'a>,
    len: Option<u64>,
}

enum Source<'a> {
    Bytes(Bytes),
    Reader(Pin<Box<dyn AsyncRead + Send + 'a>>),
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + 'a>>),
}

impl<'a> Body<'a> {
    /// What `reader` gives until its end (or as many bytes as [`Body::with_len`] says).
    pub fn reader(reader: impl AsyncRead + Send + 'a) -> Body<'a> {
        Body { source: Source::Reader(Box::pin(reader)), len: None }
    }

    /// What `stream` gives until its end, or until an error, which lets the put fail.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'a) -> Body<'a> {
        Body { source: Source::Stream(Box::pin(stream)), len: None }
    }

    /// Says how many bytes there will be, so that the daemon can refuse early and place better. A
    /// reader is read that far and no further; a source that ends before, or a stream whose last
    /// piece goes beyond, lets the put fail with [`Error::Body`].
    #[must_use]
    pub fn with_len(mut self, len: u64) -> Body<'a> {
        self.len = Some(len);
        self
    }
}

impl From<Bytes> for Body<'_> {
    fn from(bytes: Bytes) -> Self {
        Body { len: Some(bytes.len() as u64), source: Source::Bytes(bytes) }
    }
}

/// The next body of a put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    /// Where it belongs in the object.
    pub offset: u64,
    /// The frame length exactly, unless it is the last.
    pub bytes: Bytes,
    /// Nothing comes after it.
    pub last: bool,
}

/// Cuts a [`Body`] into frames of one length.
pub(crate) struct Chunks<'a> {
    body: Body<'a>,
    /// Bytes given out.
    offset: u64,
    /// Bytes taken from the source.
    taken: u64,
    /// A piece of a stream that was longer than what was needed.
    carry: Bytes,
    /// What was given out and can be given out again.
    kept: VecDeque<Chunk>,
    /// Some was given out that is not kept.
    forgotten: bool,
    /// Given out again before anything is read.
    again: VecDeque<Chunk>,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(body: Body<'a>) -> Chunks<'a> {
        Chunks {
            body,
            offset: 0,
            taken: 0,
            carry: Bytes::new(),
            kept: VecDeque::new(),
            forgotten: false,
            again: VecDeque::new(),
        }
    }

    /// What was given out so far is sent: it will not be wanted again.
    pub(crate) fn forget(&mut self) {
        self.forgotten = true;
        self.kept.clear();
    }

    /// Begins again, if nothing was forgotten.
    pub(crate) fn rewind(&mut self) -> bool {
        while let Some(chunk) = self.kept.pop_back() {
            self.again.push_front(chunk);
        }
        !self.forgotten
    }

    /// Length of the object, if it is known.
    pub(crate) fn object_len(&self) -> Option<u64> {
        self.body.len
    }

    /// The next frame's body: `frame_len` bytes, or what is left. An empty object has one empty body,
    /// and a source of unknown length that ends with a full frame has an empty one after it. Not to
    /// be called after the last.
    ///
    /// After a rewind the pieces are those of before: daemons of one client have one stripe length.
    pub(crate) async fn next(&mut self, frame_len: usize) -> Result<Chunk> {
        let chunk = match self.again.pop_front() {
            Some(chunk) => chunk,
            None => self.read(frame_len).await?,
        };
        if !self.forgotten {
            self.kept.push_back(chunk.clone());
        }
        Ok(chunk)
    }

    async fn read(&mut self, frame_len: usize) -> Result<Chunk> {
        let bytes = self.fill(frame_len).await?;
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        let last = match self.body.len {
            Some(len) => self.offset == len,
            None => bytes.len() < frame_len,
        };
        Ok(Chunk { offset, bytes, last })
    }

    /// `frame_len` bytes, or all that are left if they are fewer.
    async fn fill(&mut self, frame_len: usize) -> Result<Bytes> {
        let want = match self.body.len {
            Some(len) => (frame_len as u64).min(len - self.taken) as usize,
            None => frame_len,
        };
        let bytes = match &mut self.body.source {
            Source::Bytes(bytes) => Ok(bytes.split_to(want.min(bytes.len()))),
            Source::Reader(reader) => fill_from_reader(reader, want).await,
            Source::Stream(stream) => fill_from_stream(stream, &mut self.carry, want).await,
        };
        let bytes = bytes.map_err(|error| Error::Body(Arc::new(error)))?;
        self.taken += bytes.len() as u64;
        if let Some(len) = self.body.len {
            self.check_len(len, bytes.len() == want)?;
        }
        Ok(bytes)
    }

    fn check_len(&self, len: u64, filled: bool) -> Result<()> {
        let problem = if !filled {
            format!("it ended after {} bytes, {len} were announced", self.taken)
        } else if self.taken == len && !self.carry.is_empty() {
            format!("it has more than the {len} bytes that were announced")
        } else {
            return Ok(());
        };
        Err(Error::Body(Arc::new(io::Error::new(io::ErrorKind::InvalidData, problem))))
    }
}

async fn fill_from_reader(
    reader: &mut Pin<Box<dyn AsyncRead + Send + '_>>,
    want: usize,
) -> io::Result<Bytes> {
    let mut out = BytesMut::with_capacity(want);
    while out.len() < want {
        let left = want - out.len();
        if reader.read_buf(&mut bytes::BufMut::limit(&mut out, left)).await? == 0 {
            break;
        }
    }
    Ok(out.freeze())
}

/// Takes whole pieces without a copy where they are long enough.
async fn fill_from_stream(
    stream: &mut Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + '_>>,
    carry: &mut Bytes,
    want: usize,
) -> io::Result<Bytes> {
    let mut out = BytesMut::new();
    loop {
        let missing = want - out.len();
        if out.is_empty() && carry.len() >= missing {
            return Ok(carry.split_to(missing));
        }
        let part = carry.split_to(missing.min(carry.len()));
        out.reserve(missing);
        out.extend_from_slice(part.chunk());
        if out.len() == want {
            return Ok(out.freeze());
        }
        match poll_fn(|context| stream.as_mut().poll_next(context)).await {
            Some(piece) => *carry = piece?,
            None => return Ok(out.freeze()),
        }
    }
}

#[cfg(test)]
mod tests;
