//! The one task that writes to a connection's socket: headers, keys and small bodies in one buffer,
//! large bodies as slices of their own, all of what is queued in one vectored write.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use hedgerow_wire::Key;
use hedgerow_wire::limits::FRAME_HEADER_LEN;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Connection;
use super::state::{OutFrame, Taken};
use crate::clock;
use crate::error::Broken;
use crate::limits::{BATCH_FRAMES_MAX, INLINE_BODY_LEN_MAX};

/// Writes what is queued, until the socket fails.
pub(crate) async fn run<W: AsyncWrite + Unpin>(connection: Arc<Connection>, mut socket: W) -> Broken {
    let mut work = Work { connection, taken: Vec::with_capacity(BATCH_FRAMES_MAX), batch: Batch::default() };
    loop {
        work.connection.lock().next_batch(clock::now(), &mut work.taken);
        if work.taken.is_empty() {
            work.connection.woken().await;
            continue;
        }
        for frame in &work.taken {
            work.batch.push(&frame.frame);
        }
        if let Err(error) = write_batch(&mut socket, &mut work.batch).await {
            return Broken::io(&error);
        }
        work.taken.clear();
        work.batch.clear();
    }
}

/// The frames under way. However the writer ends, what the socket took nothing of counts as not sent.
struct Work {
    connection: Arc<Connection>,
    taken: Vec<Taken>,
    batch: Batch,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.connection.lock().untake(untouched(&self.taken, self.batch.written));
    }
}

async fn write_batch<W: AsyncWrite + Unpin>(socket: &mut W, batch: &mut Batch) -> std::io::Result<()> {
    while batch.has_remaining() {
        if socket.write_buf(batch).await? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
    }
    socket.flush().await
}

/// The frames of which nothing was written.
fn untouched(taken: &[Taken], written: usize) -> &[Taken] {
    let mut start = 0;
    for (index, frame) in taken.iter().enumerate() {
        if start >= written {
            return &taken[index..];
        }
        start += wire_len(&frame.frame);
    }
    &[]
}

fn wire_len(frame: &OutFrame) -> usize {
    FRAME_HEADER_LEN + frame.key.as_ref().map_or(0, |key| key.as_bytes().len()) + frame.body.len()
}

/// Frames as slices.
#[derive(Default)]
struct Batch {
    /// Headers, keys and small bodies that are not in `slices` yet.
    scratch: BytesMut,
    slices: VecDeque<Bytes>,
    written: usize,
}

impl Batch {
    fn push(&mut self, frame: &OutFrame) {
        self.scratch.extend_from_slice(&frame.header.encode());
        self.scratch.extend_from_slice(frame.key.as_ref().map_or(&[][..], Key::as_bytes));
        if frame.body.len() <= INLINE_BODY_LEN_MAX {
            self.scratch.extend_from_slice(&frame.body);
        } else {
            self.slices.push_back(self.scratch.split().freeze());
            self.slices.push_back(frame.body.clone());
        }
    }

    fn clear(&mut self) {
        self.slices.clear();
        self.scratch.clear();
        self.written = 0;
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum::<usize>() + self.scratch.len()
    }

    fn chunk(&self) -> &[u8] {
        self.slices.front().map_or(&self.scratch, |slice| slice)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let all = self.slices.iter().map(|slice| &slice[..]).chain(std::iter::once(&self.scratch[..]));
        let mut count = 0;
        for (to, from) in out.iter_mut().zip(all.filter(|slice| !slice.is_empty())) {
            *to = IoSlice::new(from);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut len: usize) {
        self.written += len;
        while let Some(front) = self.slices.front_mut() {
            if len < front.len() {
                front.advance(len);
                return;
            }
            len -= front.len();
            self.slices.pop_front();
        }
        self.scratch.advance(len);
    }
}

#[cfg(test)]
mod tests;
