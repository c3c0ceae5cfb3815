//! Every target over its corpus, and over mutations of it that are drawn from a seed.
//!
//! `HEDGEROW_MUTATIONS=1000000 cargo test --release -p hedgerow-fuzz` draws more of them than the ordinary test.

#![allow(clippy::unwrap_used)] // what fails here fails the test
#![allow(clippy::print_stdout)] // seeds and inputs are for whoever reads what failed

mod allocations;
mod corpus;
mod mutate;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use hedgerow_fuzz::{TARGETS, Target};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Bytes of an input at most.
const INPUT_LEN_MAX: usize = 16 << 10;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Runs the corpus of a target, and `mutations` of it.
fn run(name: &str, mutations: u64) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    // What is made once for all inputs is not an input's.
    (target.run)(&[]);
    let corpus = corpus::read(name);
    for (file, bytes) in &corpus {
        check(target, bytes, &format!("of the file {file}"));
    }
    let seed = number("HEDGEROW_SEED").unwrap_or_else(|| RandomState::new().hash_one(name));
    let mutations = number("HEDGEROW_MUTATIONS").unwrap_or(mutations);
    println!("{mutations} mutations, HEDGEROW_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for mutation in 0..mutations {
        let (_, bytes) = &corpus[rng.random_range(0..corpus.len())];
        let mut bytes = bytes.clone();
        let (_, other) = &corpus[rng.random_range(0..corpus.len())];
        mutate::mutate(&mut bytes, other, &mut rng);
        bytes.truncate(INPUT_LEN_MAX);
        check(target, &bytes, &format!("that is mutation {mutation} of HEDGEROW_SEED={seed}"));
    }
}

/// Runs one input; what panics is shown, what allocates more than it may panics.
fn check(target: &Target, bytes: &[u8], which: &str) {
    let (result, most) = allocations::counted(|| catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))));
    if let Err(panic) = result {
        println!("target {}, input {which}: {}", target.name, bytes.escape_ascii());
        resume_unwind(panic);
    }
    let may = target.fixed_bytes_max + target.bytes_per_byte_max * bytes.len();
    assert!(
        most <= may,
        "target {} had {most} bytes allocated, {may} are allowed, for the input of {} bytes {which}: {}",
        target.name,
        bytes.len(),
        bytes.escape_ascii()
    );
}

macro_rules! tests {
    ($($name:ident: $mutations:literal),+ $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $mutations);
        })+

        #[test]
        fn every_target_is_tested() {
            let tested = [$(stringify!($name)),+];
            assert_eq!(TARGETS.map(|target| target.name), tested);
        }
    };
}

tests! {
    frames: 20_000,
    requests: 20_000,
    bodies: 20_000,
    part_heads: 20_000,
    part_messages: 20_000,
    snapshot: 10_000,
    device: 3_000,
    settings: 10_000,
    trace: 10_000,
    pairs: 20_000,
}

#[test]
fn the_corpus_has_the_encodings_of_this_build() {
    for target in TARGETS {
        corpus::check_seeds(target.name);
    }
}
