//! Whole worlds: many seeds, equal traces, and mistakes that are planted and found.

use super::judge::Wrong;
use super::plan::Plan;
use super::runs::{self, Sum};
use super::shrink::shrink;
use crate::mistakes::{Mistake, plant};

/// Seeds that every run of the tests goes through.
const SEEDS: u64 = 48;

#[test]
fn worlds_are_right() {
    let mut sum = Sum::default();
    for seed in 0..SEEDS {
        let outcome = runs::run(&Plan::draw(seed));
        if let Some(violation) = outcome.violation {
            let tail = outcome.report.map_or_else(Vec::new, |report| report.tail);
            let tail = tail[tail.len().saturating_sub(40)..].join("\n");
            panic!(
                "seed {seed} ('hedgerow sim --seeds {seed}..{}' tells more): {violation}\n{tail}",
                seed + 1
            );
        }
        sum.add(&outcome.report.expect("a run that is right has a report"));
    }
    assert_eq!(sum.runs, SEEDS);
    assert!(sum.ops > 10_000 && sum.part_requests > sum.ops, "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 11, 40] {
        let run = || {
            let report = runs::run(&Plan::draw(seed)).report.expect("a report");
            (report.trace_hash, report.events, report.tail)
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
    let hash = |seed| runs::run(&Plan::draw(seed)).report.expect("a report").trace_hash;
    assert_ne!(hash(3), hash(11));
}

/// The first of `seeds` that fails with `mistake`, and how.
fn found(mistake: Mistake, seeds: u64) -> Option<(Plan, Wrong)> {
    plant(Some(mistake));
    let fails = |plan: Plan| runs::run(&plan).violation.map(|violation| (plan, violation.wrong));
    let found = (0..seeds).map(Plan::draw).find_map(fails);
    plant(None);
    found
}

#[test]
fn mistakes_are_found() {
    for (mistake, wrong) in [
        (Mistake::QuorumTooSmall, Wrong::Old),
        (Mistake::PayloadUnchecked, Wrong::Bytes),
        (Mistake::ExpiryIgnored, Wrong::Expired),
        (Mistake::DeadlineMargin, Wrong::Late),
        (Mistake::BytesLeak, Wrong::Leak),
    ] {
        assert_eq!(found(mistake, 60).map(|(_, wrong)| wrong), Some(wrong), "{mistake:?}");
    }
}

#[test]
fn what_is_found_is_shortened() {
    let (plan, wrong) = found(Mistake::ConfirmIgnoresVersion, 60).expect("it is found");
    plant(Some(Mistake::ConfirmIgnoresVersion));
    let fails = |plan: &Plan| runs::run(plan).violation.map(|violation| violation.wrong);
    let shrunk = shrink(&plan, wrong, 400, fails);
    let still = fails(&shrunk.plan);
    plant(None);
    assert_eq!(still, Some(wrong));
    assert!(shrunk.plan.ops.len() < plan.ops.len() / 4, "{} operations are left", shrunk.plan.ops.len());
}
