//! One core: its coordinator, its shards, its memory tier, its mailboxes, and the loop that carries
//! events between them.
//!
//! Invariant: nothing here is shared with another core but through a mailbox. Invariant: no state
//! machine is called while another one is being drained; [`Core::pump`] is the only place that
//! drains, and it does not nest.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_lite::future::or;
use glommio::TaskQueueHandle;
use hedgerow_wire::part::{PartAnswer, PartDrop, PartTouch, PartWrite};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{KeyHash, Target};

use super::asks::{Asker, OpBytes};
use super::bodies::Bodies;
use super::buffers::{DeviceBuffer, PartBytes, SharedBytes};
use super::clock;
use super::connection::Connections;
use super::home::{self, Reply, StripeInMemory};
use super::limits::{RECEIVE_BYTES, TURN};
use super::mailbox::Outbox;
use super::memory_gets::MemoryGet;
use super::message::{Message, ShardRequest};
use super::oneshot::{self, Signal};
use super::settings::Settings;
use super::shapes::Shapes;
use super::shard::Shard;
use super::stages::{self, Stage};
use crate::codec::Codec;
use crate::coordinator::{Action, AskId, Coordinator, OpId, ReadOutcome, WriteOutcome};
use crate::memory::MemoryTier;
use crate::ring::Ring;
use crate::slab::{EvictedPart, Payload, Token};

/// What all cores know and none changes.
pub struct Shared {
    /// How the daemon runs.
    pub settings: Settings,
    /// The daemon's own random id.
    pub daemon_id: u128,
    /// The core of each shard.
    pub shard_cores: Vec<usize>,
    /// The cores that coordinate.
    pub coordinator_cores: Vec<usize>,
    /// The daemon is to stop.
    pub stopping: AtomicBool,
    /// Start of the process's clock, for the uptime.
    pub started: Timestamp,
    /// Where the daemon listens.
    pub address: SocketAddr,
    /// Mean size of a part that the indexes are made for, in bytes.
    pub mean_part_bytes: u64,
    /// The failure domain of each shard.
    pub domains: Vec<u32>,
    /// Why each shard is set aside; empty for those that are not.
    pub reasons: OnceLock<Vec<String>>,
    /// Connections of all cores.
    pub connections: AtomicUsize,
    /// Cores that have finished what was under way when the daemon was told to stop.
    pub drained: AtomicUsize,
}

impl Shared {
    /// The core that owns a key.
    pub fn home(&self, hash: KeyHash) -> usize {
        let high = (hash.0 >> 64) as u64;
        let place = (u128::from(high) * self.coordinator_cores.len() as u128) >> 64;
        self.coordinator_cores[place as usize]
    }
}

/// One core's state. Lives on its core, in an `Rc`.
pub struct Core {
    /// Which core.
    pub id: usize,
    /// What all cores know.
    pub shared: Arc<Shared>,
    /// Places keys on targets; the coordinator has the same one.
    pub ring: Ring,
    /// The coordinator.
    pub coordinator: RefCell<Coordinator<PartBytes>>,
    /// This core's shards, by shard number.
    pub shards: RefCell<HashMap<u16, Rc<Shard>>>,
    /// This core's share of the memory tier.
    pub memory: RefCell<MemoryTier<StripeInMemory>>,
    /// The codec.
    pub codec: RefCell<Codec>,
    /// Connections that this core serves.
    pub connections: Connections,
    /// Counters.
    pub counters: super::stats::Counters,
    /// What is received from any connection of this core, until it is decoded.
    pub receive_buffer: RefCell<Vec<u8>>,
    /// Gets that came together, while they are looked up.
    pub gets: RefCell<Vec<MemoryGet>>,
    /// Bodies of requests on their way in.
    pub bodies: Bodies,
    /// Values on their way back from other cores.
    pub waiting: super::control::Waiting,
    /// Shapes of objects that were met.
    pub shapes: Shapes,
    /// Keys with writes under way.
    pub gates: home::Gates,
    /// Puts of several stripes, from their begin to their end.
    pub open_puts: home::OpenPuts,
    outboxes: Vec<Option<Rc<Outbox<Message>>>>,
    reads: RefCell<HashMap<OpId, oneshot::Sender<ReadOutcome<PartBytes>>>>,
    writes: RefCell<HashMap<OpId, oneshot::Sender<WriteOutcome>>>,
    bytes: RefCell<HashMap<OpId, OpBytes>>,
    pub(super) calls: RefCell<HashMap<u64, oneshot::Sender<Reply<SharedBytes>>>>,
    pub(super) serving: RefCell<HashMap<(usize, u64), Rc<Signal>>>,
    direct: RefCell<HashMap<u64, oneshot::Sender<PartAnswer<PartBytes>>>>,
    next_number: Cell<u64>,
    pub(super) answered: RefCell<VecDeque<(AskId, PartAnswer<PartBytes>)>>,
    pumping: Cell<bool>,
    /// How often something came, which tells whether the core has something to do.
    pub(super) stirs: Cell<u64>,
    /// Raised when something comes.
    pub(super) stirred: Signal,
    /// When a state machine next wants to be ticked.
    next_deadline: Cell<Timestamp>,
    timer: Signal,
    /// Until when `timer` is waited for.
    armed: Cell<Timestamp>,
    queue: TaskQueueHandle,
}

impl Core {
    /// A core without shards or peers. `queue` is the task queue of the data path.
    pub fn new(
        id: usize,
        shared: Arc<Shared>,
        ring: Ring,
        coordinator: Coordinator<PartBytes>,
        memory: MemoryTier<StripeInMemory>,
        queue: TaskQueueHandle,
    ) -> Rc<Core> {
        let cores = shared.settings.cores.len();
        Rc::new(Core {
            id,
            ring,
            coordinator: RefCell::new(coordinator),
            shards: RefCell::default(),
            memory: RefCell::new(memory),
            codec: RefCell::new(Codec::new()),
            connections: Connections::default(),
            counters: super::stats::Counters::default(),
            receive_buffer: RefCell::new(vec![0; RECEIVE_BYTES]),
            gets: RefCell::default(),
            bodies: Bodies::default(),
            waiting: super::control::Waiting::default(),
            shapes: Shapes::default(),
            gates: home::Gates::default(),
            open_puts: home::OpenPuts::default(),
            outboxes: (0..cores).map(|peer| (peer != id).then(|| Rc::new(Outbox::new()))).collect(),
            reads: RefCell::default(),
            writes: RefCell::default(),
            bytes: RefCell::default(),
            calls: RefCell::default(),
            serving: RefCell::default(),
            direct: RefCell::default(),
            next_number: Cell::new(1),
            answered: RefCell::default(),
            pumping: Cell::new(false),
            stirs: Cell::new(0),
            stirred: Signal::default(),
            next_deadline: Cell::new(Timestamp::NEVER),
            timer: Signal::default(),
            armed: Cell::new(Timestamp::NEVER),
            queue,
            shared,
        })
    }

    /// The outbox to another core.
    pub fn outbox(&self, core: usize) -> &Rc<Outbox<Message>> {
        self.outboxes[core].as_ref().unwrap_or_else(|| panic!("core {core} sends to itself"))
    }

    /// Runs a task on the data path's queue, to its end.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        drop(self.task(task).detach());
    }

    /// Runs a task on the data path's queue, as long as it is held.
    pub fn task<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> glommio::Task<T> {
        match glommio::spawn_local_into(task, self.queue) {
            Ok(task) => task,
            Err(error) => panic!("the data path's task queue is gone: {error}"),
        }
    }

    /// Runs a closure on another core (or this one): control, never on the path of a request.
    pub fn run_on(self: &Rc<Self>, core: usize, job: impl FnOnce(&Rc<Core>) + Send + 'static) {
        if core == self.id {
            job(self);
        } else {
            self.outbox(core).send(Message::Run(Box::new(job)));
        }
    }

    /// Whether the daemon is to stop.
    pub fn stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    pub(super) fn number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    /// Something came for this core to do.
    pub(super) fn stir(&self) {
        self.stirs.set(self.stirs.get() + 1);
        self.stirred.raise();
    }

    /// Carries events until nothing more happens, and ticks what is due. Every entry from outside ends
    /// with it, so that no timer waits for the runtime while there is work.
    pub fn pump(self: &Rc<Self>) {
        if self.pumping.replace(true) {
            return;
        }
        let _stage = stages::enter(Stage::Coordinate);
        self.stir();
        let mut now = clock::now();
        if self.next_deadline.get() <= now.mono {
            self.coordinator.borrow_mut().tick(now);
            for shard in self.shards.borrow().values() {
                shard.tick(now);
            }
        }
        while self.carry(now) {
            now = clock::now();
        }
        self.pumping.set(false);
        let of_shards = self.shards.borrow().values().filter_map(|shard| shard.next_deadline()).min();
        let of_coordinator = self.coordinator.borrow().next_deadline();
        let next = of_shards.into_iter().chain(of_coordinator).min().unwrap_or(Timestamp::NEVER);
        self.next_deadline.set(next);
        if next < self.armed.get() {
            self.timer.raise();
        }
    }

    /// Carries what there is once around; whether there was anything.
    fn carry(self: &Rc<Self>, now: Now) -> bool {
        let mut busy = false;
        loop {
            let Some(action) = self.coordinator.borrow_mut().poll() else { break };
            busy = true;
            self.act(action, now);
        }
        for shard in self.shards.borrow().values() {
            busy |= shard.drain(self, now);
        }
        loop {
            let Some((ask, answer)) = self.answered.borrow_mut().pop_front() else { break };
            busy = true;
            self.coordinator.borrow_mut().answer(ask, answer, now);
        }
        busy
    }

    /// The one timer of this core: wakes it when a state machine wants to be ticked.
    pub async fn run_timer(self: Rc<Self>) {
        loop {
            self.pump();
            let next = self.next_deadline.get();
            self.armed.set(next);
            // What wakes the timer early is a deadline before the one that it waits for. It always waits, if
            // only for its turn: a deadline that stays in the past must not keep this core to itself.
            let nap = next.since(clock::timestamp()).clamp(TURN, Duration::from_secs(1));
            or(self.timer.wait(), async {
                glommio::timer::sleep(nap).await;
            })
            .await;
        }
    }

    fn act(self: &Rc<Self>, action: Action<PartBytes>, now: Now) {
        match action {
            Action::AskRead { ask, target, read } => self.ask(ask, target, ShardRequest::Read(read), now),
            Action::AskConfirm { ask, target, confirm } => {
                self.ask(ask, target, ShardRequest::Confirm(confirm), now);
            }
            Action::AskWrite { ask, op, target, part, purpose, deadline, ack } => {
                let found = self.bytes.borrow().get(&op).and_then(|bytes| bytes.part(part));
                match found {
                    Some((meta, payload)) => {
                        let write = Box::new(PartWrite { meta, ack, purpose, deadline });
                        self.ask(ask, target, ShardRequest::Write(write, payload), now);
                    }
                    // The bytes were let go: for the coordinator the target has not got its part.
                    None => self.answered.borrow_mut().push_back((ask, PartAnswer::Failed)),
                }
            }
            Action::AskDrop { target, drops } => match self.local(target) {
                Some(shard) => shard.drop_records(&drops, now),
                None => self.post(target, |shard| Message::Drops { shard, drops }),
            },
            Action::Touch { target, touches } => match self.local(target) {
                Some(shard) => {
                    let missed = shard.touch(&touches);
                    self.touch_missed(target, &missed, now);
                }
                None => self.post(target, |shard| Message::Touches { shard, touches }),
            },
            Action::Withdraw { ask, target } => match self.local(target) {
                Some(shard) => shard.withdraw(Asker::Coordinator { core: self.id, ask: ask.0 }.token()),
                None => self.post(target, |shard| Message::Withdraw { ask: ask.0, shard }),
            },
            Action::ReadDone { op, outcome } => {
                if let Some(waiter) = self.reads.borrow_mut().remove(&op) {
                    waiter.send(outcome);
                }
            }
            Action::WriteDone { op, outcome } => {
                if let Some(waiter) = self.writes.borrow_mut().remove(&op) {
                    waiter.send(outcome);
                }
            }
            Action::Release { op } => drop(self.bytes.borrow_mut().remove(&op)),
            Action::Rebuild { op, meta, have, want } => {
                let rebuilt = home::rebuild(&mut self.codec.borrow_mut(), &meta, &have, &want);
                if rebuilt.len() < want.len() {
                    return self.coordinator.borrow_mut().rebuild_failed(op, now);
                }
                self.bytes.borrow_mut().insert(op, OpBytes::Rebuilt { meta, parts: rebuilt });
                self.coordinator.borrow_mut().rebuilt(op, now);
            }
        }
    }

    fn local(&self, target: Target) -> Option<Rc<Shard>> {
        self.shards.borrow().get(&target.shard).cloned()
    }

    /// Sends to the core of a shard that is not on this one. A shard that no core has (set aside) is
    /// silently not told: it holds nothing that could be let go.
    fn post(&self, target: Target, message: impl FnOnce(u16) -> Message) {
        let core = self.shared.shard_cores[usize::from(target.shard)];
        if core != self.id {
            self.outbox(core).send(message(target.shard));
        }
    }

    fn ask(self: &Rc<Self>, ask: AskId, target: Target, request: ShardRequest, now: Now) {
        match self.local(target) {
            Some(shard) => {
                shard.ask(Asker::Coordinator { core: self.id, ask: ask.0 }.token(), &request, now);
            }
            None if self.shared.shard_cores[usize::from(target.shard)] == self.id => {
                self.answered.borrow_mut().push_back((ask, PartAnswer::Failed));
            }
            None => self.post(target, |shard| Message::Ask { ask: ask.0, shard, request }),
        }
    }

    /// A shard of this core has an answer.
    pub fn shard_answered(self: &Rc<Self>, token: Token, answer: PartAnswer<Payload<DeviceBuffer>>) {
        match Asker::from_token(token) {
            Asker::Coordinator { core, ask } if core == self.id => {
                self.answered.borrow_mut().push_back((AskId(ask), answer.map(PartBytes::Device)));
            }
            Asker::Coordinator { core, ask } => {
                // The one copy of a read that crosses cores, made on the shard's core.
                let _stage = stages::enter(Stage::Mailbox);
                let answer = answer.map(|payload| PartBytes::Device(payload).into_shared());
                self.outbox(core).send(Message::Answer { ask, answer });
            }
            Asker::Direct(number) => {
                if let Some(waiter) = self.direct.borrow_mut().remove(&number) {
                    waiter.send(answer.map(PartBytes::Device));
                }
            }
        }
    }

    /// A shard of this core has let parts go: their homes are to know.
    pub fn evicted(self: &Rc<Self>, target: Target, parts: Vec<EvictedPart>, now: Now) {
        let mut of_cores: HashMap<usize, Vec<PartDrop>> = HashMap::new();
        for EvictedPart { hash, record, version } in parts {
            let part = PartDrop { hash, record, version };
            of_cores.entry(self.shared.home(hash)).or_default().push(part);
        }
        for (core, parts) in of_cores {
            if core == self.id {
                self.coordinator.borrow_mut().evicted(&parts, target, now);
            } else {
                self.outbox(core).send(Message::Evicted { target, parts });
            }
        }
    }

    pub(super) fn touch_missed(&self, target: Target, missed: &[PartTouch], now: Now) {
        let mut coordinator = self.coordinator.borrow_mut();
        for touch in missed {
            coordinator.touch_missed(touch.hash, touch.record, target, now);
        }
    }

    /// Asks a shard of this core outside of any coordinator (for another member, for stat or verify).
    pub async fn ask_direct(
        self: &Rc<Self>,
        shard: u16,
        request: ShardRequest,
        deadline: Timestamp,
    ) -> PartAnswer<PartBytes> {
        let Some(shard) = self.shards.borrow().get(&shard).cloned() else { return PartAnswer::Failed };
        let number = self.number();
        let (sender, receiver) = oneshot::channel();
        self.direct.borrow_mut().insert(number, sender);
        let token = Asker::Direct(number).token();
        shard.ask(token, &request, clock::now());
        self.pump();
        let late = async {
            glommio::timer::sleep(deadline.since(clock::timestamp())).await;
            None
        };
        let answer = or(receiver, late).await;
        if answer.is_none() {
            self.direct.borrow_mut().remove(&number);
            shard.cancel(token);
            self.pump();
        }
        answer.unwrap_or(PartAnswer::Expired)
    }

    /// When the answer to a request that is taken up at `now` has to be ready: every wait outside of the
    /// coordinator ends by then.
    pub fn answer_by(&self, deadline: Timestamp, now: Timestamp) -> Timestamp {
        self.coordinator.borrow().answer_by(deadline, now)
    }

    /// Starts a read and waits for its outcome.
    pub async fn read(self: &Rc<Self>, request: crate::coordinator::ReadRequest) -> ReadOutcome<PartBytes> {
        let (sender, receiver) = oneshot::channel();
        let op = {
            let _stage = stages::enter(Stage::Coordinate);
            self.coordinator.borrow_mut().read(request, clock::now())
        };
        self.reads.borrow_mut().insert(op, sender);
        let guard = CancelOnDrop { core: self.clone(), op: Some(op) };
        self.pump();
        let outcome = receiver.await;
        guard.done();
        outcome.unwrap_or(ReadOutcome::DeadlineExceeded)
    }

    /// Starts a write of `bytes` and waits for its outcome.
    pub async fn write(
        self: &Rc<Self>,
        request: crate::coordinator::WriteRequest,
        bytes: OpBytes,
    ) -> WriteOutcome {
        let (sender, receiver) = oneshot::channel();
        let op = {
            let _stage = stages::enter(Stage::Coordinate);
            self.coordinator.borrow_mut().write(request, clock::now())
        };
        self.writes.borrow_mut().insert(op, sender);
        self.bytes.borrow_mut().insert(op, bytes);
        self.pump();
        receiver.await.unwrap_or(WriteOutcome::Indeterminate)
    }
}

/// Cancels a coordinator's read if nobody waits for it any more.
struct CancelOnDrop {
    core: Rc<Core>,
    op: Option<OpId>,
}

impl CancelOnDrop {
    fn done(mut self) {
        self.op = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(op) = self.op {
            self.core.reads.borrow_mut().remove(&op);
            self.core.coordinator.borrow_mut().cancel_read(op, clock::now());
            self.core.pump();
        }
    }
}
