//! Waiting at the gates of a key, and the puts of several stripes, which are under way over many calls.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use futures_lite::future::or;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{KeyHash, Version};

use crate::gates::{self, Entry};
use crate::shell::clock;
use crate::shell::oneshot;

/// The gates of a core's keys: who waits is told through a channel.
#[derive(Clone, Default)]
pub struct Gates(Rc<RefCell<gates::Gates<oneshot::Sender<()>>>>);

/// Held by a write that is under way.
pub struct Gate {
    gates: Gates,
    hash: KeyHash,
}

impl Gates {
    /// Waits for its turn, in the order of coming; nothing if the deadline comes first.
    pub async fn enter(&self, hash: KeyHash, entry: Entry, deadline: Timestamp) -> Option<Gate> {
        let mut turn = None;
        let waiter = || {
            let (sender, receiver) = oneshot::channel();
            turn = Some(receiver);
            sender
        };
        self.0.borrow_mut().enter(hash, entry, waiter);
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
        let admitted = self.0.borrow_mut().leave(hash, oneshot::Sender::abandoned);
        admitted.into_iter().for_each(|turn| turn.send(()));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.gates.leave(self.hash);
    }
}

/// Puts of several stripes from their begin to their end; each has its gate if it has a condition.
#[derive(Default)]
pub struct OpenPuts(RefCell<BTreeMap<(KeyHash, Version), Option<Gate>>>);

impl OpenPuts {
    /// A put has begun. A `gate` is held until its end.
    pub fn begin(&self, hash: KeyHash, version: Version, gate: Option<Gate>) {
        self.0.borrow_mut().insert((hash, version), gate);
    }

    /// A put has ended.
    pub fn end(&self, hash: KeyHash, version: Version) {
        self.0.borrow_mut().remove(&(hash, version));
    }

    /// Whether a put is under way, and if so, whether it holds a gate.
    pub fn gated(&self, hash: KeyHash, version: Version) -> Option<bool> {
        self.0.borrow().get(&(hash, version)).map(Option::is_some)
    }

    /// Whether any put of a key is under way.
    pub fn any(&self, hash: KeyHash) -> bool {
        let last = Version { hlc: u64::MAX, coordinator: u16::MAX };
        self.0.borrow().range((hash, Version::ZERO)..=(hash, last)).next().is_some()
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
    fn puts_are_open_from_begin_to_end() {
        let puts = OpenPuts::default();
        let version = |hlc| Version { hlc, coordinator: 1 };
        let gates = Gates::default();
        assert!(gates.0.borrow_mut().enter(KEY, Entry::Exclusive, || unreachable!()));
        puts.begin(KEY, version(7), Some(Gate { gates: gates.clone(), hash: KEY }));
        puts.begin(KEY, version(8), None);
        assert!(puts.any(KEY) && !puts.any(KeyHash(6)) && !puts.any(KeyHash(8)));
        assert_eq!(puts.gated(KEY, version(7)), Some(true));
        assert_eq!(puts.gated(KEY, version(8)), Some(false));
        assert_eq!(puts.gated(KEY, version(9)), None);
        puts.end(KEY, version(7));
        assert!(gates.0.borrow().is_empty(), "its end lets others in");
        assert!(puts.any(KEY));
        puts.end(KEY, version(8));
        assert!(!puts.any(KEY));
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
