//! Objects with the sizes, and requests with the popularity, of a CDN cache.

use super::cdn::{POPULARITY, SIZES};

/// A set of objects and how often each is asked for. Object 0 is the most popular one.
pub struct Workload {
    lens: Vec<u32>,
    /// Requests for this object and all more popular ones, out of the last entry.
    cumulative: Vec<u64>,
}

impl Workload {
    /// `objects` objects (at least one): each stands for an equal share of the keys of the CDN cache,
    /// in the order of popularity, and gets their share of the requests. Sizes are dealt at random.
    pub fn new(objects: u32) -> Workload {
        let objects = objects.max(1);
        let len = |object: u32| SIZES[(mix(u64::from(object)) % SIZES.len() as u64) as usize];
        Workload {
            lens: (0..objects).map(len).collect(),
            cumulative: (1..=objects)
                .map(|rank| requests_up_to(f64::from(rank) / f64::from(objects)))
                .collect(),
        }
    }

    /// Number of objects.
    pub fn objects(&self) -> u32 {
        self.lens.len() as u32
    }

    /// Length of an object, in bytes.
    pub fn len(&self, object: u32) -> usize {
        self.lens[object as usize] as usize
    }

    /// All lengths together, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.lens.iter().map(|&len| u64::from(len)).sum()
    }

    /// The object that request number `request` asks for. The same in every run.
    pub fn pick(&self, request: u64) -> u32 {
        let all = self.cumulative.last().copied().unwrap_or(1).max(1);
        let draw = mix(request ^ 0x5eed_0000_0000_0000) % all;
        self.cumulative.partition_point(|&through| through <= draw) as u32
    }
}

/// Requests for the most popular `share` of the keys, by straight lines between the table's points.
fn requests_up_to(share: f64) -> u64 {
    let all_keys = POPULARITY[POPULARITY.len() - 1].0;
    let keys = share * f64::from(all_keys);
    let after =
        POPULARITY.partition_point(|&(through, _)| f64::from(through) < keys).clamp(1, POPULARITY.len() - 1);
    let ((keys_a, requests_a), (keys_b, requests_b)) = (POPULARITY[after - 1], POPULARITY[after]);
    let part = (keys - f64::from(keys_a)) / f64::from(keys_b - keys_a);
    (f64::from(requests_a) + part * f64::from(requests_b - requests_a)).round() as u64
}

/// The key of an object.
pub fn key(object: u32) -> String {
    format!("demo/{object:08}")
}

/// The body of version `version` of an object: every eight bytes say whose they are.
pub fn body(object: u32, version: u32, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut words = words(object, version);
    while bytes.len() < len {
        bytes.extend_from_slice(&words.next().unwrap_or_default().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Bytes of `found` that are not those of [`body`], missing and surplus ones included.
pub fn wrong_bytes(object: u32, version: u32, len: usize, found: &[u8]) -> u64 {
    let mut wrong = len.abs_diff(found.len()) as u64;
    let found = &found[..len.min(found.len())];
    for (chunk, word) in found.chunks(8).zip(words(object, version)) {
        let expected = &word.to_le_bytes()[..chunk.len()];
        if chunk != expected {
            wrong += chunk.iter().zip(expected).filter(|(a, b)| a != b).count() as u64;
        }
    }
    wrong
}

fn words(object: u32, version: u32) -> impl Iterator<Item = u64> {
    let seed = mix(u64::from(object) << 32 | u64::from(version));
    (0..).map(move |index: u64| mix(seed.wrapping_add(index)))
}

/// SplitMix64 (Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_the_popularity() {
        let workload = Workload::new(1000);
        let mut asked = vec![0u32; 1000];
        for request in 0..200_000 {
            asked[workload.pick(request) as usize] += 1;
        }
        let share = |objects: std::ops::Range<usize>| asked[objects].iter().sum::<u32>() as f64 / 200_000.0;
        let expected = |through: f64| requests_up_to(through) as f64 / requests_up_to(1.0) as f64;
        for (objects, through) in [(1, 0.001), (10, 0.01), (100, 0.1), (500, 0.5)] {
            let (found, wanted) = (share(0..objects), expected(through));
            assert!((found - wanted).abs() < 0.01, "the first {objects}: {found:.3}, not {wanted:.3}");
        }
        assert!(asked[0] > 20 * asked[900]);
    }

    #[test]
    fn sizes_have_the_mean_of_the_source() {
        let workload = Workload::new(20_000);
        let mean = workload.total_bytes() / u64::from(workload.objects());
        assert!((31_000..35_000).contains(&mean), "{mean}");
        let largest = (0..20_000).map(|object| workload.len(object)).max().unwrap();
        assert!(
            largest <= hedgerow_wire::limits::STRIPE_LEN_MAX,
            "objects of the demonstration have one stripe"
        );
    }

    #[test]
    fn every_wrong_byte_is_counted() {
        for len in [0, 1, 7, 8, 9, 1000] {
            let right = body(3, 1, len);
            assert_eq!((right.len(), wrong_bytes(3, 1, len, &right)), (len, 0));
            if len > 0 {
                let mut wrong = right.clone();
                wrong[len - 1] ^= 0x10;
                assert_eq!(wrong_bytes(3, 1, len, &wrong), 1);
                assert_eq!(wrong_bytes(3, 1, len, &right[..len - 1]), 1);
                assert!(wrong_bytes(4, 1, len, &right) >= len as u64 / 2);
                assert!(wrong_bytes(3, 2, len, &right) >= len as u64 / 2);
            }
        }
        assert_eq!(wrong_bytes(3, 1, 0, b"xyz"), 3);
    }
}
