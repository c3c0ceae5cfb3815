//! Memory on the data path: DMA buffers of a core, and bytes that may cross cores.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use glommio::io::{DmaBuffer, ReadResult};

use crate::slab::{Buffers, Payload};

/// A block-aligned buffer that is still being filled.
pub struct WriteBuffer(DmaBuffer);

impl AsRef<[u8]> for WriteBuffer {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl AsMut<[u8]> for WriteBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

/// What a device read gave, or what is being written. Shared within its core.
#[derive(Clone)]
pub enum DeviceBuffer {
    /// A completed read.
    Read(ReadResult),
    /// A write buffer that is no longer written to.
    Frozen(Rc<DmaBuffer>),
    /// Bytes that a fault has touched.
    Damaged(Rc<Vec<u8>>),
}

impl AsRef<[u8]> for DeviceBuffer {
    fn as_ref(&self) -> &[u8] {
        match self {
            DeviceBuffer::Read(read) => read,
            DeviceBuffer::Frozen(buffer) => buffer.as_bytes(),
            DeviceBuffer::Damaged(bytes) => bytes,
        }
    }
}

/// The slab store's buffers: glommio's.
pub struct DmaBuffers;

impl Buffers for DmaBuffers {
    type Write = WriteBuffer;
    type Read = DeviceBuffer;

    fn alloc(&mut self, len: usize) -> WriteBuffer {
        WriteBuffer(glommio::allocate_dma_buffer(len))
    }

    fn freeze(&mut self, write: WriteBuffer, len: usize) -> DeviceBuffer {
        let mut buffer = write.0;
        buffer.trim_to_size(len);
        DeviceBuffer::Frozen(Rc::new(buffer))
    }
}

/// A run of bytes on the heap that any core may hold, with its CRC-32C.
#[derive(Clone)]
pub struct SharedBytes {
    bytes: Arc<Vec<u8>>,
    start: u32,
    len: u32,
    checksum: u32,
}

impl SharedBytes {
    /// All of `bytes`, whose CRC-32C is `checksum`.
    pub fn new(bytes: Vec<u8>, checksum: u32) -> SharedBytes {
        let len = bytes.len() as u32;
        SharedBytes { bytes: Arc::new(bytes), start: 0, len, checksum }
    }

    /// A part of `bytes`, whose CRC-32C is `checksum`.
    pub fn slice_of(bytes: &Arc<Vec<u8>>, range: Range<usize>, checksum: u32) -> SharedBytes {
        debug_assert!(range.end <= bytes.len());
        let (start, len) = (range.start as u32, range.len() as u32);
        SharedBytes { bytes: bytes.clone(), start, len, checksum }
    }

    /// CRC-32C of the bytes.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start as usize..(self.start + self.len) as usize]
    }
}

/// A part's verified payload: in this core's device buffer, or copied because it crossed cores.
#[derive(Clone)]
pub enum PartBytes {
    /// In the device's buffer; cannot leave the core.
    Device(Payload<DeviceBuffer>),
    /// On the heap.
    Shared(SharedBytes),
}

impl PartBytes {
    /// CRC-32C of the payload.
    pub fn checksum(&self) -> u32 {
        match self {
            PartBytes::Device(payload) => payload.checksum(),
            PartBytes::Shared(bytes) => bytes.checksum(),
        }
    }

    /// The bytes in a form that may leave this core: a copy if they are in a device buffer.
    pub fn into_shared(self) -> SharedBytes {
        match self {
            PartBytes::Device(payload) => SharedBytes::new(payload.as_ref().to_vec(), payload.checksum()),
            PartBytes::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for PartBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            PartBytes::Device(payload) => payload.as_ref(),
            PartBytes::Shared(bytes) => bytes.as_ref(),
        }
    }
}
