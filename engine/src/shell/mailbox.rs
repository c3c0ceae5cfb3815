//! What cores say to each other: part requests and their answers, whole calls to a key's home, and
//! control. One bounded single-producer channel for every ordered pair of cores.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::channels::shared_channel::ConnectedSender;
use hedgerow_wire::Target;
use hedgerow_wire::part::{PartAnswer, PartConfirm, PartDrop, PartRead, PartTouch, PartWrite};

use super::buffers::SharedBytes;
use super::core::Core;
use super::home::{Call, Reply};
use super::oneshot::Signal;
use super::stages::{self, Stage};

/// What a coordinator asks of a shard.
pub enum ShardRequest {
    /// A part.
    Read(PartRead),
    /// To keep a part.
    Write(Box<PartWrite>, SharedBytes),
    /// How what it holds stands to a version.
    Confirm(PartConfirm),
}

/// What runs on another core.
pub type Job = Box<dyn FnOnce(&Rc<Core>) + Send>;

/// From one core to another.
pub enum Message {
    /// To the core of a shard.
    Ask { ask: u64, shard: u16, request: ShardRequest },
    /// The answer is no longer wanted.
    Withdraw { ask: u64, shard: u16 },
    /// Records to let go.
    Drops { shard: u16, drops: Vec<PartDrop> },
    /// Records that were used.
    Touches { shard: u16, touches: Vec<PartTouch> },
    /// To the core that asked.
    Answer { ask: u64, answer: PartAnswer<SharedBytes> },
    /// Touched records that a target does not hold.
    TouchMissed { target: Target, missed: Vec<PartTouch> },
    /// Parts that a target has let go, to their home.
    Evicted { target: Target, parts: Vec<PartDrop> },
    /// To a key's home.
    Call { call: u64, request: Box<Call> },
    /// The caller no longer wants it.
    CancelCall { call: u64 },
    /// From a key's home.
    Done { call: u64, reply: Box<Reply<SharedBytes>> },
    /// Control: runs there. Never on the path of a request.
    Run(Job),
}

/// The sending end of a mailbox. Messages that find the channel full wait here in order; their number
/// is bounded by the bounds of the requests that cause them.
pub struct Outbox {
    sender: RefCell<Option<Rc<ConnectedSender<Message>>>>,
    waiting: RefCell<VecDeque<Message>>,
    signal: Signal,
    /// A message is on its way out of `waiting`: later ones must queue behind it.
    forwarding: Cell<bool>,
    closed: Cell<bool>,
}

impl Outbox {
    /// An outbox that is not connected yet: messages wait.
    pub fn new() -> Outbox {
        Outbox {
            sender: RefCell::new(None),
            waiting: RefCell::new(VecDeque::new()),
            signal: Signal::default(),
            forwarding: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    /// Sends now if there is room, else when there is.
    pub fn send(&self, message: Message) {
        if self.closed.get() {
            return;
        }
        let _stage = stages::enter(Stage::Mailbox);
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty()
            && !self.forwarding.get()
            && let Some(sender) = self.sender.borrow().as_ref()
        {
            match sender.try_send(message) {
                Ok(()) => return,
                Err(glommio::GlommioError::WouldBlock(glommio::ResourceType::Channel(message))) => {
                    waiting.push_back(message);
                }
                Err(_) => {
                    self.closed.set(true);
                    return;
                }
            }
        } else {
            waiting.push_back(message);
        }
        drop(waiting);
        self.signal.raise();
    }

    /// Connects the outbox and forwards what waits; runs as long as the core does.
    pub async fn run(self: Rc<Self>, sender: ConnectedSender<Message>) {
        let sender = Rc::new(sender);
        *self.sender.borrow_mut() = Some(sender.clone());
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(message) = next else {
                self.signal.wait().await;
                continue;
            };
            self.forwarding.set(true);
            let sent = sender.send(message).await;
            self.forwarding.set(false);
            if sent.is_err() {
                self.closed.set(true);
                return;
            }
        }
    }
}
