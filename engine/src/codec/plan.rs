//! Plans, and the bounded cache that keeps them.

use hedgerow_wire::Code;
use rusty_erasure::kernel::Kernels;

use super::generator::decode_rows;
use super::kernel::{multiply_parts, xor_parts};
use super::parts::PartSet;

/// Which matrix: the code, the `k` parts that are read, and the parts that are computed from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PlanKey {
    pub(super) code: Code,
    pub(super) have: PartSet,
    pub(super) want: PartSet,
}

impl PlanKey {
    fn hash(&self) -> u64 {
        let code = (self.code.k() as u64) << 8 | self.code.m() as u64;
        let hash = self.have.hash().rotate_left(17) ^ self.want.hash() ^ code;
        hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// How the wanted parts are computed from the `k` that are there.
pub(super) enum Plan {
    /// One part, the XOR of all.
    Xor,
    /// The matrix, one row for each wanted part, expanded to the kernel's tables.
    Matrix(Vec<u8>),
}

impl Plan {
    fn new(key: &PlanKey, kernels: &Kernels) -> Plan {
        let rows = decode_rows(key.code, &key.have, &key.want);
        if key.want.len() == 1 && rows.iter().all(|&factor| factor == 1) {
            return Plan::Xor;
        }
        Plan::Matrix((kernels.init)(&rows))
    }

    /// Computes `outputs` (the wanted parts, ascending) from `sources` (the parts that are there,
    /// ascending), all of one length greater than 0.
    pub(super) fn apply(&self, kernels: &Kernels, sources: &[&[u8]], outputs: &mut [&mut [u8]]) {
        match self {
            Plan::Xor => xor_parts(sources, outputs[0]),
            Plan::Matrix(tables) => multiply_parts(kernels, tables, sources, outputs),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Plan::Xor => 0,
            Plan::Matrix(tables) => tables.capacity(),
        }
    }
}

/// Plans that are looked for in one place.
const WAYS: usize = 4;
/// Places. Every pattern of a code of up to 10+2 fits with room to spare.
const SETS: usize = 256;
/// All tables together, in bytes. A plan of 4+2 has 64, one of 200+55 up to 352,000.
const TABLES_BYTES_MAX: usize = 8 << 20;

const _: () = assert!(SETS.is_power_of_two());

/// A set-associative cache of plans, least recently used first out; bounded in number and bytes.
pub(super) struct PlanCache {
    /// `SETS` runs of `WAYS`, each most recently used first.
    slots: Vec<Option<Box<(PlanKey, Plan)>>>,
    tables_bytes: usize,
    /// Where the next plan is let go when the bytes run out.
    hand: usize,
}

impl PlanCache {
    pub(super) fn new() -> PlanCache {
        PlanCache { slots: (0..SETS * WAYS).map(|_| None).collect(), tables_bytes: 0, hand: 0 }
    }

    /// The plan of `key`, built if it is not there. Does not allocate if it is.
    pub(super) fn get(&mut self, key: &PlanKey, kernels: &Kernels) -> &Plan {
        let start = (key.hash() >> 32) as usize % SETS * WAYS;
        let set = start..start + WAYS;
        let found =
            self.slots[set.clone()].iter().position(|slot| slot.as_ref().is_some_and(|s| s.0 == *key));
        if let Some(way) = found {
            self.slots[start..=start + way].rotate_right(1);
        } else {
            let plan = Plan::new(key, kernels);
            self.make_room(plan.bytes());
            self.tables_bytes += plan.bytes();
            self.let_go(start + WAYS - 1);
            self.slots[set].rotate_right(1);
            self.slots[start] = Some(Box::new((*key, plan)));
        }
        match &self.slots[start] {
            Some(slot) => &slot.1,
            None => unreachable!("the plan of {key:?} was put into slot {start}"),
        }
    }

    fn make_room(&mut self, bytes: usize) {
        for _ in 0..self.slots.len() {
            if self.tables_bytes + bytes <= TABLES_BYTES_MAX {
                return;
            }
            self.let_go(self.hand);
            self.hand = (self.hand + 1) % self.slots.len();
        }
    }

    fn let_go(&mut self, slot: usize) {
        if let Some(old) = self.slots[slot].take() {
            self.tables_bytes -= old.1.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(k: u8, m: u8, lost: u8, parity: u8) -> PlanKey {
        let code = Code::new(k, m).unwrap();
        let mut have =
            PartSet::range(0, code.k()).without(&PartSet::range(lost.into(), usize::from(lost) + 1));
        have.insert(k + parity);
        PlanKey { code, have, want: PartSet::range(lost.into(), usize::from(lost) + 1) }
    }

    fn held(cache: &PlanCache) -> usize {
        cache.slots.iter().flatten().count()
    }

    #[test]
    fn a_plan_is_kept_and_found_again() {
        let kernels = rusty_erasure::best_kernels();
        let mut cache = PlanCache::new();
        for _ in 0..3 {
            for lost in 0..10 {
                for parity in 0..2 {
                    let plan = cache.get(&key(10, 2, lost, parity), &kernels);
                    assert_eq!(matches!(plan, Plan::Xor), parity == 0);
                }
            }
        }
        assert_eq!(held(&cache), 20);
    }

    #[test]
    fn the_cache_is_bounded_in_number_and_in_bytes() {
        let kernels = Kernels::scalar();
        let mut cache = PlanCache::new();
        for k in 2..=50 {
            for lost in 0..k {
                for parity in 0..3 {
                    cache.get(&key(k, 3, lost, parity), &kernels);
                }
            }
        }
        assert!(held(&cache) <= SETS * WAYS && held(&cache) > SETS * WAYS / 2);
        for k in 100..200 {
            let code = Code::new(k, 55).unwrap();
            let (have, want) = (PartSet::range(0, code.k()), PartSet::range(code.k(), code.n()));
            cache.get(&PlanKey { code, have, want }, &kernels);
            let bytes: usize = cache.slots.iter().flatten().map(|slot| slot.1.bytes()).sum();
            assert_eq!(bytes, cache.tables_bytes);
            assert!(bytes <= TABLES_BYTES_MAX);
        }
        assert!(cache.tables_bytes > TABLES_BYTES_MAX / 2, "{} bytes", cache.tables_bytes);
    }
}
