//! Bodies of requests on their way in: buffers that grow as bytes come, and the count of what all of
//! a core's buffers hold.
//!
//! Invariant: what is held is counted when it is allocated and until it is freed, so that the bound is one
//! on memory and not on what clients say, or have sent.
//!
//! When there is no room, bodies that come more slowly than they should lose theirs, the slowest first: who
//! announces much and sends little is in nobody's way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hedgerow_wire::time::Timestamp;

use super::clock;
use super::limits::{
    BODY_BUFFER_BYTES_MIN, BODY_BUFFER_GROWTH, BODY_GRACE, BODY_LOOK_PAUSE, BODY_PACE_BYTES_PER_S,
    BODY_ROOM_BYTES_MIN,
};

/// What the bodies of one core hold.
#[derive(Clone, Default)]
pub struct Bodies(Rc<Sum>);

#[derive(Default)]
struct Sum {
    held_bytes: Cell<usize>,
    /// Those that are not complete, by their order.
    coming: RefCell<BTreeMap<u64, Rc<Coming>>>,
    next: Cell<u64>,
    let_go: Cell<u64>,
    /// When a look for those that come too slowly found too few.
    in_vain: Cell<Timestamp>,
}

/// There is no room: a buffer would have been beyond its bound, or was let go for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// What all of them hold, in bytes.
    pub held_bytes: usize,
}

impl Bodies {
    /// What all of them hold, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.0.held_bytes.get()
    }

    /// How many were let go before they were complete, since others needed the room.
    pub fn let_go(&self) -> u64 {
        self.0.let_go.get()
    }

    /// An empty buffer, which grows as long as all of them hold at most `bound_bytes`.
    pub fn buffer(&self, bound_bytes: usize) -> BodyBuffer {
        BodyBuffer { bodies: self.clone(), bound_bytes, coming: None }
    }

    /// A body of no bytes.
    pub fn empty(&self) -> WholeBody {
        WholeBody { bytes: Vec::new(), held: self.held() }
    }

    /// Whether a body may begin, of which all may hold at most `bound_bytes`.
    pub fn check(&self, bound_bytes: usize) -> Result<(), Full> {
        self.make_room(BODY_BUFFER_BYTES_MIN, bound_bytes, clock::timestamp)
    }

    fn begin(&self) -> (u64, Rc<Coming>) {
        let memory = RefCell::new(Memory { bytes: Some(Vec::new()), filled: 0, held: self.held() });
        let coming = Rc::new(Coming { begun: clock::timestamp(), memory });
        let number = self.0.next.replace(self.0.next.get() + 1);
        self.0.coming.borrow_mut().insert(number, coming.clone());
        (number, coming)
    }

    fn held(&self) -> Held {
        Held { bodies: self.clone(), bytes: 0 }
    }

    fn full(&self) -> Full {
        Full { held_bytes: self.held_bytes() }
    }

    /// Sees to it that there is room for `bytes` more, if need be at the cost of those that come too slowly.
    fn make_room(
        &self,
        bytes: usize,
        bound_bytes: usize,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<(), Full> {
        let fits = || self.held_bytes() + bytes <= bound_bytes;
        if fits() {
            return Ok(());
        }
        let now = now();
        if now < self.0.in_vain.get() + BODY_LOOK_PAUSE {
            return Err(self.full());
        }
        let coming = self.0.coming.borrow();
        let mut overdue: Vec<_> =
            coming.values().filter_map(|body| Some((body.overdue(now)?, body))).collect();
        overdue.sort_unstable_by_key(|&(by, _)| std::cmp::Reverse(by));
        for (_, body) in overdue {
            if fits() {
                break;
            }
            body.let_go();
            self.0.let_go.set(self.0.let_go.get() + 1);
        }
        if fits() {
            return Ok(());
        }
        self.0.in_vain.set(now);
        Err(self.full())
    }
}

/// Bytes that are counted as long as this lives.
pub struct Held {
    bodies: Bodies,
    bytes: usize,
}

impl Held {
    fn set(&mut self, bytes: usize) {
        let sum = &self.bodies.0.held_bytes;
        sum.set(sum.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A body that has come, and its count.
pub struct WholeBody {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// To live as long as they do.
    pub held: Held,
}

/// A body of which something has come.
struct Coming {
    begun: Timestamp,
    memory: RefCell<Memory>,
}

struct Memory {
    /// What has come, then zeroes. `None` if it was let go.
    bytes: Option<Vec<u8>>,
    filled: usize,
    held: Held,
}

impl Coming {
    /// By how much it is too slow at `now`.
    fn overdue(&self, now: Timestamp) -> Option<Duration> {
        let memory = self.memory.borrow();
        let due_us = memory.filled as u64 * 1_000_000 / BODY_PACE_BYTES_PER_S;
        let due = BODY_GRACE + Duration::from_micros(due_us);
        now.since(self.begun).checked_sub(due).filter(|_| memory.held.bytes > 0)
    }

    fn let_go(&self) {
        let mut memory = self.memory.borrow_mut();
        memory.bytes = None;
        memory.held.set(0);
    }
}

/// The beginning of a body, or of a stripe, and room for what comes next.
pub struct BodyBuffer {
    bodies: Bodies,
    bound_bytes: usize,
    /// From its first byte on, with its place in the order.
    coming: Option<(u64, Rc<Coming>)>,
}

impl BodyBuffer {
    /// How many bytes have come.
    pub fn filled(&self) -> usize {
        self.coming.as_ref().map_or(0, |(_, coming)| coming.memory.borrow().filled)
    }

    /// Takes `bytes`, of a body of `len_max` bytes at most.
    pub fn append(&mut self, bytes: &[u8], len_max: usize) -> Result<(), Full> {
        let coming = self.room_for(bytes.len(), self.filled() + bytes.len(), len_max)?;
        let Memory { bytes: Some(buffer), filled, .. } = &mut *coming.memory.borrow_mut() else {
            return Err(self.bodies.full());
        };
        let end = *filled + bytes.len();
        buffer[*filled..end].copy_from_slice(bytes);
        *filled = end;
        Ok(())
    }

    /// Has `read` put some of the next `want` bytes in their place, and say how many have come.
    pub fn receive(
        &mut self,
        want: usize,
        len_max: usize,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Full> {
        let coming = self.room_for(want.min(BODY_ROOM_BYTES_MIN), self.filled(), len_max)?;
        let Memory { bytes: Some(buffer), filled, .. } = &mut *coming.memory.borrow_mut() else {
            return Err(self.bodies.full());
        };
        let end = buffer.len().min(*filled + want);
        let received = read(&mut buffer[*filled..end]);
        if let Poll::Ready(Ok(count)) = received {
            *filled += count;
        }
        Ok(received)
    }

    /// The memory, with room for `room` more bytes. If it has to grow, to a multiple of the `came` bytes that
    /// are or will be in it, up to `len_max`.
    fn room_for(&mut self, room: usize, came: usize, len_max: usize) -> Result<Rc<Coming>, Full> {
        let (_, coming) = self.coming.get_or_insert_with(|| self.bodies.begin());
        let coming = coming.clone();
        let (filled, held_bytes, has) = {
            let memory = coming.memory.borrow();
            let Some(bytes) = &memory.bytes else { return Err(self.bodies.full()) };
            (memory.filled, memory.held.bytes, bytes.len())
        };
        if filled + room > has {
            let len = (came.next_power_of_two() * BODY_BUFFER_GROWTH).max(BODY_BUFFER_BYTES_MIN).min(len_max);
            self.bodies.make_room(len.saturating_sub(held_bytes), self.bound_bytes, clock::timestamp)?;
            let Memory { bytes: Some(bytes), held, .. } = &mut *coming.memory.borrow_mut() else {
                return Err(self.bodies.full());
            };
            bytes.reserve_exact(len.saturating_sub(bytes.len()));
            bytes.resize(len, 0);
            held.set(bytes.capacity());
        }
        Ok(coming)
    }

    /// What has come, padded with zeroes to `len` bytes: it is complete, and stays.
    pub fn into_whole(mut self, len: usize) -> Result<WholeBody, Full> {
        let mut whole = self.bodies.empty();
        if let Some(coming) = self.end() {
            let memory = &mut *coming.memory.borrow_mut();
            let Some(bytes) = memory.bytes.take() else { return Err(self.bodies.full()) };
            std::mem::swap(&mut whole.held, &mut memory.held);
            whole.bytes = bytes;
            whole.bytes.truncate(memory.filled);
        }
        let bytes = &mut whole.bytes;
        bytes.reserve_exact(len.saturating_sub(bytes.len()));
        bytes.resize(len, 0);
        if bytes.capacity() > 2 * len {
            // Room was made for more; the memory tier may keep this for long.
            bytes.shrink_to_fit();
        }
        whole.held.set(whole.bytes.capacity());
        Ok(whole)
    }

    /// Nothing more comes.
    fn end(&mut self) -> Option<Rc<Coming>> {
        let (number, coming) = self.coming.take()?;
        self.bodies.0.coming.borrow_mut().remove(&number);
        Some(coming)
    }
}

impl Drop for BodyBuffer {
    fn drop(&mut self) {
        self.end();
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
            let received = buffer.receive(STRIPE - came, STRIPE, |room| {
                let count = room.len().min(1000);
                room[..count].fill(came as u8);
                Poll::Ready(Ok(count))
            });
            let Poll::Ready(Ok(count)) = received.unwrap() else { panic!("nothing came") };
            came += count;
            assert!(bodies.held_bytes() <= (2 * BODY_BUFFER_GROWTH * came).max(BODY_BUFFER_BYTES_MIN));
        }
        assert_eq!((buffer.filled(), bodies.held_bytes()), (STRIPE, STRIPE));
        let none = buffer.receive(0, STRIPE, |room| Poll::Ready(Ok(room.len())));
        assert!(matches!(none, Ok(Poll::Ready(Ok(0)))));
        let WholeBody { bytes, held } = buffer.into_whole(STRIPE + 3).unwrap();
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
        let WholeBody { bytes, held: _held } = buffer.into_whole(8).unwrap();
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
        assert!(bodies.check(BOUND).is_err());
        assert!(buffers[0].append(&[1; BODY_BUFFER_BYTES_MIN], STRIPE).is_err());
        assert_eq!(buffers[0].filled(), 1);
        buffers.truncate(8);
        buffers[0].append(&[1; BODY_BUFFER_BYTES_MIN], STRIPE).unwrap();
        buffers.clear();
        assert_eq!((bodies.held_bytes(), bodies.0.coming.borrow().len()), (0, 0));
    }

    #[test]
    fn the_slowest_are_let_go_when_there_is_no_room() {
        let bodies = Bodies::default();
        let mut buffers: Vec<BodyBuffer> = Vec::new();
        // The later they began the more has come of them, and all of them fill the bound.
        for len in [100, 5_000, 5_000, 5_000] {
            let mut buffer = bodies.buffer(BOUND);
            buffer.append(&vec![7; len], 16 << 10).unwrap();
            buffers.push(buffer);
        }
        let mut whole = bodies.buffer(BOUND);
        whole.append(&[7; 5_000], 12 << 10).unwrap();
        let whole = whole.into_whole(12 << 10).unwrap();
        assert_eq!(bodies.held_bytes(), BOUND);
        let begun = clock::timestamp();
        let young = begun + BODY_GRACE / 2;
        assert!(bodies.make_room(1, BOUND, || young).is_err(), "none has had the time that it may take");
        let later = begun + BODY_GRACE + Duration::from_secs(1);
        assert_eq!(bodies.make_room(4_000, BOUND, || later), Ok(()));
        assert_eq!((bodies.let_go(), bodies.held_bytes()), (1, BOUND - (4 << 10)), "no more than is needed");
        assert!(buffers[0].append(b"more", STRIPE).is_err());
        assert!(buffers.remove(0).into_whole(100).is_err());
        assert!(buffers.iter_mut().all(|buffer| buffer.append(b"more", 16 << 10).is_ok()));
        // What is complete stays; a look that found too little is not repeated at once.
        assert!(bodies.make_room(BOUND, BOUND, || later).is_err());
        assert_eq!((bodies.let_go(), bodies.held_bytes()), (4, whole.bytes.capacity()));
        assert_eq!(whole.bytes[..5_000], [7; 5_000]);
    }
}
