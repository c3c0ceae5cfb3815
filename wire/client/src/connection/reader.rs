//! Takes frames from a connection's socket: small ones through one buffer, the bodies of large ones
//! straight into the memory where they stay.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, BytesMut};
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameError, FrameHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::Broken;
use crate::limits::{DIRECT_BODY_LEN_MIN, READ_BUFFER_LEN};

/// Who the frames are for.
pub(crate) trait Receiver {
    /// A frame begins. Its body is appended to what is returned; without that it is passed over.
    fn begin(&mut self, header: &FrameHeader) -> Result<Option<BytesMut>, Broken>;

    /// The frame is complete and verified. `body` is what `begin` returned, with the body appended.
    fn end(&mut self, header: FrameHeader, body: BytesMut) -> Result<(), Broken>;

    /// The frame's key or body is damaged.
    fn damaged(&mut self, header: FrameHeader, error: FrameError) -> Result<(), Broken>;
}

/// See the module.
pub(crate) struct FrameReader<R> {
    socket: R,
    decoder: Decoder,
    buffer: Box<[u8]>,
    /// What of `buffer` is received and not decoded.
    start: usize,
    end: usize,
    /// The frame whose body is being received.
    current: Option<(FrameHeader, BytesMut)>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(socket: R) -> FrameReader<R> {
        let buffer = vec![0; READ_BUFFER_LEN].into_boxed_slice();
        FrameReader { socket, decoder: Decoder::new(), buffer, start: 0, end: 0, current: None }
    }

    /// Hands frames on until the socket or the receiver fails. `heard` is set with all that comes.
    pub(crate) async fn run(&mut self, receiver: &mut impl Receiver, heard: &AtomicBool) -> Broken {
        loop {
            let done = match self.decode(receiver, usize::MAX) {
                Ok(_) => self.receive().await,
                Err(broken) => Err(broken),
            };
            match done {
                Ok(()) => heard.store(true, Ordering::Relaxed),
                Err(broken) => return broken,
            }
        }
    }

    /// Hands on exactly one frame (the answer to a hello).
    pub(crate) async fn one(&mut self, receiver: &mut impl Receiver) -> Result<(), Broken> {
        while self.decode(receiver, 1)? == 0 {
            self.receive().await?;
        }
        Ok(())
    }

    /// Decodes what is in the buffer, at most `frames_max` frames. How many were completed.
    fn decode(&mut self, receiver: &mut impl Receiver, frames_max: usize) -> Result<usize, Broken> {
        let mut frames = 0;
        let mut input = &self.buffer[self.start..self.end];
        while frames < frames_max {
            let step = self.decoder.step(&mut input).map_err(Broken::frame)?;
            match step {
                Step::NeedMore => break,
                Step::Header { header, .. } => match receiver.begin(&header)? {
                    Some(body) => self.current = Some((header, body)),
                    None => self.decoder.skip_body(),
                },
                Step::Body(bytes) => {
                    if let Some((_, body)) = &mut self.current {
                        body.extend_from_slice(bytes);
                    }
                }
                Step::End => {
                    frames += 1;
                    if let Some((header, body)) = self.current.take() {
                        receiver.end(header, body)?;
                    }
                }
                Step::Refused { header, error } => {
                    frames += 1;
                    self.current = None;
                    receiver.damaged(header, error)?;
                }
            }
        }
        self.start = self.end - input.len();
        Ok(frames)
    }

    /// Receives something: into the body under way if much of it is missing, else into the buffer,
    /// of which all is decoded.
    async fn receive(&mut self) -> Result<(), Broken> {
        let missing = self.decoder.body_remaining();
        let received = match &mut self.current {
            Some((_, body)) if missing >= DIRECT_BODY_LEN_MIN => {
                let before = body.len();
                let received = self.socket.read_buf(&mut body.limit(missing)).await;
                self.decoder.body_received(&body[before..]);
                received
            }
            _ => {
                let received = self.socket.read(&mut self.buffer).await;
                (self.start, self.end) = (0, *received.as_ref().unwrap_or(&0));
                received
            }
        };
        match received {
            Ok(0) => Err(Broken::io(&io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the daemon"))),
            Ok(_) => Ok(()),
            Err(error) => Err(Broken::io(&error)),
        }
    }
}

#[cfg(test)]
mod tests;
