//! The sending side of a connection: a queue of frames, handed to the socket from where their bytes lie.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::AsyncWrite;
use futures_lite::future::or;
use hedgerow_wire::limits::FRAME_HEADER_LEN;
use hedgerow_wire::time::Timestamp;
use smallvec::SmallVec;

use super::buffers::PartBytes;
use super::clock;
use super::connection::Connection;
use super::home::{Piece, Pieces};
use super::limits::{
    CONNECTION_OUT_BYTES_MAX, CORE_OUT_BYTES_HARD_MAX, CORE_OUT_BYTES_MAX, IOV_MAX, SEND_BYTES_MAX,
};
use super::stages::{self, Stage};
use super::turns::turn;

/// The body of an answer.
pub enum Body {
    /// None.
    Empty,
    /// Bytes of its own.
    Bytes(Vec<u8>),
    /// One piece, from where it lies.
    Piece(Piece<PartBytes>),
    /// Pieces of parts or stripes: sent from where they lie.
    Pieces(Pieces<PartBytes>),
}

impl Body {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len(),
            Body::Piece(piece) => piece.range.len(),
            Body::Pieces(pieces) => pieces.iter().map(|piece| piece.range.len()).sum(),
        }
    }
}

/// A frame on its way out.
pub struct OutFrame {
    /// The encoded header.
    pub head: [u8; FRAME_HEADER_LEN],
    /// What follows it.
    pub body: Body,
    /// Bytes to be sent: both, or less of the last one.
    pub len: usize,
    /// It does not leave before; 0 is at once.
    pub not_before: Timestamp,
    /// The connection is closed after it.
    pub last: bool,
}

impl OutFrame {
    /// A frame that leaves at once, as a whole.
    pub fn new(head: [u8; FRAME_HEADER_LEN], body: Body) -> OutFrame {
        let len = FRAME_HEADER_LEN + body.len();
        OutFrame { head, body, len, not_before: Timestamp::default(), last: false }
    }

    /// The slices of the frame that are left after `skip` bytes.
    pub fn slices<'a>(&'a self, mut skip: usize, out: &mut SmallVec<[IoSlice<'a>; IOV_MAX]>) {
        let mut left = self.len - skip;
        let mut add = |slice: &'a [u8]| {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            let end = slice.len().min(skipped + left);
            if skipped < end {
                left -= end - skipped;
                out.push(IoSlice::new(&slice[skipped..end]));
            }
        };
        add(&self.head);
        match &self.body {
            Body::Empty => {}
            Body::Bytes(bytes) => add(bytes),
            Body::Piece(piece) => add(piece.as_slice()),
            Body::Pieces(pieces) => pieces.iter().for_each(|piece| add(piece.as_slice())),
        }
    }
}

impl Connection {
    /// Sets how many bytes wait here, and keeps this core's sum.
    pub(super) fn set_out_bytes(&self, bytes: usize) {
        let sum = &self.core.connections.out_bytes;
        let before = self.out_bytes.replace(bytes);
        sum.set(sum.get() + bytes - before);
        if before == 0 || bytes == 0 {
            self.waits_since.set((bytes > 0).then(clock::timestamp));
        }
        if bytes > before && sum.get() > CORE_OUT_BYTES_HARD_MAX {
            self.core.connections.shed();
        }
    }

    /// Whether the peer has taken enough for more to be fetched for it: all, while others of the core take too little.
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.out_bytes.get();
        self.closing.get() || waiting == 0 || (waiting < CONNECTION_OUT_BYTES_MAX && self.core_has_room())
    }

    /// Whether the peers of the core's connections have taken enough for more to be fetched than must be.
    pub(super) fn core_has_room(&self) -> bool {
        self.core.connections.out_bytes.get() < CORE_OUT_BYTES_MAX
    }

    /// Waits until the peer has taken enough for more to be fetched for it; `false` if the deadline comes
    /// first.
    pub async fn room_to_send(&self, deadline: Timestamp) -> bool {
        if self.has_room() {
            return true;
        }
        let room = async {
            self.taken.wait_until(|| self.has_room()).await;
            true
        };
        or(room, async {
            glommio::timer::sleep(deadline.since(clock::timestamp())).await;
            false
        })
        .await
    }

    /// Sends what is in the queue until the connection ends.
    pub async fn write(self: Rc<Self>) {
        let mut sent = 0;
        while !self.closing.get() {
            if self.out.borrow().is_empty() {
                if self.ending.get() {
                    break;
                }
                self.out_signal.wait().await;
                continue;
            }
            if let Some(left) = self.held_back() {
                or(glommio::timer::sleep(left), self.out_signal.wait()).await;
                continue;
            }
            match self.send_some(&mut sent).await {
                Ok(()) => {
                    self.room_signal.raise();
                    // A peer that takes everything at once must not keep this core from its devices.
                    if !self.out.borrow().is_empty() {
                        turn().await;
                    }
                }
                Err(error) => {
                    tracing::debug!(peer = ?self.peer, %error, "could not send");
                    self.close();
                }
            }
        }
        self.closing.set(true);
        self.out.borrow_mut().clear();
        self.set_out_bytes(0);
        self.taken.ring();
        self.sent_all.raise();
    }

    /// How long the first frame is held back still.
    fn held_back(&self) -> Option<Duration> {
        let until = self.out.borrow().front()?.not_before;
        let left = (until > Timestamp::default()).then(|| until.since(clock::timestamp()))?;
        (!left.is_zero()).then_some(left)
    }

    /// Hands to the socket what it takes of the first frames, of whose first `sent` bytes are gone.
    async fn send_some(&self, sent: &mut usize) -> io::Result<()> {
        let now = {
            let _stage = stages::enter(Stage::Send);
            let out = self.out.borrow();
            let mut slices = SmallVec::<[IoSlice<'_>; IOV_MAX]>::new();
            let mut bytes = 0;
            for (place, frame) in out.iter().enumerate() {
                let enough = slices.len() + 8 > IOV_MAX || bytes > SEND_BYTES_MAX;
                if place > 0 && (enough || frame.not_before > Timestamp::default()) {
                    break;
                }
                frame.slices(if place == 0 { *sent } else { 0 }, &mut slices);
                bytes += frame.len;
                if frame.last {
                    break;
                }
            }
            slices.truncate(IOV_MAX);
            let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::sendmsg(self.socket(), &slices, &mut Default::default(), flags) {
                Ok(count) => Some(count),
                Err(rustix::io::Errno::AGAIN) => None,
                Err(error) => return Err(error.into()),
            }
        };
        let count = match now {
            Some(count) => count,
            None => {
                self.blocked_since.set(Some(clock::timestamp()));
                let count = self.send_when_ready(*sent).await?;
                self.core.stir();
                count
            }
        };
        self.blocked_since.set(None);
        self.gone(count, sent);
        self.taken.ring();
        Ok(())
    }

    /// Waits until the socket takes something of the first frame.
    async fn send_when_ready(&self, sent: usize) -> io::Result<usize> {
        poll_fn(|cx| {
            let out = self.out.borrow();
            let mut slices = SmallVec::<[IoSlice<'_>; IOV_MAX]>::new();
            out[0].slices(sent, &mut slices);
            let mut stream = self.stream.borrow_mut();
            // A last frame may have no bytes.
            let Some(first) = slices.first() else { return Poll::Ready(Ok(0)) };
            Pin::new(&mut *stream).poll_write(cx, first)
        })
        .await
    }

    fn gone(&self, count: usize, sent: &mut usize) {
        *sent += count;
        let mut out = self.out.borrow_mut();
        while let Some(first) = out.front() {
            if *sent < first.len {
                break;
            }
            *sent -= first.len;
            self.set_out_bytes(self.out_bytes.get() - first.len);
            let gone = out.pop_front();
            if gone.is_some_and(|frame| frame.last) {
                return self.close();
            }
        }
    }
}
