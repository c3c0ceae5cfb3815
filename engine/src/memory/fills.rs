//! Reads under way whose result may be kept, by key, and what has come to be known of the key meanwhile.
//!
//! Exact: what happens to one key refuses no fill of another.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use hedgerow_wire::{KeyHash, Version};

use super::MixKeyHash;

/// Above every version that is ever given.
const ALL: Version = Version::last_of_clock(u64::MAX);

/// What fills of one key have to be as new as; shared by those that are under way.
type AtLeast = Rc<Cell<Version>>;
type ByKey = Rc<RefCell<HashMap<KeyHash, AtLeast, MixKeyHash>>>;

/// Fills under way.
#[derive(Default)]
pub(super) struct Fills(ByKey);

impl Fills {
    /// Keys of which a read is under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// A read of `hash` begins.
    pub(super) fn begin(&self, hash: KeyHash) -> FillToken {
        let at_least = self.0.borrow_mut().entry(hash).or_default().clone();
        FillToken { hash, at_least, fills: self.0.clone() }
    }

    /// Fills of `hash` under way are refused from here on, whatever they found.
    pub(super) fn refuse(&self, hash: KeyHash) {
        if let Some(at_least) = self.0.borrow_mut().remove(&hash) {
            at_least.set(ALL);
        }
    }

    /// Fills of `hash` under way are refused if they found anything older than `version`.
    pub(super) fn refuse_older(&self, hash: KeyHash, version: Version) {
        if let Some(at_least) = self.0.borrow().get(&hash) {
            at_least.set(at_least.get().max(version));
        }
    }
}

/// A read under way whose result may be kept; taken before the read of its parts starts.
#[must_use]
pub struct FillToken {
    hash: KeyHash,
    at_least: AtLeast,
    fills: ByKey,
}

impl FillToken {
    /// Whether nothing newer than `version` of the key `hash` came to be known since the token was taken.
    pub(super) fn allows(&self, hash: KeyHash, version: Version) -> bool {
        assert_eq!(self.hash, hash, "a token of another key");
        version >= self.at_least.get()
    }
}

impl Drop for FillToken {
    fn drop(&mut self) {
        let mut fills = self.fills.borrow_mut();
        // This one and the table are the last to hold it; after a write the table holds another one.
        let last = Rc::strong_count(&self.at_least) == 2;
        if last && fills.get(&self.hash).is_some_and(|at_least| Rc::ptr_eq(at_least, &self.at_least)) {
            fills.remove(&self.hash);
        }
    }
}
