//! Sources of requests for the load generator.

use std::collections::{HashSet, VecDeque};

use anyhow::{Context, Result, ensure};
use hedgerow_wire::frame::Status;

use crate::load::{Next, Source};
use crate::pattern::{Random, mix};
use crate::popularity::Popularity;
use crate::request::{Answer, Class, Kind, Request};

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
    /// From pairs of length and weight. At least one weight is not 0.
    pub fn weighted(pairs: impl IntoIterator<Item = (u64, u64)>) -> Result<Sizes> {
        let mut sum = 0u64;
        let cumulated = pairs.into_iter().map(|(len, weight)| {
            sum = sum
                .checked_add(weight)
                .context("the weights of the lengths are more than can be added up")?;
            Ok((sum, len))
        });
        let cumulated: Vec<(u64, u64)> = cumulated.collect::<Result<_>>()?;
        ensure!(sum > 0, "lengths without weights");
        Ok(Sizes::Weighted(cumulated))
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

    /// Mean length in bytes.
    pub fn mean(&self) -> f64 {
        match self {
            Sizes::Fixed(len) => *len as f64,
            Sizes::Weighted(cumulated) => {
                let before = [0].into_iter().chain(cumulated.iter().map(|(upto, _)| *upto));
                let bytes: f64 = cumulated
                    .iter()
                    .zip(before)
                    .map(|((upto, len), from)| (upto - from) as f64 * *len as f64)
                    .sum();
                bytes / cumulated.last().map_or(1, |(sum, _)| *sum) as f64
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
        let pairs = text.split(',').map(pair).collect::<Result<Vec<_>, String>>()?;
        Sizes::weighted(pairs).map_err(|error| error.to_string())
    }
}

/// A request that reads all of an object.
pub fn get(set: u8, object: u64, object_len: u64) -> Request {
    let kind = Kind::Get { offset: 0, length: object_len };
    Request { kind, set, object, version: 0, object_len, deadline_us: DEADLINE_US, class: Class::Get }
}

/// A request that writes it.
pub fn put(set: u8, object: u64, object_len: u64) -> Request {
    Request { kind: Kind::Put, class: Class::Put, ..get(set, object, object_len) }
}

/// Weights of the kinds of requests: get, range, put, delete.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mix(pub [f64; 4]);

/// Gets only.
pub const GETS: Mix = Mix([1.0, 0.0, 0.0, 0.0]);

impl std::str::FromStr for Mix {
    type Err = String;
    /// `get=90,put=10`.
    fn from_str(text: &str) -> Result<Mix, String> {
        let mut weights = [0.0; 4];
        for pair in text.split(',') {
            let bad = || format!("'{pair}' in '{text}': write get=90,range=5,put=4,delete=1");
            let (name, weight) = pair.split_once('=').ok_or_else(bad)?;
            let names = [Class::Get, Class::Range, Class::Put, Class::Delete].map(Class::name);
            let place = names.iter().position(|known| *known == name).ok_or_else(bad)?;
            weights[place] = weight.parse().ok().filter(|weight| *weight >= 0.0).ok_or_else(bad)?;
        }
        if weights.iter().sum::<f64>() <= 0.0 {
            return Err(format!("'{text}' asks for nothing"));
        }
        Ok(Mix(weights))
    }
}

/// Requests of a mix for objects of a popularity; with `fill`, what is missing is put, as a service
/// does that has a cache beside its origin.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// Set of the objects.
    pub set: u8,
    /// Which object.
    pub popularity: Popularity,
    /// Their lengths.
    pub sizes: Sizes,
    /// What is done with it.
    pub mix: Mix,
    /// Bytes of a range.
    pub range_len: u64,
    /// Deadline in microseconds.
    pub deadline_us: u32,
    /// Puts what is missing.
    pub fill: bool,
    random: Random,
    to_put: VecDeque<u64>,
    putting: HashSet<u64>,
}

impl Mixed {
    /// Gets of so many objects, all alike probable.
    pub fn gets(set: u8, objects: u64, sizes: Sizes) -> Mixed {
        Mixed::of(set, Popularity::Uniform { objects }, sizes)
    }

    /// Gets by popularity.
    pub fn of(set: u8, popularity: Popularity, sizes: Sizes) -> Mixed {
        Mixed {
            set,
            popularity,
            sizes,
            mix: GETS,
            range_len: 4096,
            deadline_us: DEADLINE_US,
            fill: false,
            random: Random::new(1),
            to_put: VecDeque::new(),
            putting: HashSet::new(),
        }
    }

    /// The same for another thread of a generator: a sequence of its own.
    pub fn for_thread(&self, thread: usize) -> Mixed {
        let mut popularity = self.popularity.clone();
        if let Popularity::Buckets(buckets) = &mut popularity {
            buckets.for_thread(thread);
        }
        Mixed { popularity, random: Random::new(1 + thread as u64), ..self.clone() }
    }

    fn class(&mut self) -> Class {
        let mut draw = self.random.unit() * self.mix.0.iter().sum::<f64>();
        for (class, weight) in [Class::Get, Class::Range, Class::Put].into_iter().zip(self.mix.0) {
            if draw < weight {
                return class;
            }
            draw -= weight;
        }
        // The last that has a weight: rounding may leave a little.
        [Class::Delete, Class::Put, Class::Range, Class::Get]
            .into_iter()
            .zip(self.mix.0.into_iter().rev())
            .find(|(_, weight)| *weight > 0.0)
            .map_or(Class::Get, |(class, _)| class)
    }
}

impl Source for Mixed {
    fn next(&mut self) -> Next {
        let object = self.popularity.draw(&mut self.random);
        let len = self.sizes.of(object);
        // Gets only draw nothing more: a sequence of objects is the same for all.
        let class = if self.mix == GETS { Class::Get } else { self.class() };
        let kind = match class {
            Class::Range => {
                let length = self.range_len.min(len);
                Kind::Get { offset: self.random.below(len - length + 1), length }
            }
            Class::Put => Kind::Put,
            Class::Delete => Kind::Delete,
            _ => Kind::Get { offset: 0, length: len },
        };
        let deadline_us = self.deadline_us;
        Next::Request(Request { kind, class, deadline_us, ..get(self.set, object, len) })
    }

    fn urgent(&mut self) -> Option<Request> {
        let object = self.to_put.pop_front()?;
        Some(Request { class: Class::Fill, ..put(self.set, object, self.sizes.of(object)) })
    }

    fn answered(&mut self, answer: &Answer) {
        if !self.fill {
            return;
        }
        let object = answer.request.object;
        match answer.request.kind {
            Kind::Put => {
                self.putting.remove(&object);
            }
            Kind::Get { .. }
                if matches!(answer.status, Status::NotFound | Status::Unavailable)
                    && self.putting.insert(object) =>
            {
                self.to_put.push_back(object);
            }
            _ => {}
        }
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
    /// Asks for them instead: a read-through server fetches what it does not have.
    pub by_get: bool,
}

impl Fill {
    /// Puts objects `0..end`.
    pub fn new(set: u8, end: u64, sizes: Sizes) -> Fill {
        Fill { set, next: 0, end, sizes, by_get: false }
    }
}

impl Source for Fill {
    fn next(&mut self) -> Next {
        if self.next >= self.end {
            return Next::End;
        }
        let (object, len) = (self.next, self.sizes.of(self.next));
        self.next += 1;
        let request = if self.by_get { get(self.set, object, len) } else { put(self.set, object, len) };
        Next::Request(Request { class: Class::Fill, ..request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_drawn_as_it_is_written() {
        let mut source = Mixed::gets(b'x', 10, "100:1,300:1".parse().unwrap());
        source.mix = "get=5,range=3,put=2".parse().unwrap();
        source.range_len = 60;
        let mut counts = [0; 6];
        for _ in 0..10_000 {
            let Next::Request(request) = source.next() else { panic!("it ended") };
            counts[request.class as usize] += 1;
            match request.kind {
                Kind::Get { offset, length } if request.class == Class::Range => {
                    assert!(length == 60 && offset + length <= request.object_len);
                }
                Kind::Get { offset, length } => assert_eq!((offset, length), (0, request.object_len)),
                kind => assert_eq!(kind, Kind::Put),
            }
        }
        for (found, expected) in counts.into_iter().zip([5000, 3000, 2000, 0, 0, 0i64]) {
            assert!((found as i64 - expected).abs() <= expected / 10, "{counts:?}");
        }
        for text in ["get", "get=x", "put=-1", "get=0", "fetch=1"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        assert_eq!("100:1,300:3".parse::<Sizes>().unwrap().mean(), 250.0);
        assert!("".parse::<Sizes>().is_err() && "5:0".parse::<Sizes>().is_err());
    }

    #[test]
    fn what_is_missing_is_put_once() {
        let mut source = Mixed { fill: true, ..Mixed::gets(b'x', 10, Sizes::Fixed(100)) };
        let mut answer = Answer::pending(get(b'x', 3, 100), 0, 0);
        answer.status = Status::NotFound;
        source.answered(&answer);
        source.answered(&answer);
        let filled = source.urgent().unwrap();
        assert_eq!((filled.object, filled.kind, filled.class), (3, Kind::Put, Class::Fill));
        assert_eq!(source.urgent(), None);
        source.answered(&Answer::pending(filled, 0, 0));
        source.answered(&answer);
        assert!(source.urgent().is_some());
    }
}
