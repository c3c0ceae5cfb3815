//! A shard on its core: the store, its device, its faults.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::part::{PartAnswer, PartDrop, PartTouch};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{Target, Version};

use super::buffers::{DeviceBuffer, DmaBuffers};
use super::clock;
use super::core::Core;
use super::device::{Device, DeviceEffect};
use super::faults::{self, Faults};
use super::limits::HOUSEKEEPING;
use super::message::ShardRequest;
use super::stages::{self, Stage};
use crate::slab::{Effect, IoError, IoId, IoResult, LentSlab, Payload, Store, Token};

/// A shard that is served.
pub struct Shard {
    /// Its address.
    pub target: Target,
    /// Length of its device in bytes.
    pub device_len: u64,
    /// Bytes read from the device.
    pub read_bytes: Cell<u64>,
    /// The state machine.
    pub store: RefCell<Store<DmaBuffers>>,
    /// What it lives on.
    pub device: Rc<Device>,
    /// What is done to it on purpose.
    pub faults: RefCell<Faults>,
    /// Device operations begun.
    begun: Cell<u64>,
    /// Those of them that are under way, those that a fault holds back included.
    under_way: RefCell<BTreeMap<u64, &'static str>>,
    /// The oldest of them, and how often in a row it was the oldest when somebody looked.
    oldest: Cell<(Option<u64>, u32)>,
    /// A slab is lent, to be written through.
    pub writing_through: Cell<bool>,
    /// Why the shard is set aside for good.
    stuck: RefCell<Option<String>>,
    dirty: Cell<bool>,
    /// Requests whose answers are no longer wanted.
    withdrawn: RefCell<HashSet<Token>>,
}

impl Shard {
    /// A shard around an opened store.
    pub fn new(target: Target, device_len: u64, store: Store<DmaBuffers>, device: Rc<Device>) -> Shard {
        Shard {
            target,
            device_len,
            read_bytes: Cell::new(0),
            store: RefCell::new(store),
            device,
            faults: RefCell::default(),
            begun: Cell::new(0),
            under_way: RefCell::default(),
            oldest: Cell::default(),
            writing_through: Cell::default(),
            stuck: RefCell::default(),
            dirty: Cell::new(true),
            withdrawn: RefCell::default(),
        }
    }

    /// Takes a request; its answer comes out of [`Shard::drain`] under `token`.
    pub fn ask(&self, token: Token, request: &ShardRequest, now: Now) {
        let writing = matches!(request, ShardRequest::Write(..));
        let _stage = stages::enter(if writing { Stage::Append } else { Stage::Index });
        let mut store = self.store.borrow_mut();
        match request {
            ShardRequest::Read(read) => store.read(token, read, now),
            ShardRequest::Write(write, payload) => store.write(token, write, payload.as_ref(), now),
            ShardRequest::Confirm(confirm) => store.confirm(token, confirm, now),
        }
        self.dirty.set(true);
    }

    /// A coordinator no longer wants the answer under `token`: it gets one all the same when the device
    /// is done, since what it asked for is under way until then, but without bytes.
    pub fn withdraw(&self, token: Token) {
        if self.store.borrow().awaits(token) {
            self.withdrawn.borrow_mut().insert(token);
        }
    }

    /// Nobody waits for the answer under `token` any more: none will come.
    pub fn cancel(&self, token: Token) {
        self.store.borrow_mut().cancel(token);
        self.dirty.set(true);
    }

    /// Lets records go.
    pub fn drop_records(&self, drops: &[PartDrop], now: Now) {
        let _stage = stages::enter(Stage::Index);
        let mut store = self.store.borrow_mut();
        for drop in drops {
            store.drop_record(drop, now);
        }
        self.dirty.set(true);
    }

    /// Notes that records were used; returns those of which nothing as new is held.
    pub fn touch(&self, touches: &[PartTouch]) -> Vec<PartTouch> {
        let _stage = stages::enter(Stage::Index);
        let mut store = self.store.borrow_mut();
        touches.iter().filter(|touch| !store.touch(touch)).copied().collect()
    }

    /// When the store wants to be ticked.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.store.borrow().next_deadline()
    }

    /// Ticks the store.
    pub fn tick(&self, now: Now) {
        self.store.borrow_mut().tick(now);
        self.dirty.set(true);
    }

    /// Device operations under way.
    pub fn in_flight(&self) -> usize {
        self.under_way.borrow().len()
    }

    /// Why the shard is set aside; empty if it is not.
    pub fn set_aside_for(&self) -> String {
        if let Some(why) = &*self.stuck.borrow() {
            return why.clone();
        }
        let failing = self.store.borrow().stats().set_aside;
        if failing { "its device failed too often".to_owned() } else { String::new() }
    }

    /// Sets the shard aside until the next start if a device operation has been under way for longer than
    /// `limit`; whether it did. Called once in each [`HOUSEKEEPING`]: its calls are the clock, so that a process that was
    /// stopped for long, and its device with it, does not take the device for a stuck one.
    pub fn give_up_if_stuck(&self, limit: Duration) -> bool {
        let oldest = self.under_way.borrow().first_key_value().map(|(&number, &what)| (number, what));
        let (before, looks) = self.oldest.get();
        let Some((number, what)) = oldest else { return false };
        let looks = if before == Some(number) { looks + 1 } else { 0 };
        self.oldest.set((Some(number), looks));
        if HOUSEKEEPING * looks <= limit || self.stuck.borrow().is_some() {
            return false;
        }
        let why = format!(
            "{}: {what} has been under way for more than {limit:?}: see to the device, then restart the daemon",
            self.device.path().display()
        );
        tracing::error!(shard = self.target.shard, "the shard is set aside: {why}");
        self.stuck.replace(Some(why));
        self.store.borrow_mut().give_up(clock::now());
        self.dirty.set(true);
        true
    }

    /// Tells the store which versions the daemon's shards have seen.
    pub fn raise_unknown(&self, highest: Version) {
        self.store.borrow_mut().raise_unknown(highest);
        self.dirty.set(true);
    }

    /// Tells the store that the daemon stops.
    pub fn begin_close(&self) {
        self.store.borrow_mut().begin_close(clock::now());
        self.dirty.set(true);
    }

    /// Whether the store has nothing under way any more.
    pub fn closed(&self) -> bool {
        self.store.borrow().closed()
    }

    /// Gives a slab back to the store, which lends it again if it was not used.
    pub fn take_back(&self, lent: LentSlab, used: bool) {
        self.store.borrow_mut().take_back(lent, used);
        self.dirty.set(true);
    }

    /// Carries out what the store wants; whether there was anything.
    pub fn drain(self: &Rc<Self>, core: &Rc<Core>, now: Now) -> bool {
        if !self.dirty.replace(false) {
            return false;
        }
        let _stage = stages::enter(Stage::Device);
        let mut busy = false;
        loop {
            let Some(effect) = self.store.borrow_mut().poll(now) else { return busy };
            busy = true;
            match DeviceEffect::from_effect(effect) {
                Ok(operation) => self.start(core, operation),
                Err(Effect::Answer { token, answer }) => self.answer(core, token, answer),
                Err(Effect::Evicted(parts)) => core.evicted(self.target, parts, now),
                Err(_) => unreachable!("every other effect is the device's"),
            }
        }
    }

    fn answer(&self, core: &Rc<Core>, token: Token, answer: PartAnswer<Payload<DeviceBuffer>>) {
        let unwanted = self.withdrawn.borrow_mut().remove(&token);
        core.shard_answered(token, if unwanted { PartAnswer::Expired } else { answer });
    }

    /// Starts a device operation; its completion is the store's next event.
    fn start(self: &Rc<Self>, core: &Rc<Core>, operation: DeviceEffect) {
        if let DeviceEffect::Read { len, .. } = &operation {
            self.read_bytes.set(self.read_bytes.get() + *len as u64);
        }
        let watched = self.watch(&operation);
        let (shard, core) = (self.clone(), core.clone());
        core.clone().spawn(stages::within(Stage::Device, async move {
            let (io, result) = faults::perform(&shard.faults, &shard.device, operation).await;
            drop(watched);
            {
                let _stage = stages::enter(Stage::Verify);
                shard.store.borrow_mut().complete(io, result, clock::now());
            }
            shard.dirty.set(true);
            core.pump();
        }));
    }

    /// Reads what the store has not asked for, with this shard's faults, and watched as long as somebody waits for it.
    pub async fn read_outside(self: &Rc<Self>, offset: u64, len: usize) -> Result<DeviceBuffer, IoError> {
        match self.perform_outside(DeviceEffect::Read { io: IoId(0), offset, len }).await {
            IoResult::Read(read) => read,
            IoResult::Done(_) => unreachable!("a read gives a buffer"),
        }
    }

    /// Writes what the store has not asked for, likewise. To slabs that are lent only.
    pub async fn write_outside(self: &Rc<Self>, offset: u64, buf: DeviceBuffer) -> Result<(), IoError> {
        match self.perform_outside(DeviceEffect::Write { io: IoId(0), offset, buf }).await {
            IoResult::Done(written) => written,
            IoResult::Read(_) => unreachable!("a write gives no buffer"),
        }
    }

    async fn perform_outside(self: &Rc<Self>, operation: DeviceEffect) -> IoResult<DmaBuffers> {
        let _watched = self.watch(&operation);
        faults::perform(&self.faults, &self.device, operation).await.1
    }

    /// An operation is under way until what this gives is dropped.
    fn watch(self: &Rc<Self>, operation: &DeviceEffect) -> Watched {
        let number = self.begun.get();
        self.begun.set(number + 1);
        self.under_way.borrow_mut().insert(number, operation.name());
        Watched { shard: self.clone(), number }
    }
}

/// A device operation under way.
struct Watched {
    shard: Rc<Shard>,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.shard.under_way.borrow_mut().remove(&self.number);
    }
}
