//! Between cores: calls to a key's home, and what comes out of a mailbox.

use std::rc::Rc;

use futures_lite::future::or;
use hedgerow_wire::frame::Status;
use hedgerow_wire::part::PartAnswer;

use super::asks::Asker;
use super::buffers::PartBytes;
use super::clock;
use super::core::Core;
use super::home::{self, Call, Reply};
use super::message::Message;
use super::oneshot::{self, Signal};
use super::stages::{self, Stage};
use crate::coordinator::AskId;

impl Core {
    /// Calls a key's home, on this core or another. Dropping the future cancels the call.
    pub async fn call(self: &Rc<Self>, home: usize, call: Call) -> Reply<PartBytes> {
        if home == self.id {
            return home::serve(self, call).await;
        }
        let number = self.number();
        let (sender, receiver) = oneshot::channel();
        self.calls.borrow_mut().insert(number, sender);
        self.outbox(home).send(Message::Call { call: number, request: Box::new(call) });
        let mut guard = CallGuard { core: self.clone(), home, call: Some(number) };
        let reply = receiver.await;
        guard.call = None;
        reply.unwrap_or(Reply::Status(Status::ShuttingDown)).map(PartBytes::Shared)
    }

    /// Takes a message from another core.
    pub fn receive(self: &Rc<Self>, from: usize, message: Message) {
        let _stage = stages::enter(Stage::Mailbox);
        let now = clock::now();
        match message {
            Message::Ask { ask, shard, request } => {
                let found = self.shards.borrow().get(&shard).cloned();
                match found {
                    Some(shard) => shard.ask(Asker::Coordinator { core: from, ask }.token(), &request, now),
                    None => self.outbox(from).send(Message::Answer { ask, answer: PartAnswer::Failed }),
                }
            }
            Message::Withdraw { ask, shard } => {
                if let Some(shard) = self.shards.borrow().get(&shard) {
                    shard.withdraw(Asker::Coordinator { core: from, ask }.token());
                }
            }
            Message::Drops { shard, drops } => {
                if let Some(shard) = self.shards.borrow().get(&shard) {
                    shard.drop_records(&drops, now);
                }
            }
            Message::Touches { shard, touches } => {
                let found = self.shards.borrow().get(&shard).cloned();
                if let Some(shard) = found {
                    let missed = shard.touch(&touches);
                    let target = shard.target;
                    if from == self.id {
                        self.touch_missed(target, &missed, now);
                    } else if !missed.is_empty() {
                        self.outbox(from).send(Message::TouchMissed { target, missed });
                    }
                }
            }
            Message::Answer { ask, answer } => {
                let answer = answer.map(PartBytes::Shared);
                self.answered.borrow_mut().push_back((AskId(ask), answer));
            }
            Message::TouchMissed { target, missed } => self.touch_missed(target, &missed, now),
            Message::Evicted { target, parts } => {
                self.coordinator.borrow_mut().evicted(&parts, target, now);
            }
            Message::Call { call, request } => self.serve_call(from, call, *request),
            Message::CancelCall { call } => {
                if let Some(cancelled) = self.serving.borrow().get(&(from, call)) {
                    cancelled.raise();
                }
            }
            Message::Done { call, reply } => {
                if let Some(waiter) = self.calls.borrow_mut().remove(&call) {
                    waiter.send(*reply);
                }
            }
            Message::Run(job) => job(self),
        }
    }

    fn serve_call(self: &Rc<Self>, from: usize, call: u64, request: Call) {
        let cancelled = Rc::new(Signal::default());
        self.serving.borrow_mut().insert((from, call), cancelled.clone());
        let core = self.clone();
        self.spawn(stages::within(Stage::Request, async move {
            let served = async { Some(home::serve(&core, request).await) };
            let stopped = async {
                cancelled.wait().await;
                None
            };
            let reply = or(served, stopped).await;
            core.serving.borrow_mut().remove(&(from, call));
            if let Some(reply) = reply {
                let reply = Box::new(reply.into_sendable());
                core.outbox(from).send(Message::Done { call, reply });
            }
        }));
    }
}

/// Cancels a call to another core if nobody waits for it any more.
struct CallGuard {
    core: Rc<Core>,
    home: usize,
    call: Option<u64>,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.core.calls.borrow_mut().remove(&call);
            self.core.outbox(self.home).send(Message::CancelCall { call });
        }
    }
}
