//! A shard of a member: the store, or its opening, on a simulated device with its faults.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartConfirm, PartDrop, PartRead, PartTouch, PartWrite};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{KeyHash, Record, Target};
use rand::Rng;
use rand::rngs::SmallRng;

use super::facts::{Held, LossKind};
use super::plan::DeviceFault;
use crate::slab::device::{Crash, Device, EIO, HeapBuffers, Mishap, Op};
use crate::slab::layout::BLOCK_LEN;
use crate::slab::{
    Effect, EvictedPart, IoId, IoResult, OpenError, Opening, Payload, Store, StoreConfig, Token,
};

/// A store's answer.
pub(super) type StoreAnswer = PartAnswer<Payload<Rc<[u8]>>>;

const ENODEV: i32 = 19;
const ENOSPC: i32 = 28;

/// What a coordinator asks of a shard.
pub(super) enum Request {
    /// A part.
    Read(PartRead),
    /// To keep a part.
    Write(Box<PartWrite>),
    /// How what it holds stands to a version.
    Confirm(PartConfirm),
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::Read(read) => write!(f, "read {}", read.name.key),
            Request::Write(write) => {
                let meta = &write.meta;
                write!(f, "{:?} part {} of {} {}", write.purpose, meta.part, meta.key, meta.version)
            }
            Request::Confirm(confirm) => write!(f, "confirm {}", confirm.version),
        }
    }
}

/// What comes out of a store.
pub(super) enum Out {
    /// A device operation was started: it is done after so long.
    Started(IoId, Duration),
    /// An answer.
    Answer(Token, StoreAnswer),
    /// Parts were let go.
    Evicted(Vec<EvictedPart>),
}

/// What became of a device operation.
pub(super) enum Done {
    /// It is complete; so much was lost by it.
    Complete(Option<LossKind>),
    /// It is not complete before then.
    Later(Timestamp),
    /// There is no such operation: it went with a crash.
    Unknown,
}

/// A shard.
pub(super) struct Shard {
    pub(super) target: Target,
    pub(super) config: StoreConfig,
    pub(super) device: Device,
    /// Those in effect, with their numbers and ends.
    pub(super) faults: Vec<(usize, Timestamp, DeviceFault)>,
    pub(super) store: Option<Store<HeapBuffers>>,
    opening: Option<Opening<HeapBuffers>>,
    /// Requests whose answers are no longer wanted.
    withdrawn: HashSet<Token>,
    /// Its device has said that it has done what it has not.
    pub(super) lied: bool,
    /// A write was under way when its process last died.
    pub(super) tore: bool,
    /// Device operations completed.
    pub(super) completed: u64,
}

impl Shard {
    /// A shard with a blank device, not opened.
    pub(super) fn new(target: Target, config: StoreConfig) -> Shard {
        Shard {
            target,
            device: Device::new(config.device_len, config.slab_len),
            config,
            faults: Vec::new(),
            store: None,
            opening: None,
            withdrawn: HashSet::new(),
            lied: false,
            tore: false,
            completed: 0,
        }
    }

    /// Opens the device at once, as if it took no time.
    pub(super) fn open_at_once(&mut self, now: Now) -> Result<(), OpenError> {
        let mut opening = Opening::new(self.config.clone(), HeapBuffers::default(), None, now);
        loop {
            while let Some(effect) = opening.poll() {
                let _ = self.device.take(effect);
            }
            if self.device.under_way.is_empty() {
                self.store = Some(opening.finish()?);
                return Ok(());
            }
            let (io, result) = self.device.complete(0);
            opening.complete(io, result, now);
        }
    }

    /// Begins to open the device.
    pub(super) fn begin_open(&mut self, now: Now, rng: &mut SmallRng, out: &mut Vec<Out>) {
        self.opening = Some(Opening::new(self.config.clone(), HeapBuffers::default(), None, now));
        self.drain_opening(rng, out);
    }

    /// Whether the device is still being opened.
    pub(super) fn opens(&self) -> bool {
        self.opening.is_some()
    }

    fn drain_opening(&mut self, rng: &mut SmallRng, out: &mut Vec<Out>) {
        while let Some(effect) = self.opening.as_mut().and_then(Opening::poll) {
            self.start(effect, rng, out);
        }
    }

    /// If the opening is done: whether there is a store now, or why not.
    pub(super) fn finish_open(&mut self) -> Option<Result<bool, OpenError>> {
        let opening = self.opening.take_if(|opening| opening.done())?;
        let scanned = opening.progress().slabs_scanned > 0;
        Some(opening.finish().map(|store| {
            self.store = Some(store);
            scanned
        }))
    }

    /// Takes a request.
    pub(super) fn ask(&mut self, token: Token, request: &Request, payload: &[u8], now: Now) -> bool {
        let Some(store) = &mut self.store else { return false };
        match request {
            Request::Read(read) => store.read(token, read, now),
            Request::Write(write) => store.write(token, write, payload, now),
            Request::Confirm(confirm) => store.confirm(token, confirm, now),
        }
        true
    }

    /// An answer is no longer wanted: it comes without bytes.
    pub(super) fn withdraw(&mut self, token: Token) {
        if self.store.as_ref().is_some_and(|store| store.awaits(token)) {
            self.withdrawn.insert(token);
        }
    }

    /// Nobody waits for an answer any more: none comes.
    pub(super) fn cancel(&mut self, token: Token) {
        if let Some(store) = &mut self.store {
            store.cancel(token);
        }
    }

    /// Lets records go.
    pub(super) fn drop_records(&mut self, drops: &[PartDrop], now: Now) {
        let Some(store) = &mut self.store else { return };
        for drop in drops {
            store.drop_record(drop, now);
        }
    }

    /// Notes that records were used; returns those that are not held.
    pub(super) fn touch(&mut self, touches: &[PartTouch]) -> Vec<PartTouch> {
        let Some(store) = &mut self.store else { return Vec::new() };
        touches.iter().filter(|touch| !store.touch(touch)).copied().collect()
    }

    /// When the store wants to be ticked.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.store.as_ref().and_then(Store::next_deadline)
    }

    /// Ticks the store.
    pub(super) fn tick(&mut self, now: Now) {
        if let Some(store) = &mut self.store {
            store.tick(now);
        }
    }

    /// Carries out what the store wants.
    pub(super) fn drain(&mut self, now: Now, rng: &mut SmallRng, out: &mut Vec<Out>) {
        while let Some(effect) = self.store.as_mut().and_then(|store| store.poll(now)) {
            self.start(effect, rng, out);
        }
    }

    fn start(&mut self, effect: Effect<HeapBuffers>, rng: &mut SmallRng, out: &mut Vec<Out>) {
        let io = match &effect {
            Effect::Read { io, .. }
            | Effect::Write { io, .. }
            | Effect::Flush { io }
            | Effect::Discard { io, .. } => *io,
            Effect::Answer { .. } | Effect::Evicted(_) => IoId(0),
        };
        let time = self.draw_time(&effect, rng);
        match self.device.take(effect) {
            None => out.push(Out::Started(io, time)),
            Some(Effect::Answer { token, answer }) => {
                let unwanted = self.withdrawn.remove(&token);
                out.push(Out::Answer(token, if unwanted { PartAnswer::Expired } else { answer }));
            }
            Some(Effect::Evicted(parts)) => out.push(Out::Evicted(parts)),
            Some(_) => unreachable!("every other effect is the device's"),
        }
    }

    /// How long an operation takes: mostly as long as it should, sometimes much longer.
    fn draw_time(&self, effect: &Effect<HeapBuffers>, rng: &mut SmallRng) -> Duration {
        let usual_us = match effect {
            Effect::Read { len, .. } => 70 + (*len as u64 >> 11),
            Effect::Write { buf, .. } => 25 + (buf.len() as u64 >> 11),
            Effect::Flush { .. } => 150,
            _ => 40,
        };
        let mut us = usual_us + rng.random_range(0..=usual_us / 2);
        us *= match rng.random_range(0..1000u32) {
            0 => 200,
            1..=9 => 12,
            _ => 1,
        };
        for (_, _, fault) in &self.faults {
            if let DeviceFault::Slow { factor } = fault {
                us *= u64::from(*factor);
            }
        }
        Duration::from_micros(us)
    }

    /// A device operation under way as the trace has it.
    pub(super) fn told(&self, io: IoId) -> (&'static str, u64, usize) {
        match self.device.position(io).map(|at| &self.device.under_way[at].1) {
            Some(Op::Read { offset, len }) => ("read", *offset, *len),
            Some(Op::Write { offset, buf }) => ("write", *offset, buf.len()),
            Some(Op::Flush { .. }) => ("flush", 0, 0),
            Some(Op::Discard { offset, len }) => ("discard", *offset, *len as usize),
            None => ("nothing", 0, 0),
        }
    }

    /// An operation's time is over.
    pub(super) fn complete(&mut self, io: IoId, now: Now, rng: &mut SmallRng, out: &mut Vec<Out>) -> Done {
        let Some(at) = self.device.position(io) else { return Done::Unknown };
        let stalled = |(_, until, fault): &(usize, Timestamp, DeviceFault)| {
            (*fault == DeviceFault::Stall).then_some(*until)
        };
        if let Some(until) = self.faults.iter().find_map(stalled) {
            return Done::Later(until);
        }
        self.completed += 1;
        let (mishap, loss) = self.draw_mishap(at, rng);
        let (io, result) = match mishap {
            Some(mishap) => self.device.complete_with(at, mishap, rng),
            None => self.device.complete(at),
        };
        self.lied |= loss == Some(LossKind::Unnoticed);
        let tables_before = self.tables_damaged(&result);
        if let Some(opening) = &mut self.opening {
            opening.complete(io, result, now);
            self.drain_opening(rng, out);
        } else if let Some(store) = &mut self.store {
            store.complete(io, result, now);
        }
        let table_lost = tables_before.is_some_and(|before| self.store_tables_damaged() != before);
        Done::Complete(loss.or(table_lost.then_some(LossKind::Noticed)))
    }

    /// Contents tables found damaged so far, if a read may be of another one.
    fn tables_damaged(&self, result: &IoResult<HeapBuffers>) -> Option<u64> {
        matches!(result, IoResult::Read(_)).then(|| self.store_tables_damaged())
    }

    fn store_tables_damaged(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.stats().tables_damaged)
    }

    /// What goes wrong with an operation, and what is lost by it.
    fn draw_mishap(&mut self, at: usize, rng: &mut SmallRng) -> (Option<Mishap>, Option<LossKind>) {
        let (read, write) = match &self.device.under_way[at].1 {
            Op::Read { offset, len } => (Some((*offset, *len)), None),
            Op::Write { buf, .. } => (None, Some(buf.len())),
            Op::Flush { .. } => (None, Some(0)),
            Op::Discard { .. } => (None, None),
        };
        let mut hits = |share_ppm: u32| rng.random_range(0..1_000_000) < share_ppm;
        let blocks = self.config.device_len / BLOCK_LEN as u64;
        let mut found = (None, None);
        let mut rotten = None;
        for &(_, _, fault) in &self.faults {
            match (fault, read, write) {
                (DeviceFault::Vanish | DeviceFault::Replaced, ..) => {
                    found = (Some(Mishap::Error(ENODEV)), Some(LossKind::Memory));
                }
                (DeviceFault::ReadErrors { share_ppm }, Some(_), _) if hits(share_ppm) => {
                    found = (Some(Mishap::Error(EIO)), Some(LossKind::Noticed));
                }
                (DeviceFault::BitRot { share_ppm }, Some(range), _) if hits(share_ppm) => {
                    rotten = Some(range)
                }
                (DeviceFault::WriteErrors { share_ppm }, _, Some(_)) if hits(share_ppm) => {
                    found = (Some(Mishap::Error(EIO)), Some(LossKind::Memory));
                }
                (DeviceFault::Full, _, Some(1..)) => {
                    found = (Some(Mishap::Error(ENOSPC)), Some(LossKind::Memory));
                }
                (DeviceFault::TornWrites { share_ppm }, _, Some(1..)) if hits(share_ppm) => {
                    found = (Some(Mishap::Torn), Some(LossKind::Unnoticed));
                }
                (DeviceFault::LostWrites { share_ppm }, _, Some(1..)) if hits(share_ppm) => {
                    found = (Some(Mishap::Lost), Some(LossKind::Unnoticed));
                }
                (DeviceFault::Misdirected { share_ppm }, _, Some(1..)) if hits(share_ppm) => {
                    found = (Some(Mishap::Misdirected(0)), Some(LossKind::Unnoticed));
                }
                _ => {}
            }
        }
        if let Some(Mishap::Misdirected(elsewhere)) = &mut found.0 {
            *elsewhere = rng.random_range(0..blocks) * BLOCK_LEN as u64;
        }
        if let Some((offset, len)) = rotten {
            self.device.rot(offset * 8 + rng.random_range(0..len as u64 * 8));
            found.1 = Some(LossKind::Noticed);
        }
        found
    }

    /// The process dies, with the power or without. Whether a commit was under way.
    pub(super) fn crash(&mut self, crash: Crash, rng: &mut SmallRng) -> bool {
        self.tore = self.device.under_way.iter().any(|(_, op)| matches!(op, Op::Write { .. }));
        (self.store, self.opening) = (None, None);
        self.withdrawn.clear();
        self.device.crash(crash, rng);
        self.tore
    }

    /// A blank device takes the place of the one that there was.
    pub(super) fn replace_device(&mut self) {
        self.device = Device::new(self.config.device_len, self.config.slab_len);
        self.lied = false;
    }

    /// What is held of a record, read from the device and checked.
    pub(super) fn held(&self, hash: KeyHash, record: Record) -> Held {
        let Some(store) = &self.store else { return Held::Away };
        let Some(located) = store.locate(hash, record) else { return Held::Nothing };
        let bytes = &self.device.bytes[located.offset as usize..][..located.len];
        match store.verify_part(&located, bytes) {
            Some(Ok(head)) => Held::Whole { version: head.meta.version, part: head.meta.part },
            _ => Held::Damaged,
        }
    }
}
