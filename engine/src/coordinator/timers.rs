//! One timer for each operation: a binary heap that knows where each timer stands, so that a timer
//! is moved or cleared in place and nothing stale stays behind.

use hedgerow_wire::time::Timestamp;

/// Whose timer: an operation's kind and the index of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TimerKey {
    pub(super) kind: u8,
    pub(super) index: u32,
}

/// Kinds of timers.
pub(super) const KINDS: usize = 3;

const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    at: Timestamp,
    key: TimerKey,
}

/// At most one timer for each key.
pub(super) struct Timers {
    heap: Vec<Entry>,
    places: [Vec<u32>; KINDS],
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers { heap: Vec::new(), places: Default::default() }
    }

    /// When the first timer is due.
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Takes a timer that is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<TimerKey> {
        let first = self.heap.first()?;
        if first.at > now {
            return None;
        }
        let key = first.key;
        self.clear(key);
        Some(key)
    }

    /// Sets (or moves) the timer of `key`.
    pub(super) fn set(&mut self, key: TimerKey, at: Timestamp) {
        let place = self.place(key);
        if place == NOWHERE {
            self.heap.push(Entry { at, key });
            self.up(self.heap.len() - 1);
            return;
        }
        let place = place as usize;
        let before = std::mem::replace(&mut self.heap[place].at, at);
        if at < before {
            self.up(place);
        } else {
            self.down(place);
        }
    }

    /// Clears the timer of `key`, if it is set.
    pub(super) fn clear(&mut self, key: TimerKey) {
        let place = self.place(key);
        if place == NOWHERE {
            return;
        }
        let place = place as usize;
        self.places[key.kind as usize][key.index as usize] = NOWHERE;
        let Some(last) = self.heap.pop() else { return };
        if place < self.heap.len() {
            self.heap[place] = last;
            self.note(place);
            self.up(place);
            let place = self.place(last.key) as usize;
            self.down(place);
        }
    }

    fn place(&mut self, key: TimerKey) -> u32 {
        let places = &mut self.places[key.kind as usize];
        if places.len() <= key.index as usize {
            places.resize(key.index as usize + 1, NOWHERE);
        }
        places[key.index as usize]
    }

    fn note(&mut self, place: usize) {
        let key = self.heap[place].key;
        self.places[key.kind as usize][key.index as usize] = place as u32;
    }

    fn up(&mut self, mut place: usize) {
        while place > 0 && self.heap[place].at < self.heap[(place - 1) / 2].at {
            self.heap.swap(place, (place - 1) / 2);
            self.note(place);
            place = (place - 1) / 2;
        }
        self.note(place);
    }

    fn down(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.heap[child].at < self.heap[least].at {
                    least = child;
                }
            }
            if least == place {
                break;
            }
            self.heap.swap(place, least);
            self.note(place);
            place = least;
        }
        self.note(place);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn timers_agree_with_a_sorted_map() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut timers = Timers::new();
        let mut model: BTreeMap<(u8, u32), u64> = BTreeMap::new();
        for step in 0..20_000u64 {
            let key =
                TimerKey { kind: random.random_range(0..KINDS as u8), index: random.random_range(0..40) };
            match random.random_range(0..4) {
                0 => {
                    timers.clear(key);
                    model.remove(&(key.kind, key.index));
                }
                1 => {
                    let now = step / 4;
                    if let Some(due) = timers.pop_due(Timestamp(now)) {
                        let at = model.remove(&(due.kind, due.index)).expect("a timer that is set");
                        assert!(at <= now && model.values().all(|&other| other >= at));
                    } else {
                        assert!(model.values().all(|&at| at > now));
                    }
                }
                _ => {
                    let at = step / 4 + random.random_range(0..100);
                    timers.set(key, Timestamp(at));
                    model.insert((key.kind, key.index), at);
                }
            }
            assert_eq!(timers.first().map(|at| at.0), model.values().min().copied());
        }
    }
}
