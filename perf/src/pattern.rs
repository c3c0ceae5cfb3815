//! The bytes of objects: made from the object's seed alone, so that any range of any answer can be
//! checked without keeping what was put.
//!
//! An object is a window into one pool of random bytes, begun at a place that its seed gives. At every
//! multiple of 4 KiB stand eight bytes that hold the seed and the place, so that the cheap check (which
//! looks at these only) tells every block of every object apart.

use std::ops::Range;

/// A stamp stands at every multiple of this.
const BLOCK_LEN: u64 = 4096;
const STAMP_LEN: u64 = 8;
/// A prime: windows do not repeat in step with blocks.
const POOL_LEN: usize = 1_048_573;

/// A bijection that scatters its argument (the finaliser of SplitMix64, Steele et al. 2014).
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A sequence of random numbers: SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound` (which is not 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Makes and checks the bytes of objects.
pub struct Pattern {
    /// The pool, and its beginning again so that a copy seldom has to turn.
    pool: Vec<u8>,
}

impl Default for Pattern {
    fn default() -> Pattern {
        let mut random = Random::new(0);
        Pattern { pool: (0..POOL_LEN).map(|_| random.draw() as u8).collect() }
    }
}

fn stamp(seed: u64, block: u64) -> [u8; STAMP_LEN as usize] {
    mix(seed ^ block.wrapping_mul(0xd6e8_feb8_6659_fd93)).to_le_bytes()
}

/// The stamps that overlap `range` of an object: where in the range, and what stands there.
fn stamps(seed: u64, range: Range<u64>) -> impl Iterator<Item = (Range<usize>, [u8; 8], usize)> {
    let blocks = range.start / BLOCK_LEN..range.end.div_ceil(BLOCK_LEN);
    blocks.filter_map(move |block| {
        let at = block * BLOCK_LEN;
        let (from, to) = (at.max(range.start), (at + STAMP_LEN).min(range.end));
        let place = (from < to).then(|| (from - range.start) as usize..(to - range.start) as usize)?;
        Some((place, stamp(seed, block), (from - at) as usize))
    })
}

impl Pattern {
    /// Hands the pool's runs for `len` bytes from `offset` of an object to `each`.
    fn runs<'a>(&'a self, seed: u64, offset: u64, len: usize, mut each: impl FnMut(Range<usize>, &'a [u8])) {
        let mut at = ((seed % POOL_LEN as u64 + offset) % POOL_LEN as u64) as usize;
        let mut done = 0;
        while done < len {
            let run = (POOL_LEN - at).min(len - done);
            each(done..done + run, &self.pool[at..at + run]);
            done += run;
            at = 0;
        }
    }

    /// Writes the bytes from `offset` of the object with this seed.
    pub fn fill(&self, seed: u64, offset: u64, out: &mut [u8]) {
        let range = offset..offset + out.len() as u64;
        self.runs(seed, offset, out.len(), |place, run| out[place].copy_from_slice(run));
        for (place, stamp, skip) in stamps(seed, range) {
            let len = place.len();
            out[place].copy_from_slice(&stamp[skip..skip + len]);
        }
    }

    /// Whether the stamps in `bytes`, which came as the range from `offset`, are this object's.
    pub fn check_stamps(seed: u64, offset: u64, bytes: &[u8]) -> bool {
        stamps(seed, offset..offset + bytes.len() as u64).all(|(place, stamp, skip)| {
            let len = place.len();
            bytes[place] == stamp[skip..skip + len]
        })
    }

    /// Whether every byte is this object's.
    pub fn check_all(&self, seed: u64, offset: u64, bytes: &[u8]) -> bool {
        let mut right = Pattern::check_stamps(seed, offset, bytes);
        let mut block = [0; BLOCK_LEN as usize];
        let mut done = 0;
        while right && done < bytes.len() {
            let at = offset + done as u64;
            let len = ((BLOCK_LEN - at % BLOCK_LEN) as usize).min(bytes.len() - done);
            self.fill(seed, at, &mut block[..len]);
            right = bytes[done..done + len] == block[..len];
            done += len;
        }
        right
    }
}

/// How much of every answer is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Check {
    /// That each block is the one that was asked for.
    Stamps,
    /// Every byte, against what was put.
    All,
    /// Nothing: answers keep their bytes, for whoever knows what they may be.
    #[value(skip)]
    Kept,
}

/// A pattern, and how answers are checked against it.
#[derive(Clone, Copy)]
pub struct Checker<'a> {
    /// The bytes that there have to be.
    pub pattern: &'a Pattern,
    /// How many of them are looked at.
    pub check: Check,
}

impl Checker<'_> {
    /// Whether these are the bytes from `offset` of the object with this seed.
    pub fn is_right(&self, seed: u64, offset: u64, bytes: &[u8]) -> bool {
        match self.check {
            Check::Stamps => Pattern::check_stamps(seed, offset, bytes),
            Check::All => self.pattern.check_all(seed, offset, bytes),
            Check::Kept => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parts_of_the_whole_and_pass_both_checks() {
        let pattern = Pattern::default();
        for (seed, len) in [(1, 0), (2, 1), (3, 5000), (mix(4), 3 << 20)] {
            let mut whole = vec![0; len];
            pattern.fill(seed, 0, &mut whole);
            assert!(pattern.check_all(seed, 0, &whole));
            for (from, to) in [(0, len), (len / 3, len / 2), (len / 7, len), (len.min(4099), len)] {
                let mut part = vec![0; to.max(from) - from];
                pattern.fill(seed, from as u64, &mut part);
                assert_eq!(part, whole[from..to.max(from)], "seed {seed}, {from}..{to}");
                assert!(Pattern::check_stamps(seed, from as u64, &part));
                assert!(pattern.check_all(seed, from as u64, &part));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_found() {
        let pattern = Pattern::default();
        let mut bytes = vec![0; 3 * 4096];
        pattern.fill(9, 0, &mut bytes);
        // Another object, another place, a block in the wrong place: by the stamps alone.
        assert!(!Pattern::check_stamps(8, 0, &bytes));
        assert!(!Pattern::check_stamps(9, 4096, &bytes));
        let mut swapped = bytes.clone();
        swapped.copy_within(0..4096, 4096);
        assert!(!Pattern::check_stamps(9, 0, &swapped));
        // One bit anywhere: by the full check.
        for at in [8, 4095, 5000, bytes.len() - 1] {
            bytes[at] ^= 1;
            assert!(!pattern.check_all(9, 0, &bytes), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(pattern.check_all(9, 0, &bytes));
    }
}
