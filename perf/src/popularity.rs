//! Which object is asked for: all alike probable, by Zipf's law, or by a table of how many requests fall
//! on how many keys.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::pattern::{Random, mix};

/// Numbers from here on are asked for once.
pub const ONE_HITS: u64 = 1 << 40;

/// A distribution over object numbers.
#[derive(Clone, Debug)]
pub enum Popularity {
    /// So many objects, all alike.
    Uniform {
        /// How many.
        objects: u64,
    },
    /// The object of rank `r` has a weight of `1 / r^theta`.
    Zipf(Zipf),
    /// Buckets of keys that are asked for alike often.
    Buckets(Buckets),
}

impl Popularity {
    /// The next object.
    pub fn draw(&mut self, random: &mut Random) -> u64 {
        match self {
            Popularity::Uniform { objects } => random.below(*objects),
            Popularity::Zipf(zipf) => zipf.draw(random),
            Popularity::Buckets(buckets) => buckets.draw(random),
        }
    }
}

/// Zipf's law by inversion of its approximated distribution: Gray et al., "Quickly generating billion-record
/// synthetic databases", SIGMOD 1994. `0 < theta`, not 1.
#[derive(Clone, Debug)]
pub struct Zipf {
    objects: u64,
    theta: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Over so many objects.
    pub fn new(objects: u64, theta: f64) -> Result<Zipf> {
        ensure!(objects > 0, "no objects");
        ensure!(theta > 0.0 && theta < 1.0, "theta has to be between 0 and 1, and is {theta}");
        let zeta: f64 = (1..=objects).map(|rank| (rank as f64).powf(-theta)).sum();
        let zeta_two = 1.0 + 0.5f64.powf(theta);
        let eta = (1.0 - (2.0 / objects as f64).powf(1.0 - theta)) / (1.0 - zeta_two / zeta);
        Ok(Zipf { objects, theta, zeta, eta })
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let unit = random.unit();
        let weight = unit * self.zeta;
        if weight < 1.0 {
            return 0;
        }
        if weight < 1.0 + 0.5f64.powf(self.theta) {
            return 1.min(self.objects - 1);
        }
        let rank = (self.eta * unit - self.eta + 1.0).powf(1.0 / (1.0 - self.theta));
        ((self.objects as f64 * rank) as u64).min(self.objects - 1)
    }
}

/// Keys by how often they are asked for.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// Cumulated requests, first key, keys.
    buckets: Vec<(u64, u64, u64)>,
    requests: u64,
    /// One of so many keys is asked for, chosen by its hash (spatial sampling: Waldspurger et al., FAST 2015).
    one_of: u64,
    /// Share of draws whose object is never drawn again.
    one_hit_share: f64,
    one_hits: u64,
}

impl Buckets {
    /// From pairs of keys and the requests that fall on them.
    pub fn new(pairs: &[(u64, u64)], one_of: u64, one_hit_share: f64) -> Result<Buckets> {
        let (mut requests, mut first) = (0u64, 0u64);
        let mut buckets = Vec::new();
        for &(keys, weight) in pairs {
            requests = requests.checked_add(weight).context("more requests than can be counted")?;
            buckets.push((requests, first, keys));
            first = first.checked_add(keys).context("more keys than can be counted")?;
        }
        ensure!(requests > 0 && pairs.iter().all(|pair| pair.0 > 0), "a popularity without keys or requests");
        let one_of = one_of.max(1);
        ensure!((0..first).any(|key| mix(key).is_multiple_of(one_of)), "no key is left of {first}");
        Ok(Buckets { buckets, requests, one_of, one_hit_share, one_hits: 0 })
    }

    /// Keys that are asked for, beside those that are asked for once.
    pub fn keys(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.2).sum::<u64>() / self.one_of
    }

    /// Gives every one of several generators objects of its own to ask for once.
    pub fn for_thread(&mut self, thread: usize) {
        self.one_hits = (thread as u64) << 32;
    }

    fn draw(&mut self, random: &mut Random) -> u64 {
        if random.unit() < self.one_hit_share {
            self.one_hits += 1;
            return ONE_HITS + self.one_hits;
        }
        loop {
            let draw = random.below(self.requests);
            let place = self.buckets.partition_point(|(upto, _, _)| *upto <= draw);
            let (_, first, keys) = self.buckets[place];
            let key = first + random.below(keys);
            if mix(key).is_multiple_of(self.one_of) {
                return key;
            }
        }
    }
}

/// Pairs of numbers from a file: lines of `a,b` under a line of names, or a JSON object with two lists,
/// by the names that cachebench (facebook/CacheLib) gives them.
pub fn read_pairs(path: &Path, json_names: [&str; 2]) -> Result<Vec<(u64, u64)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    pairs(&text, json_names).with_context(|| format!("in {}", path.display()))
}

/// As [`read_pairs`], of the text of a file.
pub fn pairs(text: &str, json_names: [&str; 2]) -> Result<Vec<(u64, u64)>> {
    match text.trim_start().starts_with('{') {
        true => json_pairs(text, json_names),
        false => csv_pairs(text),
    }
}

/// Lines of `a,b` under a line of names.
pub fn csv_pairs(text: &str) -> Result<Vec<(u64, u64)>> {
    let pair = |line: &str| {
        let (a, b) = line.split_once(',').with_context(|| format!("'{line}' is no pair"))?;
        Ok((a.trim().parse()?, b.trim().parse()?))
    };
    let pairs: Vec<_> = text.lines().skip(1).map(pair).collect::<Result<_>>()?;
    ensure!(!pairs.is_empty(), "no pairs below the line of names");
    Ok(pairs)
}

fn json_pairs(text: &str, names: [&str; 2]) -> Result<Vec<(u64, u64)>> {
    let json: serde_json::Value = serde_json::from_str(text)?;
    let list = |name: &str| -> Result<Vec<u64>> {
        let list = json.get(name).and_then(serde_json::Value::as_array);
        let numbers = list.with_context(|| format!("no list '{name}'"))?.iter();
        let number = |value: &serde_json::Value| value.as_f64().map(|number| number.round() as u64);
        numbers.map(|value| number(value).with_context(|| format!("{value} in '{name}'"))).collect()
    };
    let (a, b) = (list(names[0])?, list(names[1])?);
    ensure!(a.len() == b.len() && !a.is_empty(), "'{}' and '{}' differ in length", names[0], names[1]);
    Ok(a.into_iter().zip(b).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn zipf_draws_as_its_law_says() {
        let (objects, theta, draws) = (1000, 0.9, 200_000);
        let mut popularity = Popularity::Zipf(Zipf::new(objects, theta).unwrap());
        let mut random = Random::new(5);
        let mut counts = vec![0u64; objects as usize];
        (0..draws).for_each(|_| counts[popularity.draw(&mut random) as usize] += 1);
        let zeta: f64 = (1..=objects).map(|rank| (rank as f64).powf(-theta)).sum();
        // The first two are exact, the others approximated: the sums have to fit.
        for (upto, tolerance) in [(1, 0.02), (2, 0.02), (10, 0.1), (100, 0.1), (1000, 0.001)] {
            let expected: f64 = (1..=upto).map(|rank| (rank as f64).powf(-theta)).sum::<f64>() / zeta;
            let found = counts[..upto].iter().sum::<u64>() as f64 / draws as f64;
            assert!((found / expected - 1.0).abs() < tolerance, "{upto}: {found} for {expected}");
        }
        assert!(Zipf::new(0, 0.5).is_err() && Zipf::new(1, 1.0).is_err());
    }

    #[test]
    fn one_key_of_so_many_is_asked_for() {
        let mut buckets = Buckets::new(&[(100_000, 1_000)], 8, 0.01).unwrap();
        let mut random = Random::new(11);
        let keys: HashSet<u64> =
            (0..20_000).map(|_| buckets.draw(&mut random)).filter(|key| *key < ONE_HITS).collect();
        assert!((9_000..13_500).contains(&keys.len()), "{} of about 12,500 keys", keys.len());
        assert!((120..300).contains(&buckets.one_hits), "{} of about 200", buckets.one_hits);
        assert!(Buckets::new(&[], 1, 0.0).is_err());
        assert!(Buckets::new(&[(1, u64::MAX), (1, 1)], 1, 0.0).is_err());
        assert!(Buckets::new(&[(u64::MAX, 1), (1, 1)], 1, 0.0).is_err());
    }

    #[test]
    fn both_kinds_of_files_are_read() {
        assert_eq!(csv_pairs("keys,requests\n1,5\n2,7\n").unwrap(), [(1, 5), (2, 7)]);
        let json = r#"{"a": [1, 2.0], "b": [5, 7]}"#;
        assert_eq!(json_pairs(json, ["a", "b"]).unwrap(), [(1, 5), (2, 7)]);
        assert!(csv_pairs("keys,requests\n").is_err());
        assert!(csv_pairs("keys,requests\n1;2\n").is_err());
        assert!(json_pairs(r#"{"a": [1], "b": [5, 7]}"#, ["a", "b"]).is_err());
    }
}
