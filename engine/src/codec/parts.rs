//! A set of part numbers.

/// Distinct numbers from 0 to 255, one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct PartSet([u64; 4]);

impl PartSet {
    /// The numbers `start..end`.
    pub(super) fn range(start: usize, end: usize) -> PartSet {
        let mut set = PartSet::default();
        (start..end).for_each(|part| {
            set.insert(part as u8);
        });
        set
    }

    /// Adds `part`; false if it was there.
    pub(super) fn insert(&mut self, part: u8) -> bool {
        let (word, bit) = place(part);
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    pub(super) fn contains(&self, part: u8) -> bool {
        let (word, bit) = place(part);
        self.0[word] & bit != 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// How many members are lower than `part`.
    pub(super) fn rank(&self, part: u8) -> usize {
        let (word, bit) = place(part);
        let below: u32 = self.0[..word].iter().map(|word| word.count_ones()).sum();
        (below + (self.0[word] & (bit - 1)).count_ones()) as usize
    }

    /// The members that `other` lacks.
    pub(super) fn without(&self, other: &PartSet) -> PartSet {
        PartSet(std::array::from_fn(|word| self.0[word] & !other.0[word]))
    }

    /// The `count` lowest members (all, if there are fewer).
    pub(super) fn lowest(&self, count: usize) -> PartSet {
        let mut set = *self;
        let mut excess = set.len().saturating_sub(count);
        for word in set.0.iter_mut().rev() {
            while excess > 0 && *word != 0 {
                *word &= !(1 << (63 - word.leading_zeros()));
                excess -= 1;
            }
        }
        set
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        self.0.into_iter().enumerate().flat_map(|(word, bits)| {
            std::iter::successors(Some(bits), |bits| Some(bits & bits.wrapping_sub(1)))
                .take_while(|&bits| bits != 0)
                .map(move |bits| (word * 64) as u8 + bits.trailing_zeros() as u8)
        })
    }

    /// A hash of the members that spreads over all bits.
    pub(super) fn hash(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |hash: u64, &word| (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

fn place(part: u8) -> (usize, u64) {
    (usize::from(part / 64), 1 << (part % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_sorted_list() {
        for numbers in [vec![], vec![0], vec![255], vec![3, 63, 64, 65, 127, 128, 200, 254]] {
            let mut set = PartSet::default();
            numbers.iter().for_each(|&part| assert!(set.insert(part)));
            numbers.iter().for_each(|&part| assert!(!set.insert(part)));
            assert_eq!(set.iter().collect::<Vec<_>>(), numbers);
            assert_eq!((set.len(), set.is_empty()), (numbers.len(), numbers.is_empty()));
            for part in 0..=255 {
                assert_eq!(set.contains(part), numbers.contains(&part));
                assert_eq!(set.rank(part), numbers.iter().filter(|&&number| number < part).count());
            }
            for count in 0..=numbers.len() + 1 {
                let lowest: Vec<u8> = numbers.iter().copied().take(count).collect();
                assert_eq!(set.lowest(count).iter().collect::<Vec<_>>(), lowest);
                let rest: Vec<u8> = numbers.iter().copied().skip(count).collect();
                assert_eq!(set.without(&set.lowest(count)).iter().collect::<Vec<_>>(), rest);
            }
        }
        assert_eq!(PartSet::range(62, 67).iter().collect::<Vec<_>>(), [62, 63, 64, 65, 66]);
    }
}
