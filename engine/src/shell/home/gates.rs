//! Conditional writes of one key, one after the other.

use std::cell::RefCell;
use std::collections::HashMap;

use hedgerow_wire::KeyHash;

use crate::shell::oneshot;

/// Keys that have a conditional write under way: the next one waits. Nothing else does.
#[derive(Default)]
pub struct Gates(RefCell<HashMap<KeyHash, Vec<oneshot::Sender<()>>>>);

/// Held by the one that is under way.
pub struct Gate<'a> {
    gates: &'a Gates,
    hash: KeyHash,
}

impl Gates {
    /// Waits until no other conditional write of the key is under way.
    pub async fn enter(&self, hash: KeyHash) -> Gate<'_> {
        loop {
            let receiver = {
                let mut gates = self.0.borrow_mut();
                match gates.get_mut(&hash) {
                    None => {
                        gates.insert(hash, Vec::new());
                        return Gate { gates: self, hash };
                    }
                    Some(waiters) => {
                        let (sender, receiver) = oneshot::channel();
                        waiters.push(sender);
                        receiver
                    }
                }
            };
            receiver.await;
        }
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        // Dropping the senders wakes all who wait; the first one to run enters.
        self.gates.0.borrow_mut().remove(&self.hash);
    }
}
