//! Puts the frames of one answer together in the mind: checks that they follow each other, belong to
//! one version and give the object's checksum. Holds no bytes.

use hedgerow_wire::ChecksumKind;
use hedgerow_wire::checksum::crc32c_combine;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::OBJECT_LEN_MAX;

/// Why the frames of an answer are none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Misfit {
    /// The other side does not keep to the protocol.
    Protocol(String),
    /// All frames are right, but together they are not what the writer stored.
    ObjectChecksum,
}

fn misfit<T>(what: String) -> Result<T, Misfit> {
    Err(Misfit::Protocol(what))
}

/// The answer to one request as far as it has come.
#[derive(Debug)]
pub(crate) struct Assembly {
    op: Op,
    /// Where the answer must begin (gets).
    offset: u64,
    /// Bytes asked for at most; [`FrameHeader::TO_END`] is all there are.
    range_len: u64,
    /// The header of the first frame.
    first: Option<FrameHeader>,
    received: u64,
    crc: u32,
}

impl Assembly {
    /// For the answer to `request`.
    pub(crate) fn new(request: &FrameHeader) -> Assembly {
        Assembly {
            op: request.op,
            offset: request.offset,
            range_len: request.length,
            first: None,
            received: 0,
            crc: 0,
        }
    }

    /// What was asked.
    pub(crate) fn op(&self) -> Op {
        self.op
    }

    /// Whether nothing has come before the frame of `header`, which begins.
    pub(crate) fn is_first(&self, header: &FrameHeader) -> bool {
        self.op == Op::Get && self.received == 0 && header.status == Status::Ok && !header.has(flags::END)
    }

    /// Length of the whole answer, once its first frame has come.
    pub(crate) fn answer_len(&self) -> Option<u64> {
        self.first.as_ref().map(|first| first.length)
    }

    /// A frame of status `Ok` begins. Bodies of other answers than gets are one frame.
    pub(crate) fn begin(&mut self, header: &FrameHeader) -> Result<(), Misfit> {
        if self.op != Op::Get {
            return if header.has(flags::END) {
                Ok(())
            } else {
                misfit(format!("an answer to {:?} in more than one frame", self.op))
            };
        }
        let first = self.first.get_or_insert_with(|| header.clone());
        if first.length > OBJECT_LEN_MAX || first.object_len > OBJECT_LEN_MAX {
            return misfit(format!("an object of {} bytes", first.length.max(first.object_len)));
        }
        if first.length > self.range_len {
            return misfit(format!("{} bytes where {} were asked for", first.length, self.range_len));
        }
        let same = (header.version, header.length, header.object_len);
        if same != (first.version, first.length, first.object_len) {
            return misfit("frames of one answer that tell of different objects".to_owned());
        }
        if header.offset != self.offset + self.received {
            let expected = self.offset + self.received;
            return misfit(format!("a frame at offset {}, expected at {expected}", header.offset));
        }
        if self.received + u64::from(header.body_len) > header.length {
            return misfit(format!("more than the {} bytes that were announced", header.length));
        }
        Ok(())
    }

    /// The frame that `begin` saw is complete and its body verified. The header of the whole answer,
    /// if that was its last frame: the first frame's, with the object checksum of either.
    pub(crate) fn end(&mut self, header: &FrameHeader) -> Result<Option<FrameHeader>, Misfit> {
        if self.op != Op::Get {
            return Ok(Some(header.clone()));
        }
        let body_len = u64::from(header.body_len);
        self.crc = crc32c_combine(self.crc, header.body_checksum, body_len);
        self.received += body_len;
        if !header.has(flags::END) {
            return Ok(None);
        }
        if self.received != header.length {
            return misfit(format!("the end after {} of {} bytes", self.received, header.length));
        }
        let mut whole = self.first.clone().unwrap_or_else(|| header.clone());
        whole.flags |= header.flags & flags::UNCONFIRMED;
        if header.object_checksum.kind != ChecksumKind::None {
            whole.object_checksum = header.object_checksum;
        }
        let is_whole = self.offset == 0 && header.length == header.object_len;
        let checksum = whole.object_checksum;
        if is_whole && checksum.kind == ChecksumKind::Crc32c && checksum.bits != u128::from(self.crc) {
            return Err(Misfit::ObjectChecksum);
        }
        Ok(Some(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_wire::checksum::crc32c;
    use hedgerow_wire::{ObjectChecksum, Version};

    const WHOLE: &[u8] = b"0123456789";

    /// The frames of an answer that is cut after `cut` bytes.
    fn frames(cut: usize) -> [FrameHeader; 2] {
        let frame = |offset: usize, body: &[u8], extra: u16| FrameHeader {
            flags: flags::ANSWER | extra,
            offset: offset as u64,
            length: WHOLE.len() as u64,
            object_len: WHOLE.len() as u64,
            version: Version { hlc: 5, coordinator: 1 },
            object_checksum: ObjectChecksum::crc32c(crc32c(WHOLE)),
            ..FrameHeader::answer(Op::Get, 1, Status::Ok).sealed(None, &[body])
        };
        [frame(0, &WHOLE[..cut], 0), frame(cut, &WHOLE[cut..], flags::END)]
    }

    fn run(frames: &[FrameHeader]) -> Result<Option<FrameHeader>, Misfit> {
        let request = FrameHeader { length: FrameHeader::TO_END, ..FrameHeader::request(Op::Get, 1) };
        let mut assembly = Assembly::new(&request);
        let mut whole = None;
        for header in frames {
            assembly.begin(header)?;
            whole = assembly.end(header)?;
        }
        Ok(whole)
    }

    #[test]
    fn frames_that_fit_are_one_answer() {
        for cut in 0..=WHOLE.len() {
            let whole = run(&frames(cut)).unwrap().unwrap();
            assert_eq!((whole.length, whole.offset), (WHOLE.len() as u64, 0), "cut {cut}");
        }
        assert_eq!(run(&frames(3)[..1]).unwrap(), None);
    }

    #[test]
    fn every_misfit_is_told() {
        type Change = fn(&mut [FrameHeader; 2]);
        let cases: &[(&str, Change)] = &[
            ("different objects", |f| f[1].version.hlc += 1),
            ("different objects", |f| f[1].object_len += 1),
            ("offset", |f| f[1].offset += 1),
            ("offset", |f| f[0].offset = 1),
            ("announced", |f| f[0].body_len = 11),
            ("the end after", |f| f[0].flags |= flags::END),
            ("an object of", |f| f[0].length = OBJECT_LEN_MAX + 1),
        ];
        for (expected, change) in cases {
            let mut frames = frames(4);
            change(&mut frames);
            match run(&frames) {
                Err(Misfit::Protocol(what)) => assert!(what.contains(expected), "{what} / {expected}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
        let mut wrong = frames(4);
        wrong[1].object_checksum.bits ^= 1;
        assert_eq!(run(&wrong), Err(Misfit::ObjectChecksum));
    }

    #[test]
    fn a_range_is_not_held_against_the_checksum_of_the_object() {
        let request = FrameHeader { offset: 2, length: 3, ..FrameHeader::request(Op::Get, 1) };
        let mut assembly = Assembly::new(&request);
        let mut header = FrameHeader { offset: 2, length: 3, ..frames(4)[1].clone() };
        header = header.sealed(None, &[&WHOLE[2..5]]);
        assembly.begin(&header).unwrap();
        assert!(assembly.end(&header).unwrap().is_some());
    }
}
