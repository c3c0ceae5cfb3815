//! A device in memory, for tests of the store and for the simulation: its operations complete when the caller
//! says so, and as the caller says; it fails, tears, lies, rots and is cut off.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use rand::Rng;
use rand::rngs::SmallRng;

use super::layout::{BLOCK_LEN, SLABS_START, SlabHeader, SlabTrailer};
use super::{Buffers, Effect, IoError, IoId, IoResult};

/// The operating system's code of an input/output error.
pub(crate) const EIO: i32 = 5;
const SECTOR_LEN: usize = 512;

/// Buffers on the heap; fresh ones hold garbage, often that of an earlier one.
#[derive(Clone, Default)]
pub(crate) struct HeapBuffers {
    spare: Vec<Vec<u8>>,
}

/// Buffers that are kept to be used again.
const SPARE_MAX: usize = 4;

impl Buffers for HeapBuffers {
    type Write = Vec<u8>;
    type Read = Rc<[u8]>;
    fn alloc(&mut self, len: usize) -> Vec<u8> {
        assert!(len > 0 && len.is_multiple_of(BLOCK_LEN), "a buffer of {len} bytes");
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.resize(len, 0xa5);
        buffer
    }
    fn freeze(&mut self, write: Vec<u8>, len: usize) -> Rc<[u8]> {
        assert!(len.is_multiple_of(BLOCK_LEN) && len <= write.len());
        let read = Rc::from(&write[..len]);
        if self.spare.len() < SPARE_MAX {
            self.spare.push(write);
        }
        read
    }
}

/// An operation that the device has taken.
pub(crate) enum Op {
    Read { offset: u64, len: usize },
    Write { offset: u64, buf: Rc<[u8]> },
    Flush { covers: usize },
    Discard { offset: u64, len: u64 },
}

/// What a crash leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crash {
    /// The process dies: what was completed stays, what was not is there, not there, or torn.
    Kill,
    /// As `Kill`, but what was not under way to the end is not there at all.
    KillClean,
    /// The power goes: what was not flushed may be lost as well.
    Power,
}

/// How an operation goes that does not go well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mishap {
    /// It fails with this code of the operating system; nothing is done.
    Error(i32),
    /// A write of which only some sectors are there, though the device says that it is done.
    Torn,
    /// A write that the device says it has done, and has not.
    Lost,
    /// A write that the device has done elsewhere: at this offset.
    Misdirected(u64),
}

/// A device in memory.
pub(crate) struct Device {
    pub(crate) bytes: Vec<u8>,
    pub(crate) durable: Vec<u8>,
    pub(crate) unflushed: Vec<(u64, Rc<[u8]>)>,
    pub(crate) under_way: Vec<(IoId, Op)>,
    /// Operations completed.
    pub(crate) completed: u64,
    pub(crate) fail_writes: bool,
    pub(crate) fail_reads: bool,
    /// A byte that cannot be read.
    pub(crate) unreadable: Option<u64>,
    pub(crate) reads: u64,
    pub(crate) flushes: u64,
    pub(crate) bytes_written: u64,
    /// Blocks written since their slab was opened, to see that none is written twice.
    pub(crate) written_once: HashSet<u64>,
    generations: HashMap<u64, u64>,
    pub(crate) slab_len: u64,
}

impl Device {
    pub(crate) fn new(len: u64, slab_len: u32) -> Device {
        Device {
            bytes: vec![0; len as usize],
            durable: vec![0; len as usize],
            unflushed: Vec::new(),
            under_way: Vec::new(),
            completed: 0,
            fail_writes: false,
            fail_reads: false,
            unreadable: None,
            reads: 0,
            flushes: 0,
            bytes_written: 0,
            written_once: HashSet::new(),
            generations: HashMap::new(),
            slab_len: u64::from(slab_len),
        }
    }

    /// A device that a crash has left as `image`.
    #[cfg(test)]
    pub(crate) fn of_image(image: Vec<u8>, slab_len: u32) -> Device {
        let mut device = Device::new(0, slab_len);
        device.durable = image.clone();
        device.bytes = image;
        device
    }

    /// Takes an operation; gives an effect back that is none.
    pub(crate) fn take(&mut self, effect: Effect<HeapBuffers>) -> Option<Effect<HeapBuffers>> {
        let block = BLOCK_LEN as u64;
        let (io, op) = match effect {
            Effect::Read { io, offset, len } => {
                assert!(offset.is_multiple_of(block) && (len as u64).is_multiple_of(block) && len > 0);
                assert!(offset + len as u64 <= self.bytes.len() as u64, "read beyond the end");
                self.reads += 1;
                (io, Op::Read { offset, len })
            }
            Effect::Write { io, offset, buf } => {
                assert!(
                    offset.is_multiple_of(block)
                        && (buf.len() as u64).is_multiple_of(block)
                        && !buf.is_empty(),
                    "{} bytes to be written at {offset}",
                    buf.len()
                );
                assert!(offset + buf.len() as u64 <= self.bytes.len() as u64, "write beyond the end");
                self.check_once(offset, &buf);
                (io, Op::Write { offset, buf })
            }
            Effect::Flush { io } => {
                self.flushes += 1;
                (io, Op::Flush { covers: self.unflushed.len() })
            }
            Effect::Discard { io, offset, len } => (io, Op::Discard { offset, len }),
            other => return Some(other),
        };
        assert!(self.under_way.iter().all(|(other, _)| *other != io), "{io:?} twice");
        self.under_way.push((io, op));
        None
    }

    /// A block of a slab is written once in a generation of the slab.
    fn check_once(&mut self, offset: u64, buf: &[u8]) {
        if offset < SLABS_START {
            return;
        }
        let slab = (offset - SLABS_START) / self.slab_len;
        let start = SLABS_START + slab * self.slab_len;
        let (end, slab_end) = (offset + buf.len() as u64, start + self.slab_len);
        assert!(end <= slab_end, "a write across slabs");
        let header = (offset == start).then(|| SlabHeader::decode(buf).expect("a header").generation);
        let trailer = &buf[buf.len() - BLOCK_LEN..];
        let trailer = (end == slab_end).then(|| SlabTrailer::decode(trailer).expect("a trailer").generation);
        let of = header.or(trailer);
        if of.is_some_and(|generation| self.generations.insert(slab, generation) != Some(generation)) {
            self.written_once.retain(|&at| at < start || at >= slab_end);
        }
        for at in (offset..end).step_by(BLOCK_LEN) {
            assert!(self.written_once.insert(at), "block at {at} of slab {slab} is written twice");
        }
    }

    fn apply(&mut self, offset: u64, buf: &[u8]) {
        self.bytes[offset as usize..offset as usize + buf.len()].copy_from_slice(buf);
        self.bytes_written += buf.len() as u64;
    }

    /// Where in `under_way` an operation is.
    pub(crate) fn position(&self, io: IoId) -> Option<usize> {
        self.under_way.iter().position(|(other, _)| *other == io)
    }

    /// Completes the operation at `at` of `under_way` with a mishap. One that cannot befall such an operation
    /// does not.
    pub(crate) fn complete_with(
        &mut self,
        at: usize,
        mishap: Mishap,
        rng: &mut SmallRng,
    ) -> (IoId, IoResult<HeapBuffers>) {
        let write = matches!(self.under_way[at].1, Op::Write { .. });
        match mishap {
            Mishap::Error(os) => self.fail(at, os),
            Mishap::Torn | Mishap::Lost if write => {
                self.completed += 1;
                let (io, op) = self.under_way.remove(at);
                if let (Mishap::Torn, Op::Write { offset, buf }) = (mishap, op) {
                    self.tear(offset, &buf, rng);
                    self.settle(offset, buf.len());
                }
                (io, IoResult::Done(Ok(())))
            }
            Mishap::Misdirected(elsewhere) if write => {
                if let (_, Op::Write { offset, buf }) = &mut self.under_way[at] {
                    *offset = elsewhere.min(self.bytes.len().saturating_sub(buf.len()) as u64);
                }
                self.complete(at)
            }
            _ => self.complete(at),
        }
    }

    fn fail(&mut self, at: usize, os: i32) -> (IoId, IoResult<HeapBuffers>) {
        let (io, op) = self.under_way.remove(at);
        self.completed += 1;
        let error = IoError::from_os(os);
        match op {
            Op::Read { .. } => (io, IoResult::Read(Err(error))),
            _ => (io, IoResult::Done(Err(error))),
        }
    }

    /// A bit of what is stored turns over.
    pub(crate) fn rot(&mut self, bit: u64) {
        let place = (bit / 8) as usize % self.bytes.len();
        self.bytes[place] ^= 1 << (bit % 8);
        self.durable[place] ^= 1 << (bit % 8);
    }

    /// What `bytes` has there is what is left after any crash.
    fn settle(&mut self, offset: u64, len: usize) {
        let range = offset as usize..offset as usize + len;
        self.durable[range.clone()].copy_from_slice(&self.bytes[range]);
    }

    /// Completes the operation at `at` of `under_way`.
    pub(crate) fn complete(&mut self, at: usize) -> (IoId, IoResult<HeapBuffers>) {
        let (io, op) = self.under_way.remove(at);
        self.completed += 1;
        let error = IoError::from_os(EIO);
        let result = match op {
            Op::Read { .. } if self.fail_reads => IoResult::Read(Err(error)),
            Op::Read { offset, len }
                if self.unreadable.is_some_and(|at| (offset..offset + len as u64).contains(&at)) =>
            {
                IoResult::Read(Err(error))
            }
            Op::Read { offset, len } => {
                IoResult::Read(Ok(Rc::from(&self.bytes[offset as usize..offset as usize + len])))
            }
            _ if self.fail_writes => IoResult::Done(Err(error)),
            Op::Write { offset, buf } => {
                self.apply(offset, &buf);
                self.unflushed.push((offset, buf));
                IoResult::Done(Ok(()))
            }
            Op::Flush { covers } => {
                self.harden(covers);
                IoResult::Done(Ok(()))
            }
            Op::Discard { offset, len } => {
                self.bytes[offset as usize..(offset + len) as usize].fill(0);
                self.unflushed.push((offset, Rc::from(vec![0; len as usize])));
                IoResult::Done(Ok(()))
            }
        };
        (io, result)
    }

    fn harden(&mut self, covers: usize) {
        let covers = covers.min(self.unflushed.len());
        for (offset, buf) in self.unflushed.drain(..covers) {
            self.durable[offset as usize..offset as usize + buf.len()].copy_from_slice(&buf);
        }
        for (_, op) in &mut self.under_way {
            if let Op::Flush { covers: later } = op {
                *later = later.saturating_sub(covers);
            }
        }
    }

    /// The device as it once was.
    #[cfg(test)]
    pub(crate) fn restore(&mut self, image: &[u8]) {
        self.bytes.copy_from_slice(image);
        self.written_once.clear();
    }

    /// What a crash leaves on the device.
    pub(crate) fn crash(&mut self, crash: Crash, rng: &mut SmallRng) {
        if crash == Crash::Power {
            self.bytes = self.durable.clone();
            for (offset, buf) in std::mem::take(&mut self.unflushed) {
                if rng.random_bool(0.5) {
                    self.tear(offset, &buf, rng);
                }
            }
        }
        for (_, op) in std::mem::take(&mut self.under_way) {
            if let Op::Write { offset, buf } = op {
                match rng.random_range(0..3) {
                    _ if crash == Crash::KillClean => {}
                    0 => {}
                    1 => self.apply(offset, &buf),
                    _ => self.tear(offset, &buf, rng),
                }
            }
        }
        self.unflushed.clear();
        self.durable = self.bytes.clone();
        self.written_once.clear();
        (self.fail_reads, self.fail_writes) = (false, false);
    }

    /// Writes some sectors of `buf`.
    fn tear(&mut self, offset: u64, buf: &[u8], rng: &mut SmallRng) {
        for (at, sector) in buf.chunks(SECTOR_LEN).enumerate() {
            if rng.random_bool(0.5) {
                self.apply(offset + (at * SECTOR_LEN) as u64, sector);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const SLAB_LEN: u32 = 64 << 10;

    /// A device with a write of `byte` under way in its first block, which no slab has.
    fn writing(byte: u8) -> Device {
        let mut device = Device::new(SLABS_START + u64::from(SLAB_LEN), SLAB_LEN);
        let buf = Rc::from(vec![byte; BLOCK_LEN]);
        assert!(device.take(Effect::Write { io: IoId(1), offset: 0, buf }).is_none());
        device
    }

    fn done(result: &IoResult<HeapBuffers>) -> bool {
        matches!(result, IoResult::Done(Ok(())))
    }

    #[test]
    fn a_write_that_fails_or_is_lost_is_not_there() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut device = writing(7);
        let (io, result) = device.complete_with(0, Mishap::Error(EIO), &mut rng);
        assert!(io == IoId(1) && matches!(result, IoResult::Done(Err(error)) if error.os == EIO));
        assert!(device.bytes[..BLOCK_LEN].iter().all(|&byte| byte == 0));
        let mut device = writing(7);
        assert!(done(&device.complete_with(0, Mishap::Lost, &mut rng).1));
        assert!(device.bytes[..BLOCK_LEN].iter().all(|&byte| byte == 0) && device.under_way.is_empty());
    }

    #[test]
    fn a_write_lands_in_part_or_elsewhere() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut device = writing(7);
        assert!(done(&device.complete_with(0, Mishap::Torn, &mut rng).1));
        let there = device.bytes[..BLOCK_LEN].iter().filter(|&&byte| byte == 7).count();
        assert!(there > 0 && there < BLOCK_LEN && there.is_multiple_of(SECTOR_LEN), "{there}");
        assert_eq!(device.bytes, device.durable, "no crash makes it whole");
        let mut device = writing(7);
        assert!(done(&device.complete_with(0, Mishap::Misdirected(2 * BLOCK_LEN as u64), &mut rng).1));
        assert!(device.bytes[2 * BLOCK_LEN..3 * BLOCK_LEN].iter().all(|&byte| byte == 7));
        assert!(device.bytes[..2 * BLOCK_LEN].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_rots_stays_rotten() {
        let mut device = writing(7);
        assert!(done(&device.complete(0).1));
        device.rot(8 * 5 + 3);
        device.take(Effect::Read { io: IoId(2), offset: 0, len: BLOCK_LEN });
        let IoResult::Read(Ok(bytes)) = device.complete(0).1 else { panic!("a read") };
        assert_eq!((bytes[4], bytes[5]), (7, 7 ^ 8));
    }
}
