//! What a load asks for, as it is said on the command line.

use std::path::PathBuf;

use anyhow::{Result, bail};
use hedgerow_wire::limits::OBJECT_LEN_MAX;

use crate::load::Source;
use crate::popularity::{Buckets, Popularity, Zipf, csv_pairs, read_pairs};
use crate::sources::{Fill, Mix, Mixed, Sizes};

const CDN_SIZES: &str = include_str!("../traces/meta-cdn-sizes.csv");
const CDN_POPULARITY: &str = include_str!("../traces/meta-cdn-popularity.csv");
/// Share of gets whose key is never asked for again (`oneHits` of the workload).
const CDN_ONE_HIT_SHARE: f64 = 0.008_844_707_140_632_665;
/// The workload's own cache, in bytes.
pub const CDN_CACHE_BYTES: u64 = 8192 << 20;

/// Workloads that have a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Named {
    /// Lengths and popularity of a CDN cache (facebook/CacheLib, hit_ratio/cdn).
    MetaCdn,
}

/// How keys are chosen, as written: `uniform`, `zipf:0.9`, or a file.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// All alike probable.
    Uniform,
    /// By Zipf's law with this theta.
    Zipf(f64),
    /// By a file of keys and requests.
    File(PathBuf),
}

impl std::str::FromStr for Chosen {
    type Err = String;
    fn from_str(text: &str) -> Result<Chosen, String> {
        if text == "uniform" {
            return Ok(Chosen::Uniform);
        }
        match text.strip_prefix("zipf:").map(str::parse) {
            Some(Ok(theta)) => Ok(Chosen::Zipf(theta)),
            Some(Err(error)) => Err(format!("'{text}': theta: {error}")),
            None => Ok(Chosen::File(text.into())),
        }
    }
}

/// A workload.
#[derive(Clone, Debug, clap::Args)]
pub struct Workload {
    /// Lengths and popularity that are published; the other options add to them
    #[arg(long, value_enum)]
    pub workload: Option<Named>,
    /// Objects
    #[arg(long, default_value_t = 10_000)]
    pub objects: u64,
    /// Length of objects: 4096, or lengths with weights (4096:3,65536:1)
    #[arg(long, default_value = "65536")]
    pub size: Sizes,
    /// Lengths from a file: lines of length,weight, or a sizes.json of cachebench
    #[arg(long, conflicts_with = "size")]
    pub size_file: Option<PathBuf>,
    /// Which objects: uniform, zipf:THETA (0.99 at most), or a file: lines of keys,requests, or a pop.json of cachebench
    #[arg(long, default_value = "uniform")]
    pub popularity: Chosen,
    /// Of a popularity from a file: one of so many keys is asked for
    #[arg(long, default_value_t = 1)]
    pub sample: u64,
    /// Weights of requests
    #[arg(long, default_value = "get=1")]
    pub mix: Mix,
    /// Bytes of a range
    #[arg(long, default_value_t = 4096)]
    pub range_len: u64,
    /// Put what was missing, as a service with an origin does
    #[arg(long)]
    pub fill: bool,
    /// Deadline of every request in milliseconds
    #[arg(long, default_value_t = 5000)]
    pub deadline_ms: u32,
}

/// The CDN's workload for a cache smaller than its own: one of so many keys.
pub fn meta_cdn(set: u8, sample: u64) -> Result<Mixed> {
    let popularity = Buckets::new(&csv_pairs(CDN_POPULARITY)?, sample, CDN_ONE_HIT_SHARE)?;
    let sizes = Sizes::weighted(csv_pairs(CDN_SIZES)?)?;
    let mut mixed = Mixed::of(set, Popularity::Buckets(popularity), sizes);
    mixed.fill = true;
    Ok(mixed)
}

impl Workload {
    fn sizes(&self) -> Result<Sizes> {
        let sizes = match &self.size_file {
            Some(path) => Sizes::weighted(read_pairs(path, ["valSizeRange", "valSizeRangeProbability"])?)?,
            None => self.size.clone(),
        };
        let longest = match &sizes {
            Sizes::Fixed(len) => *len,
            Sizes::Weighted(cumulated) => cumulated.iter().map(|(_, len)| *len).max().unwrap_or(0),
        };
        if longest > OBJECT_LEN_MAX {
            bail!("an object of {longest} bytes is longer than the {OBJECT_LEN_MAX} that are allowed");
        }
        Ok(sizes)
    }

    fn popularity(&self) -> Result<Popularity> {
        Ok(match &self.popularity {
            Chosen::Uniform => Popularity::Uniform { objects: self.objects },
            Chosen::Zipf(theta) => Popularity::Zipf(Zipf::new(self.objects, *theta)?),
            Chosen::File(path) => {
                let pairs = read_pairs(path, ["popularityBuckets", "popularityWeights"])?;
                Popularity::Buckets(Buckets::new(&pairs, self.sample, 0.0)?)
            }
        })
    }

    fn mixed(&self, set: u8) -> Result<Mixed> {
        let mut mixed = match self.workload {
            Some(Named::MetaCdn) => meta_cdn(set, self.sample)?,
            None => Mixed::of(set, self.popularity()?, self.sizes()?),
        };
        (mixed.mix, mixed.range_len) = (self.mix, self.range_len);
        mixed.fill |= self.fill;
        mixed.deadline_us = self.deadline_ms.saturating_mul(1000);
        Ok(mixed)
    }

    /// A source for each thread, of sequences of their own.
    pub fn sources(&self, set: u8, threads: usize) -> Result<Vec<Box<dyn Source>>> {
        let first = self.mixed(set)?;
        let one = |thread: usize| -> Box<dyn Source> { Box::new(first.for_thread(thread)) };
        Ok((0..threads).map(one).collect())
    }

    /// Puts of every object that has a number of its own.
    pub fn preload(&self, set: u8) -> Result<Fill> {
        let mixed = self.mixed(set)?;
        match mixed.popularity {
            Popularity::Buckets(_) => bail!("a popularity from a file is not put ahead: use --fill"),
            _ => Ok(Fill::new(set, self.objects, mixed.sizes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cdn_workload_is_the_published_one() {
        let source = meta_cdn(b'c', 1).unwrap();
        assert_eq!(source.sizes.mean() as u64, 33_024);
        let Popularity::Buckets(buckets) = &source.popularity else { panic!("no buckets") };
        assert_eq!(buckets.keys(), 7_489_207);
    }

    #[test]
    fn popularity_is_read_as_it_is_written() {
        assert!(matches!("uniform".parse(), Ok(Chosen::Uniform)));
        assert!(matches!("zipf:0.8".parse(), Ok(Chosen::Zipf(theta)) if theta == 0.8));
        assert!(matches!("pop.json".parse(), Ok(Chosen::File(_))));
        assert!("zipf:x".parse::<Chosen>().is_err());
    }
}
