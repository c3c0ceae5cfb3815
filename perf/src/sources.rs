//! Sources of requests for the load generator.

use crate::load::{Next, Source};
use crate::pattern::{Pattern, Random, mix};
use crate::request::{Kind, Request};

/// Deadline of requests that are to be answered, in microseconds.
pub const DEADLINE_US: u32 = 5_000_000;

/// Lengths of objects: each object's own comes from its number.
#[derive(Clone, Debug)]
pub enum Sizes {
    /// All alike.
    Fixed(u64),
    /// Drawn by weight: cumulated weights and lengths, ascending.
    Weighted(Vec<(u64, u64)>),
}

impl Sizes {
    /// From pairs of length and weight.
    pub fn weighted(pairs: impl IntoIterator<Item = (u64, u64)>) -> Sizes {
        let mut sum = 0;
        let cumulated = pairs.into_iter().map(|(len, weight)| {
            sum += weight;
            (sum, len)
        });
        Sizes::Weighted(cumulated.collect())
    }

    /// The length of an object.
    pub fn of(&self, object: u64) -> u64 {
        match self {
            Sizes::Fixed(len) => *len,
            Sizes::Weighted(cumulated) => {
                let sum = cumulated.last().map_or(1, |(sum, _)| *sum);
                let draw = mix(object ^ 0x5153) % sum;
                let place = cumulated.partition_point(|(upto, _)| *upto <= draw);
                cumulated.get(place).map_or(1, |(_, len)| *len)
            }
        }
    }
}

impl std::str::FromStr for Sizes {
    type Err = String;
    /// `4096`, or `LENGTH:WEIGHT,LENGTH:WEIGHT`.
    fn from_str(text: &str) -> Result<Sizes, String> {
        let bad = |_| format!("'{text}' is no length: write 4096, or 4096:3,65536:1 (lengths and weights)");
        if let Ok(len) = text.parse() {
            return Ok(Sizes::Fixed(len));
        }
        let pair = |pair: &str| {
            let (len, weight) = pair.split_once(':').unwrap_or((pair, "1"));
            Ok((len.parse().map_err(bad)?, weight.parse().map_err(bad)?))
        };
        Ok(Sizes::weighted(text.split(',').map(pair).collect::<Result<Vec<_>, String>>()?))
    }
}

/// A request that reads all of an object.
pub fn get(set: u8, object: u64, object_len: u64, class: usize) -> Request {
    let kind = Kind::Get { offset: 0, length: object_len };
    Request { kind, set, object, object_len, deadline_us: DEADLINE_US, class }
}

/// A request that writes it.
pub fn put(set: u8, object: u64, object_len: u64, class: usize) -> Request {
    Request { kind: Kind::Put, ..get(set, object, object_len, class) }
}

/// Gets and puts of objects chosen at random, all alike probable. Gets are class 0, puts class 1.
pub struct Uniform {
    /// Set of the objects.
    pub set: u8,
    /// How many there are.
    pub objects: u64,
    /// Their lengths.
    pub sizes: Sizes,
    /// Share of puts.
    pub put_share: f64,
    /// Deadline in microseconds.
    pub deadline_us: u32,
    random: Random,
}

impl Uniform {
    /// Gets only.
    pub fn gets(set: u8, objects: u64, sizes: Sizes) -> Uniform {
        Uniform { set, objects, sizes, put_share: 0.0, deadline_us: DEADLINE_US, random: Random::new(1) }
    }
}

impl Source for Uniform {
    fn next(&mut self) -> Next {
        let object = self.random.below(self.objects);
        let len = self.sizes.of(object);
        let write = self.put_share > 0.0 && self.random.unit() < self.put_share;
        let request = if write { put(self.set, object, len, 1) } else { get(self.set, object, len, 0) };
        Next::Request(Request { deadline_us: self.deadline_us, ..request })
    }
}

/// Puts every object once, in order.
pub struct Fill {
    /// Set of the objects.
    pub set: u8,
    /// The next object.
    pub next: u64,
    /// The one after the last.
    pub end: u64,
    /// Their lengths.
    pub sizes: Sizes,
}

impl Source for Fill {
    fn next(&mut self) -> Next {
        if self.next == self.end {
            return Next::End;
        }
        self.next += 1;
        Next::Request(put(self.set, self.next - 1, self.sizes.of(self.next - 1), 0))
    }
}

/// The seed-bearing pattern that all loads share.
pub fn pattern() -> Pattern {
    Pattern::default()
}
