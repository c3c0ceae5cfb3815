//! Writes of one key: those with a condition exclude all others, the rest go side by side.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use futures_lite::future::or;
use hedgerow_wire::KeyHash;
use hedgerow_wire::time::Timestamp;

use crate::shell::clock;
use crate::shell::oneshot;

/// How a write enters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Beside other unconditional writes.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Default)]
struct State {
    inside: usize,
    exclusive: bool,
    waiting: VecDeque<(Entry, oneshot::Sender<()>)>,
}

/// The gates of a core's keys. A key has one only while a write of it is under way.
#[derive(Clone, Default)]
pub struct Gates(Rc<RefCell<HashMap<KeyHash, State>>>);

/// Held by a write that is under way.
pub struct Gate {
    gates: Gates,
    hash: KeyHash,
}

impl Gates {
    /// Waits for its turn, in the order of coming; nothing if the deadline comes first.
    pub async fn enter(&self, hash: KeyHash, entry: Entry, deadline: Timestamp) -> Option<Gate> {
        let turn = {
            let mut gates = self.0.borrow_mut();
            let state = gates.entry(hash).or_default();
            if state.waiting.is_empty() && state.admits(entry) {
                state.admit(entry);
                None
            } else {
                let (sender, receiver) = oneshot::channel();
                state.waiting.push_back((entry, sender));
                Some(receiver)
            }
        };
        if let Some(turn) = turn {
            let late = async {
                glommio::timer::sleep(deadline.since(clock::timestamp())).await;
                None
            };
            // Whoever gave up waiting is passed over when its turn comes.
            or(turn, late).await?;
        }
        Some(Gate { gates: self.clone(), hash })
    }

    fn leave(&self, hash: KeyHash) {
        let mut gates = self.0.borrow_mut();
        let Some(state) = gates.get_mut(&hash) else { return };
        state.inside -= 1;
        state.exclusive = false;
        while let Some(&(entry, ref turn)) = state.waiting.front() {
            if turn.abandoned() {
                state.waiting.pop_front();
            } else if state.admits(entry) {
                state.admit(entry);
                if let Some((_, turn)) = state.waiting.pop_front() {
                    turn.send(());
                }
            } else {
                break;
            }
        }
        if state.inside == 0 && state.waiting.is_empty() {
            gates.remove(&hash);
        }
    }
}

impl State {
    fn admits(&self, entry: Entry) -> bool {
        !self.exclusive && (self.inside == 0 || entry == Entry::Shared)
    }

    fn admit(&mut self, entry: Entry) {
        self.inside += 1;
        self.exclusive = entry == Entry::Exclusive;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.gates.leave(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyHash = KeyHash(7);

    async fn enter(gates: &Gates, entry: Entry) -> Option<Gate> {
        futures_lite::future::poll_once(gates.enter(KEY, entry, Timestamp::NEVER)).await.flatten()
    }

    #[test]
    fn conditional_writes_are_alone_and_nobody_is_left_behind() {
        let executor = glommio::LocalExecutorBuilder::default().spawn(|| async {
            let gates = Gates::default();
            let first = enter(&gates, Entry::Shared).await;
            let second = enter(&gates, Entry::Shared).await;
            assert!(first.is_some() && second.is_some());
            let waiting = glommio::spawn_local({
                let gates = gates.clone();
                async move { gates.enter(KEY, Entry::Exclusive, Timestamp::NEVER).await }
            });
            glommio::executor().yield_task_queue_now().await;
            assert!(enter(&gates, Entry::Shared).await.is_none(), "passes one that waits");
            drop((first, second));
            let alone = waiting.await;
            assert!(alone.is_some());
            assert!(enter(&gates, Entry::Shared).await.is_none());
            drop(alone);
            assert!(gates.0.borrow().is_empty());
            let past = gates.enter(KEY, Entry::Exclusive, Timestamp(0)).await;
            let late = gates.enter(KEY, Entry::Shared, Timestamp(0)).await;
            assert!(past.is_some() && late.is_none(), "waits no longer than its deadline");
        });
        executor.unwrap().join().unwrap();
    }
}
