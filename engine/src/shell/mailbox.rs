//! Between cores: one bounded single-producer channel for every ordered pair of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::channels::shared_channel::ConnectedSender;

use super::oneshot::Signal;
use super::stages::{self, Stage};

/// The sending end of a mailbox. Messages that find the channel full wait here in order; their number
/// is bounded by the bounds of the requests that cause them.
pub struct Outbox<T: Send + 'static> {
    sender: RefCell<Option<Rc<ConnectedSender<T>>>>,
    waiting: RefCell<VecDeque<T>>,
    signal: Signal,
    /// A message is on its way out of `waiting`: later ones must queue behind it.
    forwarding: Cell<bool>,
    closed: Cell<bool>,
}

impl<T: Send + 'static> Default for Outbox<T> {
    fn default() -> Outbox<T> {
        Outbox::new()
    }
}

impl<T: Send + 'static> Outbox<T> {
    /// An outbox that is not connected yet: messages wait.
    pub fn new() -> Outbox<T> {
        Outbox {
            sender: RefCell::new(None),
            waiting: RefCell::new(VecDeque::new()),
            signal: Signal::default(),
            forwarding: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    /// Sends now if there is room, else when there is.
    pub fn send(&self, message: T) {
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
    pub async fn run(self: Rc<Self>, sender: ConnectedSender<T>) {
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
