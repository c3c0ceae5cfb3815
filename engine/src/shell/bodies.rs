//! Bodies of requests on their way in: buffers that grow as bytes come, and the count of what all of
//! a core's buffers hold.
//!
//! Invariant: what is held is counted when it is allocated and until it is freed, so that the bound is one
//! on memory and not on what clients say, or have sent.

use std::cell::Cell;
use std::rc::Rc;

use super::limits::{BODY_BUFFER_BYTES_MIN, BODY_BUFFER_GROWTH, BODY_ROOM_BYTES_MIN};

/// What the bodies of one core hold, in bytes.
#[derive(Clone, Default)]
pub struct Bodies(Rc<Cell<usize>>);

/// A buffer would have been beyond its bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// What all of them hold, in bytes.
    pub held_bytes: usize,
}

impl Bodies {
    /// What all of them hold.
    pub fn held_bytes(&self) -> usize {
        self.0.get()
    }

    /// An empty buffer, which grows as long as all of them hold at most `bound_bytes`.
    pub fn buffer(&self, bound_bytes: usize) -> BodyBuffer {
        let held = Held { sum: self.clone(), bytes: 0 };
        BodyBuffer { bytes: Vec::new(), filled: 0, bound_bytes, held }
    }
}

/// Bytes that are counted as long as this lives.
pub struct Held {
    sum: Bodies,
    bytes: usize,
}

impl Held {
    fn set(&mut self, bytes: usize) {
        self.sum.0.set(self.sum.0.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The beginning of a body, or of a stripe, and room for what comes next.
pub struct BodyBuffer {
    /// What has come, then zeroes.
    bytes: Vec<u8>,
    filled: usize,
    bound_bytes: usize,
    held: Held,
}

impl BodyBuffer {
    /// How many bytes have come.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// What has come.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Takes `bytes`, of a body of `len_max` bytes at most.
    pub fn append(&mut self, bytes: &[u8], len_max: usize) -> Result<(), Full> {
        let end = self.filled + bytes.len();
        if end > self.bytes.len() {
            self.grow(end, len_max)?;
        }
        self.bytes[self.filled..end].copy_from_slice(bytes);
        self.filled = end;
        Ok(())
    }

    /// The place for some of the next `want` bytes; [`BodyBuffer::advance`] says how many have come.
    pub fn room(&mut self, want: usize, len_max: usize) -> Result<&mut [u8], Full> {
        if self.bytes.len() - self.filled < want.min(BODY_ROOM_BYTES_MIN) {
            self.grow(self.filled, len_max)?;
        }
        let end = self.bytes.len().min(self.filled + want);
        Ok(&mut self.bytes[self.filled..end])
    }

    /// `count` bytes have come into [`BodyBuffer::room`].
    pub fn advance(&mut self, count: usize) {
        debug_assert!(self.filled + count <= self.bytes.len());
        self.filled += count;
    }

    /// Makes room for a multiple of the `came` bytes that are or will be in it, up to `len_max`.
    fn grow(&mut self, came: usize, len_max: usize) -> Result<(), Full> {
        let len = (came.next_power_of_two() * BODY_BUFFER_GROWTH).max(BODY_BUFFER_BYTES_MIN).min(len_max);
        let others = self.held.sum.held_bytes() - self.held.bytes;
        if others + len > self.bound_bytes {
            return Err(Full { held_bytes: self.held.sum.held_bytes() });
        }
        self.bytes.reserve_exact(len.saturating_sub(self.bytes.len()));
        self.bytes.resize(len, 0);
        self.held.set(self.bytes.capacity());
        Ok(())
    }

    /// What has come, padded with zeroes to `len` bytes, and its count.
    pub fn into_bytes(mut self, len: usize) -> (Vec<u8>, Held) {
        self.bytes.truncate(self.filled);
        self.bytes.reserve_exact(len.saturating_sub(self.filled));
        self.bytes.resize(len, 0);
        if self.bytes.capacity() > 2 * len {
            // Room was made for more; the memory tier may keep this for long.
            self.bytes.shrink_to_fit();
        }
        self.held.set(self.bytes.capacity());
        (self.bytes, self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: usize = 64 << 10;
    const STRIPE: usize = 32 << 10;

    #[test]
    fn what_is_held_is_what_came_and_little_more() {
        let bodies = Bodies::default();
        let mut buffer = bodies.buffer(BOUND);
        assert_eq!(bodies.held_bytes(), 0);
        buffer.append(b"x", STRIPE).unwrap();
        assert_eq!(bodies.held_bytes(), BODY_BUFFER_BYTES_MIN, "though 32 KiB are announced");
        let mut came = 1;
        while came < STRIPE {
            let room = buffer.room(STRIPE - came, STRIPE).unwrap();
            let count = room.len().min(1000);
            room[..count].fill(came as u8);
            buffer.advance(count);
            came += count;
            assert!(bodies.held_bytes() <= (2 * BODY_BUFFER_GROWTH * came).max(BODY_BUFFER_BYTES_MIN));
        }
        assert_eq!((buffer.filled(), bodies.held_bytes()), (STRIPE, STRIPE));
        assert!(buffer.room(0, STRIPE).unwrap().is_empty());
        let (bytes, held) = buffer.into_bytes(STRIPE + 3);
        assert_eq!((bytes[0], bytes[1], bytes[STRIPE..].to_vec()), (b'x', 1, vec![0; 3]));
        assert!(bodies.held_bytes() > STRIPE);
        drop(held);
        assert_eq!(bodies.held_bytes(), 0);
    }

    #[test]
    fn a_body_that_is_short_keeps_no_room() {
        let bodies = Bodies::default();
        let mut buffer = bodies.buffer(BOUND);
        buffer.append(b"short", STRIPE).unwrap();
        let (bytes, _held) = buffer.into_bytes(8);
        assert_eq!((&bytes[..], bodies.held_bytes()), (&b"short\0\0\0"[..], bytes.capacity()));
        assert!(bytes.capacity() <= 16);
    }

    #[test]
    fn beyond_the_bound_nothing_is_allocated() {
        let bodies = Bodies::default();
        let mut buffers: Vec<BodyBuffer> = Vec::new();
        let full = loop {
            let mut buffer = bodies.buffer(BOUND);
            match buffer.append(b"x", STRIPE) {
                Ok(()) => buffers.push(buffer),
                Err(full) => break full,
            }
        };
        assert_eq!(buffers.len(), BOUND / BODY_BUFFER_BYTES_MIN);
        assert_eq!((full.held_bytes, bodies.held_bytes()), (BOUND, BOUND));
        assert!(buffers[0].append(&[1; BODY_BUFFER_BYTES_MIN], STRIPE).is_err());
        assert_eq!(buffers[0].as_slice(), b"x");
        buffers.truncate(8);
        buffers[0].append(&[1; BODY_BUFFER_BYTES_MIN], STRIPE).unwrap();
        buffers.clear();
        assert_eq!(bodies.held_bytes(), 0);
    }
}
