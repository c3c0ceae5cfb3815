//! A device in memory that does at once what it is asked for.

use std::rc::Rc;

use hedgerow_engine::slab::layout::BLOCK_LEN;
use hedgerow_engine::slab::{Buffers, Effect, IoId, IoResult};

/// Buffers on the heap.
#[derive(Default)]
pub(crate) struct Heap;

impl Buffers for Heap {
    type Write = Vec<u8>;
    type Read = Rc<[u8]>;

    fn alloc(&mut self, len: usize) -> Vec<u8> {
        vec![0; len]
    }

    fn freeze(&mut self, write: Vec<u8>, len: usize) -> Rc<[u8]> {
        Rc::from(&write[..len])
    }
}

/// The device.
pub(crate) struct Disk {
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
    /// Operations that it may still do: beyond, somebody goes in circles.
    operations_left: u32,
}

impl Disk {
    /// A device with these bytes.
    pub(crate) fn new(bytes: Vec<u8>) -> Disk {
        Disk { bytes, operations_left: 10_000 }
    }

    /// Does what `effect` asks for; gives one back that asks nothing of a device.
    pub(crate) fn perform(&mut self, effect: Effect<Heap>) -> Result<(IoId, IoResult<Heap>), Effect<Heap>> {
        self.operations_left -= 1;
        match effect {
            Effect::Read { io, offset, len } => {
                let bytes: Rc<[u8]> = Rc::from(self.range(offset, len));
                Ok((io, IoResult::Read(Ok(bytes))))
            }
            Effect::Write { io, offset, buf } => {
                self.range(offset, buf.len()).copy_from_slice(&buf);
                Ok((io, IoResult::Done(Ok(()))))
            }
            Effect::Flush { io } => Ok((io, IoResult::Done(Ok(())))),
            Effect::Discard { io, offset, len } => {
                self.range(offset, len as usize).fill(0);
                Ok((io, IoResult::Done(Ok(()))))
            }
            other => Err(other),
        }
    }

    /// Whole blocks of the device.
    fn range(&mut self, offset: u64, len: usize) -> &mut [u8] {
        assert!(offset.is_multiple_of(BLOCK_LEN as u64) && len.is_multiple_of(BLOCK_LEN) && len > 0);
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.bytes.len() as u64);
        assert!(end.is_some(), "{len} bytes at {offset} of a device of {}", self.bytes.len());
        &mut self.bytes[offset as usize..][..len]
    }
}
