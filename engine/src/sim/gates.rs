//! Writes of one key in a home: those with a condition exclude all others, the rest go side by side. The rules
//! of the shell's gates, for calls that are no futures.

use std::collections::{BTreeMap, VecDeque};

use hedgerow_wire::KeyHash;

/// How a write enters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Beside other unconditional writes.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Default)]
struct State {
    inside: usize,
    exclusive: bool,
    waiting: VecDeque<(Entry, u32)>,
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

/// The gates of a home's keys.
#[derive(Default)]
pub(super) struct Gates(BTreeMap<KeyHash, State>);

impl Gates {
    /// Whether a call may go on at once; else it waits.
    pub(super) fn enter(&mut self, hash: KeyHash, entry: Entry, call: u32) -> bool {
        let state = self.0.entry(hash).or_default();
        let now = state.waiting.is_empty() && state.admits(entry);
        if now {
            state.admit(entry);
        } else {
            state.waiting.push_back((entry, call));
        }
        now
    }

    /// A call no longer waits; whether it did.
    pub(super) fn give_up(&mut self, hash: KeyHash, call: u32) -> bool {
        let Some(state) = self.0.get_mut(&hash) else { return false };
        let before = state.waiting.len();
        state.waiting.retain(|(_, other)| *other != call);
        state.waiting.len() < before
    }

    /// A call leaves; those that may go on now.
    pub(super) fn leave(&mut self, hash: KeyHash) -> Vec<u32> {
        let Some(state) = self.0.get_mut(&hash) else { return Vec::new() };
        state.inside -= 1;
        state.exclusive = false;
        let mut admitted = Vec::new();
        while let Some(&(entry, call)) = state.waiting.front()
            && state.admits(entry)
        {
            state.admit(entry);
            state.waiting.pop_front();
            admitted.push(call);
        }
        if state.inside == 0 && state.waiting.is_empty() {
            self.0.remove(&hash);
        }
        admitted
    }

    /// Keys with writes under way.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditional_writes_are_alone_and_nobody_is_left_behind() {
        let (mut gates, key) = (Gates::default(), KeyHash(7));
        assert!(gates.enter(key, Entry::Shared, 1) && gates.enter(key, Entry::Shared, 2));
        assert!(!gates.enter(key, Entry::Exclusive, 3), "others are inside");
        assert!(!gates.enter(key, Entry::Shared, 4), "passes one that waits");
        assert!(!gates.enter(key, Entry::Shared, 5));
        assert!(gates.give_up(key, 4) && !gates.give_up(key, 4) && !gates.give_up(key, 1));
        assert!(gates.leave(key).is_empty());
        assert_eq!(gates.leave(key), [3]);
        assert_eq!(gates.leave(key), [5]);
        assert_eq!((gates.leave(key), gates.len()), (vec![], 0));
    }
}
