//! Writes of one key: those with a condition exclude all others, the rest go side by side.
//!
//! Whoever has to wait is a `W` of the caller's, which comes back when its turn has come.

use std::collections::{HashMap, VecDeque};

use hedgerow_wire::KeyHash;

/// How a write enters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Beside other unconditional writes.
    Shared,
    /// Alone.
    Exclusive,
}

struct State<W> {
    inside: usize,
    exclusive: bool,
    waiting: VecDeque<(Entry, W)>,
}

impl<W> State<W> {
    fn admits(&self, entry: Entry) -> bool {
        !self.exclusive && (self.inside == 0 || entry == Entry::Shared)
    }

    fn admit(&mut self, entry: Entry) {
        self.inside += 1;
        self.exclusive = entry == Entry::Exclusive;
    }
}

/// The gates of a home's keys. A key has one only while a write of it is under way.
pub struct Gates<W>(HashMap<KeyHash, State<W>>);

impl<W> Default for Gates<W> {
    fn default() -> Gates<W> {
        Gates(HashMap::new())
    }
}

impl<W> Gates<W> {
    /// Enters at once if nobody is before it whom it has to let pass; else `waiter` is kept.
    pub fn enter(&mut self, hash: KeyHash, entry: Entry, waiter: impl FnOnce() -> W) -> bool {
        let nobody = || State { inside: 0, exclusive: false, waiting: VecDeque::new() };
        let state = self.0.entry(hash).or_insert_with(nobody);
        let at_once = state.waiting.is_empty() && state.admits(entry);
        if at_once {
            state.admit(entry);
        } else {
            state.waiting.push_back((entry, waiter()));
        }
        at_once
    }

    /// One that was inside leaves. Those whose turn has come, in the order of coming: they are inside now. Who
    /// is `gone` is passed over.
    pub fn leave(&mut self, hash: KeyHash, gone: impl Fn(&W) -> bool) -> Vec<W> {
        let Some(state) = self.0.get_mut(&hash) else { return Vec::new() };
        state.inside -= 1;
        state.exclusive = false;
        let mut admitted = Vec::new();
        while let Some((entry, waiter)) = state.waiting.pop_front() {
            if gone(&waiter) {
                continue;
            }
            if !state.admits(entry) {
                state.waiting.push_front((entry, waiter));
                break;
            }
            state.admit(entry);
            admitted.push(waiter);
        }
        if state.inside == 0 && state.waiting.is_empty() {
            self.0.remove(&hash);
        }
        admitted
    }

    /// Those of a key that wait no longer are taken out; whether there were any.
    pub fn give_up(&mut self, hash: KeyHash, gone: impl Fn(&W) -> bool) -> bool {
        let Some(state) = self.0.get_mut(&hash) else { return false };
        let before = state.waiting.len();
        state.waiting.retain(|(_, waiter)| !gone(waiter));
        state.waiting.len() < before
    }

    /// Keys with writes under way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no write is under way.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyHash = KeyHash(7);

    #[test]
    fn conditional_writes_are_alone_and_nobody_is_left_behind() {
        let mut gates = Gates::default();
        let mut enter = |entry, who: u32| gates.enter(KEY, entry, || who);
        assert!(enter(Entry::Shared, 1) && enter(Entry::Shared, 2));
        assert!(!enter(Entry::Exclusive, 3), "others are inside");
        assert!(!enter(Entry::Shared, 4), "passes one that waits");
        assert!(!enter(Entry::Shared, 5) && !enter(Entry::Exclusive, 6) && !enter(Entry::Shared, 7));
        let is = |who: u32| move |waiter: &u32| *waiter == who;
        assert!(gates.give_up(KEY, is(4)) && !gates.give_up(KEY, is(4)) && !gates.give_up(KEY, is(1)));
        let none = |_: &u32| false;
        assert!(gates.leave(KEY, none).is_empty());
        assert_eq!(gates.leave(KEY, none), [3]);
        assert_eq!(gates.leave(KEY, none), [5], "the next one is to be alone");
        assert_eq!(gates.leave(KEY, is(6)), [7], "who is gone is passed over");
        assert_eq!((gates.leave(KEY, none), gates.is_empty()), (vec![], true));
        // Another key is nobody's business.
        assert!(gates.enter(KEY, Entry::Exclusive, || 8) && gates.enter(KeyHash(8), Entry::Exclusive, || 9));
        assert_eq!(gates.len(), 2);
    }
}
