//! The store: takes requests and completions, hands out device operations and answers.

use std::marker::PhantomData;

use hedgerow_wire::Version;
use hedgerow_wire::part::{PartAnswer, PartConfirm, PartDrop, PartRead, PartTouch, PartWrite};
use hedgerow_wire::time::{Now, Timestamp};

use super::{Buffers, Effect, IoId, IoResult, Payload, StoreStats, Token};

/// An open shard. Made by [`super::Opening::finish`].
///
/// After every call of a method that takes `now`, call [`Store::poll`] until it gives `None`.
pub struct Store<D: Buffers> {
    buffers: PhantomData<D>,
}

impl<D: Buffers> Store<D> {
    /// Asks for a part; the answer comes from [`Store::poll`] under `token`: `Part`, `Other`, `Absent`,
    /// `Damaged`, `Overloaded`, `Expired` or `Failed`.
    pub fn read(&mut self, token: Token, read: &PartRead, now: Now) {
        let _ = (token, read, now);
    }

    /// Asks to store a part; `payload` (of `write.meta.part_len()` bytes) is copied once, into the buffer
    /// that goes to the device. The answer comes from [`Store::poll`] under `token`: `Stored`,
    /// `Superseded`, `ClockAhead`, `Overloaded`, `Expired` or `Failed`.
    pub fn write(&mut self, token: Token, write: &PartWrite, payload: &[u8], now: Now) {
        let _ = (token, write, payload, now);
    }

    /// Asks how what is held stands to a version; the answer comes from [`Store::poll`] under `token`
    /// (nearly always without touching the device): `Held`, `Absent`, `Damaged`, `Overloaded` or `Failed`.
    pub fn confirm(&mut self, token: Token, confirm: &PartConfirm, now: Now) {
        let _ = (token, confirm, now);
    }

    /// Lets a record go if it holds the given version or an older one. At once: `Dropped` (or `Failed`).
    pub fn drop_record(&mut self, drop: &PartDrop, now: Now) -> PartAnswer<Payload<D::Read>> {
        let _ = (drop, now);
        PartAnswer::Dropped
    }

    /// Notes that a record was used; `false` if it is not held.
    pub fn touch(&mut self, touch: &PartTouch) -> bool {
        let _ = touch;
        false
    }

    /// The answer to `token` is no longer wanted: none will come. What the device is doing for it is
    /// counted until it is done.
    pub fn cancel(&mut self, token: Token) {
        let _ = token;
    }

    /// Takes what the device did.
    pub fn complete(&mut self, io: IoId, result: IoResult<D>, now: Now) {
        let _ = (io, result, now);
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Now) -> Option<Effect<D>> {
        let _ = now;
        None
    }

    /// When [`Store::tick`] is to be called.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) {
        let _ = now;
    }

    /// Begins a clean stop: new requests are answered `Failed`, what is under way is completed.
    pub fn begin_close(&mut self, now: Now) {
        let _ = now;
    }

    /// Whether the clean stop is complete: nothing is under way any more. If the device failed
    /// meanwhile, the stop is not clean and [`Store::snapshot`] gives nothing.
    pub fn closed(&self) -> bool {
        false
    }

    /// After [`Store::closed`]: appends the bytes to be given to the next [`super::Opening::new`].
    /// Whether there are any.
    pub fn snapshot(&self, out: &mut Vec<u8>) -> bool {
        let _ = out;
        false
    }

    /// Counters and gauges.
    pub fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    /// The highest version that the shard has ever seen.
    pub fn highest_version(&self) -> Version {
        Version::ZERO
    }
}
