//! Page-aligned bytes, as device buffers are. Where buffers lie matters: a store that agrees with a
//! later load in the lower 12 bits of its address delays it, and malloc's headers bring that about.

use std::ops::{Deref, DerefMut};

const PAGE_BYTES: usize = 4096;

pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` bytes without a pattern.
    pub fn new(len: usize) -> Aligned {
        let bytes: Vec<u8> = (0..len + PAGE_BYTES).map(|at| (at * 131 + at / 253) as u8).collect();
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        Aligned { bytes, start, len }
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
