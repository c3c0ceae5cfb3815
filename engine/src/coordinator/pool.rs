//! Slots that are used again and again; an id names one use of a slot and never another.

/// Bits of an id above the index: the generation. The two highest bits of an id are free for the
/// caller.
const GENERATION_BITS: u32 = 30;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A pool of `T`. Memory grows to the most that were ever in it at once.
pub(super) struct Pool<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Pool<T> {
    pub(super) fn new() -> Pool<T> {
        Pool { slots: Vec::new(), free: Vec::new() }
    }

    /// Index of the slot that `id` names a use of.
    pub(super) fn index(id: u64) -> u32 {
        id as u32
    }

    fn generation(id: u64) -> u32 {
        (id >> 32) as u32 & GENERATION_MASK
    }

    pub(super) fn insert(&mut self, value: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.value.is_none());
        slot.value = Some(value);
        u64::from(slot.generation) << 32 | u64::from(index)
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        let slot = self.slots.get(Self::index(id) as usize)?;
        if slot.generation == Self::generation(id) { slot.value.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(Self::index(id) as usize)?;
        if slot.generation == Self::generation(id) { slot.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let index = Self::index(id);
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != Self::generation(id) {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(index);
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The id of what is in slot `index` now.
    pub(super) fn id_at(&self, index: u32) -> Option<u64> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref()?;
        Some(u64::from(slot.generation) << 32 | u64::from(index))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let value = slot.value.as_ref()?;
            Some((u64::from(slot.generation) << 32 | index as u64, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_use_of_a_slot() {
        let mut pool = Pool::new();
        let a = pool.insert('a');
        let b = pool.insert('b');
        assert_eq!(pool.remove(a), Some('a'));
        assert_eq!(pool.remove(a), None);
        let c = pool.insert('c');
        assert_eq!(Pool::<char>::index(c), Pool::<char>::index(a));
        assert_ne!(a, c);
        assert_eq!((pool.get(a), pool.get(b), pool.get(c)), (None, Some(&'b'), Some(&'c')));
        assert_eq!(pool.get_mut(a), None);
        assert_eq!(pool.id_at(Pool::<char>::index(c)), Some(c));
        assert_eq!(pool.len(), 2);
    }

    #[test]
    fn a_generation_wraps_below_the_free_bits() {
        let mut pool = Pool::new();
        pool.insert(0);
        pool.slots[0].generation = GENERATION_MASK;
        let last = pool.id_at(0).unwrap();
        assert_eq!(last >> 62, 0);
        assert_eq!(pool.remove(last), Some(0));
        assert_eq!(pool.insert(1), 0);
    }
}
