//! Cuts a stream of bytes into frames, for both sides of a connection.
//!
//! Owns: the head of the frame under way (header, key, running checksum of the body). Never: the
//! bytes of a body (they are handed through, or received elsewhere by the caller), a socket.
//!
//! **Cursor invariant.** `step` takes from the front of `input` exactly the bytes that it will never
//! need again: the first byte left in `input` is the first byte of the stream that the decoder has
//! not seen. So `input` may be dropped, moved or refilled between calls, and what is decoded does
//! not depend on how the stream was cut into inputs.

use smallvec::SmallVec;

use crate::checksum::{crc32c, crc32c_append};
use crate::frame::{FRAME_MAGIC, FrameError, FrameHeader, Op, PROTOCOL_VERSION, layout};
use crate::limits::FRAME_HEADER_LEN;
use crate::types::Key;

/// What [`Decoder::step`] found. A frame gives `Header`, any number of `Body`, then `End`; or
/// `Refused` in place of `Header` or `End`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// All of the input is taken; more is needed.
    NeedMore,
    /// A header and its key, both verified. Its body (which may be empty) comes next.
    Header {
        /// The header.
        header: FrameHeader,
        /// The key, if `key_len` is not zero.
        key: Option<Key>,
    },
    /// Bytes of the body, as they lie in the input. Not verified before `End`.
    Body(&'a [u8]),
    /// The body is complete and its checksum is right.
    End,
    /// A checksum of this frame is wrong, though its header is right: nothing of it may be believed,
    /// but the next frame is found all the same. With [`FrameError::KeyChecksum`] it stands in place
    /// of `Header`, and the body is passed over; with [`FrameError::BodyChecksum`] in place of `End`.
    Refused {
        /// The frame's header.
        header: FrameHeader,
        /// Which checksum is wrong.
        error: FrameError,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// `head[..filled]` is the header so far.
    Header,
    /// The header is decoded; `key` is the key so far.
    Key,
    /// `body_left` bytes of the body are still to come; `body_crc` is that of those that came.
    Body,
    /// `body_left` bytes are to be passed over.
    Skip,
    /// The framing is lost.
    Failed(FrameError),
}

/// The decoder of one direction of one connection. Holds less than 1.5 KiB, whatever comes in.
#[derive(Debug)]
pub struct Decoder {
    stage: Stage,
    head: [u8; FRAME_HEADER_LEN],
    filled: usize,
    header: FrameHeader,
    key: SmallVec<[u8; 48]>,
    body_left: usize,
    body_crc: u32,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder that stands before the first frame.
    pub fn new() -> Decoder {
        Decoder {
            stage: Stage::Header,
            head: [0; FRAME_HEADER_LEN],
            filled: 0,
            header: FrameHeader::request(Op::Ping, 0),
            key: SmallVec::new(),
            body_left: 0,
            body_crc: 0,
        }
    }

    /// Takes bytes from the front of `input` and says what they are. To be called until it says
    /// [`Step::NeedMore`] (also with an empty input: a body that is complete still has its `End`).
    ///
    /// # Errors
    /// The framing is lost; every further call says the same. The connection is to be closed.
    pub fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, FrameError> {
        loop {
            match self.stage {
                Stage::Header => {
                    if !self.take_header(input)? {
                        return Ok(Step::NeedMore);
                    }
                }
                Stage::Key => {
                    return Ok(self.take_key(input).unwrap_or(Step::NeedMore));
                }
                Stage::Body if self.body_left == 0 => return Ok(self.end_of_body()),
                Stage::Body => {
                    let bytes = take(input, self.body_left);
                    if bytes.is_empty() {
                        return Ok(Step::NeedMore);
                    }
                    self.body_received(bytes);
                    return Ok(Step::Body(bytes));
                }
                Stage::Skip => {
                    self.body_left -= take(input, self.body_left).len();
                    if self.body_left > 0 {
                        return Ok(Step::NeedMore);
                    }
                    self.next_frame();
                }
                Stage::Failed(error) => return Err(error),
            }
        }
    }

    /// Bytes of the present body that are still to come and that the caller may receive into a place
    /// of its own, telling [`Decoder::body_received`]. 0 between frames, within a header or key, and
    /// while a body is passed over.
    pub fn body_remaining(&self) -> usize {
        if self.stage == Stage::Body { self.body_left } else { 0 }
    }

    /// `bytes` are the next ones of the body; they did not pass through [`Decoder::step`].
    ///
    /// # Panics
    /// If they are more than [`Decoder::body_remaining`].
    pub fn body_received(&mut self, bytes: &[u8]) {
        assert!(
            bytes.len() <= self.body_remaining(),
            "{} bytes received into a body of which {} are to come",
            bytes.len(),
            self.body_remaining()
        );
        self.body_crc = crc32c_append(self.body_crc, bytes);
        self.body_left -= bytes.len();
    }

    /// The rest of the present body is not wanted: it is passed over unread, and this frame gives
    /// neither `Body` nor `End` any more. Nothing happens outside of a body.
    pub fn skip_body(&mut self) {
        if self.stage == Stage::Body {
            self.stage = Stage::Skip;
        }
    }

    /// Whether the stream may end here: no frame has been begun and not ended.
    pub fn at_boundary(&self) -> bool {
        match self.stage {
            Stage::Header => self.filled == 0,
            Stage::Skip => self.body_left == 0,
            Stage::Key | Stage::Body | Stage::Failed(_) => false,
        }
    }

    /// Whether a whole header has come.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<bool, FrameError> {
        let bytes = take(input, FRAME_HEADER_LEN - self.filled);
        self.head[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
        let decoded = if self.filled == FRAME_HEADER_LEN {
            FrameHeader::decode(&self.head).map(Some)
        } else {
            self.check_prefix().map(|()| None)
        };
        match decoded {
            Ok(Some(header)) => {
                self.header = header;
                self.stage = Stage::Key;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                self.stage = Stage::Failed(error);
                Err(error)
            }
        }
    }

    /// Tells a peer of another protocol (or version) apart though it may never send 160 bytes.
    fn check_prefix(&self) -> Result<(), FrameError> {
        if self.filled >= FRAME_MAGIC.len() && self.head[..FRAME_MAGIC.len()] != FRAME_MAGIC {
            return Err(FrameError::Magic { found: std::array::from_fn(|i| self.head[i]) });
        }
        if self.filled > layout::VERSION && self.head[layout::VERSION] != PROTOCOL_VERSION {
            return Err(FrameError::ProtocolVersion { found: self.head[layout::VERSION] });
        }
        Ok(())
    }

    fn take_key<'a>(&mut self, input: &mut &[u8]) -> Option<Step<'a>> {
        let len = usize::from(self.header.key_len);
        if self.key.is_empty() && input.len() >= len {
            return Some(self.end_of_key(take(input, len)));
        }
        self.key.extend_from_slice(take(input, len - self.key.len()));
        if self.key.len() < len {
            return None;
        }
        let key = std::mem::take(&mut self.key);
        Some(self.end_of_key(&key))
    }

    fn end_of_key<'a>(&mut self, bytes: &[u8]) -> Step<'a> {
        self.body_left = self.header.body_len as usize;
        self.body_crc = 0;
        let header = self.header.clone();
        if crc32c(bytes) != header.key_checksum {
            self.stage = Stage::Skip;
            return Step::Refused { header, error: FrameError::KeyChecksum };
        }
        self.stage = Stage::Body;
        // The header's decoder has bounded `key_len`, so the only bytes that are no key are none.
        Step::Header { header, key: Key::new(bytes).ok() }
    }

    fn end_of_body<'a>(&mut self) -> Step<'a> {
        let right = self.body_crc == self.header.body_checksum;
        let header = &self.header;
        let step = if right {
            Step::End
        } else {
            Step::Refused { header: header.clone(), error: FrameError::BodyChecksum }
        };
        self.next_frame();
        step
    }

    fn next_frame(&mut self) {
        self.stage = Stage::Header;
        self.filled = 0;
    }
}

/// Takes at most `len` bytes from the front of `input`.
fn take<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests;
