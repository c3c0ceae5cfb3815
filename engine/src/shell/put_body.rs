//! The body of a put on its way in: frames cut into stripes, in memory that grows as they come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::future::or;
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Status, flags};
use hedgerow_wire::limits::STREAM_CREDIT_INITIAL_BYTES;
use hedgerow_wire::request::Refusal;
use hedgerow_wire::stream::{Progress, PutStream};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Code, ObjectChecksum};

use super::bodies::{BodyBuffer, Full, Held, WholeBody};
use super::clock;
use super::core::Core;
use super::home::StripeBytes;
use super::limits::{BODY_BYTES_MAX, BODY_ROOM_BYTES_MIN};
use super::oneshot::Signal;

/// The stripe that is coming in.
struct Stripe {
    buffer: BodyBuffer,
    /// Where in the object it begins.
    start: u64,
    len_max: usize,
    code: Code,
}

impl Stripe {
    /// How many bytes may still come.
    fn left(&self) -> usize {
        self.len_max - self.buffer.filled()
    }

    /// Length of its parts together, which is that of the stripe with its padding.
    fn padded_len(&self, len: usize) -> usize {
        self.code.part_len(len) * self.code.k()
    }

    /// Has some of the next `remaining` bytes of a frame's body received by `read`.
    fn receive(
        &mut self,
        remaining: usize,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Result<Poll<io::Result<usize>>, Full> {
        let (want, padded_len) = (remaining.min(self.left()), self.padded_len(self.len_max));
        self.buffer.receive(want, padded_len, read)
    }

    /// Takes the first of `bytes`, and says how many.
    fn append(&mut self, bytes: &[u8]) -> Result<usize, Full> {
        let (count, padded_len) = (bytes.len().min(self.left()), self.padded_len(self.len_max));
        self.buffer.append(&bytes[..count], padded_len)?;
        Ok(count)
    }

    /// The stripe as it is written, when it is complete (or the last one, which may be shorter).
    fn finish(self, header: &FrameHeader) -> Result<(StripeBytes, Held), Full> {
        let len = self.buffer.filled();
        let sole_frame = header.offset == self.start && len == header.body_len as usize;
        let (padded_len, code) = (self.padded_len(len), self.code);
        let WholeBody { bytes, held } = self.buffer.into_whole(padded_len)?;
        let checksum = if sole_frame { header.body_checksum } else { crc32c(&bytes[..len]) };
        Ok((StripeBytes { data: Arc::new(bytes), len, checksum, code }, held))
    }
}

/// What a put's task is told.
pub enum Event {
    /// A stripe whose frames were all verified. Its memory is counted as long as `Held` lives.
    Stripe(StripeBytes, Held),
    /// The body is complete: its length and the writer's checksum.
    End(u64, ObjectChecksum),
    /// The put is over before its end: the client broke off or broke a rule, or there is no room.
    Refused(Refusal),
}

/// The body of a put. The connection's reader fills it, the put's task takes from it.
pub struct PutBody {
    core: Rc<Core>,
    /// Length of the object, if the client said it.
    object_len: Option<u64>,
    rules: RefCell<PutStream>,
    /// What the frame under way will have brought the put to.
    progress: Cell<Progress>,
    stripe: RefCell<Option<Stripe>>,
    unverified: RefCell<Vec<Stripe>>,
    /// Bytes of the stripes that are full.
    striped: Cell<u64>,
    events: RefCell<VecDeque<Event>>,
    signal: Signal,
    ended: Cell<bool>,
}

impl PutBody {
    /// The body of the put that `header` begins.
    pub fn new(core: &Rc<Core>, header: &FrameHeader) -> Result<Rc<PutBody>, Refusal> {
        let (rules, progress) = PutStream::begin(header, STREAM_CREDIT_INITIAL_BYTES)?;
        let object_len = (!header.has(flags::LEN_UNKNOWN)).then_some(header.object_len);
        core.bodies.check(BODY_BYTES_MAX).map_err(too_many_bytes)?;
        Ok(Rc::new(PutBody {
            core: core.clone(),
            object_len,
            rules: RefCell::new(rules),
            progress: Cell::new(progress),
            stripe: RefCell::new(None),
            unverified: RefCell::default(),
            striped: Cell::new(0),
            events: RefCell::default(),
            signal: Signal::default(),
            ended: Cell::new(false),
        }))
    }

    /// Looks at the header of a further frame. A frame that breaks a rule ends the put.
    pub fn next_frame(&self, header: &FrameHeader) {
        if !self.wants_bytes() {
            return;
        }
        let progress = self.rules.borrow_mut().frame(header);
        match progress {
            Ok(progress) => self.progress.set(progress),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Whether bytes that come are kept at all.
    pub fn wants_bytes(&self) -> bool {
        !self.ended.get()
    }

    /// Whether the next of `remaining` bytes of a frame are to be received straight into the stripe.
    /// A stripe of which little has come has little memory: its next bytes pass through the receive buffer.
    pub fn receives_direct(&self, remaining: usize) -> bool {
        let stripe = self.stripe.borrow();
        let filled = stripe.as_ref().map_or(0, |stripe| stripe.buffer.filled());
        self.wants_bytes() && remaining >= BODY_ROOM_BYTES_MIN && filled >= BODY_ROOM_BYTES_MIN
    }

    fn new_stripe(&self) -> Stripe {
        let settings = &self.core.shared.settings;
        let left = self.object_len.map_or(u64::MAX, |len| len - self.striped.get());
        let len_max = left.min(settings.stripe_len as u64) as usize;
        // What decides the code: all of an object of one stripe, else the full stripe.
        let coded_len = if self.striped.get() == 0 { len_max } else { settings.stripe_len };
        let code = settings.code.for_stripe(coded_len, settings.min_part);
        let buffer = self.core.bodies.buffer(BODY_BYTES_MAX);
        Stripe { buffer, start: self.striped.get(), len_max, code }
    }

    /// Lets `fill` add to the stripe that is coming in; what it adds is not looked at if there is no room for it:
    /// that ends the put.
    fn fill<T>(&self, fill: impl FnOnce(&mut Stripe) -> Result<T, Full>) -> Option<T> {
        let filled = {
            let mut coming = self.stripe.borrow_mut();
            let stripe = coming.get_or_insert_with(|| self.new_stripe());
            let filled = fill(stripe);
            if stripe.left() == 0 {
                self.striped.set(self.striped.get() + stripe.len_max as u64);
                self.unverified.borrow_mut().extend(coming.take());
            }
            filled
        };
        filled.map_err(|full| self.refuse(too_many_bytes(full))).ok()
    }

    /// Has some of the next `remaining` bytes of a frame received by `read` straight into their place; how many
    /// it says have come. `None` if the put has ended.
    pub fn receive(
        &self,
        remaining: usize,
        read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<Option<usize>>> {
        if !self.wants_bytes() {
            return Poll::Ready(Ok(None));
        }
        let received = self.fill(|stripe| stripe.receive(remaining, read));
        received.map_or(Poll::Ready(Ok(None)), |received| received.map_ok(Some))
    }

    /// Takes bytes that came in the connection's receive buffer.
    pub fn append(&self, mut bytes: &[u8]) {
        while !bytes.is_empty()
            && self.wants_bytes()
            && let Some(count) = self.fill(|stripe| stripe.append(bytes))
        {
            bytes = &bytes[count..];
        }
    }

    fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.signal.raise();
    }

    /// The put is over before its end; what has come and is not written is let go.
    pub fn refuse(&self, refusal: Refusal) {
        if !self.ended.get() {
            self.close();
            self.push(Event::Refused(refusal));
        }
    }

    /// The client broke off.
    pub fn abort(&self) {
        let (status, message) = (Status::Cancelled, "the client broke off");
        self.refuse(Refusal { status, message, field: "", value: 0 });
    }

    /// Nothing is taken any more, and nothing kept.
    pub fn close(&self) {
        self.ended.set(true);
        *self.stripe.borrow_mut() = None;
        self.unverified.borrow_mut().clear();
        self.events.borrow_mut().clear();
    }

    /// The frame under way is complete and its checksum is right.
    pub fn frame_verified(&self, header: &FrameHeader) {
        if !self.wants_bytes() {
            return;
        }
        let full_ones = self.unverified.take();
        let pushed = full_ones.into_iter().try_for_each(|stripe| self.push_stripe(stripe, header));
        let pushed = pushed.and_then(|()| match self.progress.get() {
            Progress::End { object_len } => self.push_last(object_len, header),
            Progress::More | Progress::Aborted => Ok(()),
        });
        match (pushed, self.progress.get()) {
            // It was let go meanwhile: others needed the room.
            (Err(full), _) => self.refuse(too_many_bytes(full)),
            (Ok(()), Progress::More) => {}
            (Ok(()), Progress::Aborted) => self.abort(),
            (Ok(()), Progress::End { object_len }) => {
                self.ended.set(true);
                self.push(Event::End(object_len, header.object_checksum));
            }
        }
    }

    fn push_stripe(&self, stripe: Stripe, header: &FrameHeader) -> Result<(), Full> {
        let (stripe, held) = stripe.finish(header)?;
        self.push(Event::Stripe(stripe, held));
        Ok(())
    }

    /// What is left when the body ends: a stripe that is not full, or that of an empty object.
    fn push_last(&self, object_len: u64, header: &FrameHeader) -> Result<(), Full> {
        let last = self.stripe.borrow_mut().take().filter(|stripe| stripe.buffer.filled() > 0);
        if last.is_none() && object_len > 0 {
            return Ok(());
        }
        let mut stripe = last.unwrap_or_else(|| self.new_stripe());
        if self.striped.get() == 0 {
            // All of an object whose length was not known before: its own code is that of its length.
            let settings = &self.core.shared.settings;
            stripe.code = settings.code.for_stripe(stripe.buffer.filled(), settings.min_part);
        }
        self.push_stripe(stripe, header)
    }

    /// The receiver's side of the stream's credit grows by `len` bytes; whether the client is to know.
    pub fn grant(&self, len: u32) -> bool {
        self.rules.borrow_mut().grant(len).is_ok() && self.wants_bytes()
    }

    /// The next event; nothing if the deadline comes first.
    pub async fn next(&self, deadline: Timestamp) -> Option<Event> {
        loop {
            let event = self.events.borrow_mut().pop_front();
            if event.is_some() {
                return event;
            }
            let now = clock::timestamp();
            if now >= deadline {
                return None;
            }
            or(self.signal.wait(), async {
                glommio::timer::sleep(deadline.since(now)).await;
            })
            .await;
        }
    }
}

/// The refusal of a body for which there is no room.
pub fn too_many_bytes(full: Full) -> Refusal {
    Refusal {
        status: Status::Overloaded,
        message: "too many bytes are on their way in: try again later, or slower",
        field: "",
        value: full.held_bytes as u64,
    }
}
