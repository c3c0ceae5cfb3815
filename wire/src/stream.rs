//! What the frames of one streamed object have to do with each other: order, length, credit.
//!
//! Owns: counts of bytes. Never: the bytes. The rules that a frame shows by itself are those of
//! [`crate::request`]; a frame that comes here has passed them.

use crate::frame::{FrameHeader, flags};
use crate::limits::CREDIT_BYTES_MAX;
use crate::request::Refusal;

/// Body bytes that the sender of a stream may still send: the initial credit, and what was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credit {
    left_bytes: u64,
}

impl Credit {
    /// The credit of a stream that begins.
    pub fn new(initial_bytes: u32) -> Credit {
        Credit { left_bytes: u64::from(initial_bytes) }
    }

    /// Bytes that may be sent now.
    pub fn left_bytes(self) -> u64 {
        self.left_bytes
    }

    /// Spends `len` bytes if there are as many; says whether there are.
    #[must_use]
    pub fn spend(&mut self, len: u64) -> bool {
        match self.left_bytes.checked_sub(len) {
            Some(left) => {
                self.left_bytes = left;
                true
            }
            None => false,
        }
    }

    /// The receiver has granted `len` bytes more. Refused if the credit grows beyond
    /// [`CREDIT_BYTES_MAX`]: no receiver means that.
    pub fn grant(&mut self, len: u32) -> Result<(), Refusal> {
        let left = self.left_bytes + u64::from(len);
        if left > CREDIT_BYTES_MAX {
            return Err(Refusal::bad(
                "credit",
                u64::from(len),
                "the credit is more than any stream may have",
            ));
        }
        self.left_bytes = left;
        Ok(())
    }
}

/// How far a put has come with the frame that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More frames follow.
    More,
    /// This is the last one: the object has so many bytes.
    End {
        /// Length of the object, in bytes.
        object_len: u64,
    },
    /// The sender has broken off: nothing is to be stored.
    Aborted,
}

/// The receiver's view of one put: whether its frames follow each other as they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PutStream {
    object_len: Option<u64>,
    received: u64,
    credit: Credit,
    ended: bool,
}

impl PutStream {
    /// The stream that a put's first frame begins. `credit_bytes`: the initial credit of the hello.
    pub fn begin(first: &FrameHeader, credit_bytes: u32) -> Result<(PutStream, Progress), Refusal> {
        let known = !first.has(flags::LEN_UNKNOWN);
        let object_len = known.then_some(first.object_len);
        let mut stream =
            PutStream { object_len, received: 0, credit: Credit::new(credit_bytes), ended: false };
        let progress = stream.frame(first)?;
        Ok((stream, progress))
    }

    /// Looks at the next frame (its header: the body may be still to come).
    pub fn frame(&mut self, header: &FrameHeader) -> Result<Progress, Refusal> {
        if self.ended {
            return Err(Refusal::bad("offset", header.offset, "this put has ended already"));
        }
        if header.has(flags::ABORT) {
            self.ended = true;
            return Ok(Progress::Aborted);
        }
        if header.offset != self.received {
            let message = "the frames of a put follow each other without gap or overlap";
            return Err(Refusal::bad("offset", header.offset, message));
        }
        let body_len = u64::from(header.body_len);
        if !self.credit.spend(body_len) {
            return Err(Refusal::bad("body_len", body_len, "this frame is beyond the stream's credit"));
        }
        let received = self.received + body_len;
        let end = header.has(flags::END);
        if self.object_len.is_some_and(|len| if end { received != len } else { received >= len }) {
            let message = "the frames of a put do not add up to its length";
            return Err(Refusal::bad("object_len", received, message));
        }
        self.received = received;
        self.ended = end;
        Ok(if end { Progress::End { object_len: received } } else { Progress::More })
    }

    /// The receiver grants `len` bytes more (and says so in a `Credit` frame).
    pub fn grant(&mut self, len: u32) -> Result<(), Refusal> {
        self.credit.grant(len)
    }

    /// Body bytes of the frames that were looked at.
    pub fn received_bytes(&self) -> u64 {
        self.received
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Op;

    const CREDIT: u32 = 100;

    /// A frame: offset, body length, flags.
    type Piece = (u64, u32, u16);

    fn header((offset, body_len, flags): Piece, object_len: u64) -> FrameHeader {
        FrameHeader { offset, body_len, flags, object_len, ..FrameHeader::request(Op::Put, 1) }
    }

    /// What the last of `frames` gives; all before it give `More`. Without a length it is unknown.
    fn check(object_len: Option<u64>, frames: &[Piece], expected: Result<Progress, &str>) {
        let mut first = header(frames[0], object_len.unwrap_or(0));
        first.flags |= if object_len.is_none() { flags::LEN_UNKNOWN } else { 0 };
        let begun = PutStream::begin(&first, CREDIT);
        let mut last = begun.map(|(_, progress)| progress);
        if let Ok((mut stream, _)) = begun {
            for &piece in &frames[1..] {
                assert_eq!(last, Ok(Progress::More), "{frames:?}");
                last = stream.frame(&header(piece, 0));
            }
        }
        assert_eq!(last.map_err(|refusal| refusal.field), expected, "{object_len:?} {frames:?}");
    }

    #[test]
    fn the_frames_of_a_put_add_up() {
        let (end, abort) = (flags::END, flags::END | flags::ABORT);
        let whole = |object_len| Ok(Progress::End { object_len });
        check(Some(0), &[(0, 0, end)], whole(0));
        check(Some(10), &[(0, 10, end)], whole(10));
        check(Some(30), &[(0, 10, 0)], Ok(Progress::More));
        check(Some(30), &[(0, 10, 0), (10, 10, 0), (20, 10, end)], whole(30));
        check(Some(30), &[(0, 10, 0), (10, 0, abort)], Ok(Progress::Aborted));
        check(None, &[(0, 10, 0), (10, 10, 0), (20, 0, end)], whole(20));
        check(None, &[(0, 10, 0), (10, 7, end)], whole(17));
        check(Some(30), &[(0, 10, 0), (11, 10, 0)], Err("offset"));
        check(Some(30), &[(0, 10, 0), (9, 10, 0)], Err("offset"));
        check(Some(30), &[(0, 10, 0), (10, 10, end)], Err("object_len"));
        check(Some(30), &[(0, 10, 0), (10, 20, 0)], Err("object_len"));
        check(Some(30), &[(0, 10, 0), (10, 21, end)], Err("object_len"));
        check(None, &[(0, 60, 0), (60, 40, 0)], Ok(Progress::More));
        check(None, &[(0, 60, 0), (60, 41, 0)], Err("body_len"));
    }

    #[test]
    fn nothing_follows_the_end() {
        let (mut stream, _) = PutStream::begin(&header((0, 5, flags::END), 5), CREDIT).unwrap();
        assert_eq!(stream.frame(&header((5, 5, flags::END), 10)).unwrap_err().field, "offset");
        assert_eq!(stream.received_bytes(), 5);
    }

    #[test]
    fn credit_is_spent_and_granted() {
        let mut credit = Credit::new(CREDIT);
        assert!(credit.spend(100));
        assert!(!credit.spend(1));
        credit.grant(7).unwrap();
        assert_eq!(credit.left_bytes(), 7);
        let mut grants = (0..).map(|_| credit.grant(u32::MAX));
        let refused = grants.position(|grant| grant.is_err());
        assert_eq!(refused, Some((CREDIT_BYTES_MAX / u64::from(u32::MAX)) as usize));
    }
}
