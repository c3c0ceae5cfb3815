use std::collections::{HashMap, HashSet};

use hedgerow_wire::{Key, Member, Namespace};

use super::*;

fn target(member: u16, shard: u16) -> Target {
    Target { member: Member(member), shard }
}

/// `members` members of `shards` shards each, weight 1; each member is a failure domain.
fn fleet(members: u16, shards: u16) -> Vec<TargetSpec> {
    (0..members)
        .flat_map(|m| {
            (0..shards).map(move |s| TargetSpec { target: target(m, s), domain: u32::from(m), weight: 1 })
        })
        .collect()
}

fn hashes(count: u32) -> impl Iterator<Item = KeyHash> {
    (0..count).map(|i| Key::new(format!("key-{i}").as_bytes()).unwrap().hash(Namespace(0)))
}

/// Asserts that of the first `n` targets of many keys every target gets its weight's share within
/// `bound` (relative).
fn check_balance(specs: &[TargetSpec], n: usize, bound: f64) {
    let ring = Ring::new(specs);
    let keys = 20_000;
    let mut counts: HashMap<Target, u32> = HashMap::new();
    for hash in hashes(keys) {
        for target in ring.targets(hash, n) {
            *counts.entry(target).or_default() += 1;
        }
    }
    let weights: u32 = specs.iter().map(|spec| spec.weight).sum();
    for spec in specs {
        let fair = f64::from(keys) * n as f64 * f64::from(spec.weight) / f64::from(weights);
        let got = f64::from(counts[&spec.target]);
        let off = got / fair - 1.0;
        assert!(off.abs() < bound, "{}: {got} keys, fair share {fair:.0}, off {off:+.3}", spec.target);
    }
}

#[test]
fn shares_follow_weights() {
    check_balance(&fleet(12, 1), 1, 0.17);
    check_balance(&fleet(12, 1), 6, 0.12);
    check_balance(&fleet(6, 4), 1, 0.20);
    check_balance(&fleet(1, 8), 4, 0.12);
    let mut specs = fleet(8, 1);
    for (weight, spec) in (1..).zip(&mut specs) {
        spec.weight = 1 + weight % 4;
    }
    check_balance(&specs, 1, 0.17);
}

#[test]
fn distinct_targets_and_distinct_domains_first() {
    for (members, shards) in [(1, 1), (1, 8), (3, 4), (6, 2), (9, 3), (60, 5)] {
        let ring = Ring::new(&fleet(members, shards));
        assert_eq!(ring.len(), usize::from(members * shards));
        assert_eq!(ring.distinct_domains(), usize::from(members));
        for hash in hashes(50) {
            let all = ring.targets(hash, 1000);
            assert_eq!(all.len(), ring.len());
            assert_eq!(all.iter().collect::<HashSet<_>>().len(), ring.len(), "a target comes twice");
            let first = &all[..usize::from(members)];
            let domains: HashSet<Member> = first.iter().map(|t| t.member).collect();
            assert_eq!(domains.len(), usize::from(members), "a domain comes twice before all have come");
        }
    }
}

#[test]
fn fewer_targets_are_a_prefix_of_more() {
    for specs in [fleet(1, 7), fleet(4, 5), fleet(30, 1)] {
        let ring = Ring::new(&specs);
        for hash in hashes(100) {
            let all = ring.targets(hash, specs.len());
            for n in 0..=specs.len() {
                assert_eq!(ring.targets(hash, n)[..], all[..n]);
            }
        }
    }
}

/// Asserts that between two rings, the order of the targets that both have is the same for every key
/// if domains have one target each, and that the share of first targets that differ is `moved`
/// within 15 %.
fn check_stability(before: &[TargetSpec], after: &[TargetSpec], moved: f64) {
    let (a, b) = (Ring::new(before), Ring::new(after));
    let has = |specs: &[TargetSpec], t: &Target| specs.iter().any(|spec| spec.target == *t);
    let keys = 4000;
    let mut differing = 0;
    for hash in hashes(keys) {
        let mut first = a.targets(hash, before.len());
        let mut second = b.targets(hash, after.len());
        differing += u32::from(first[0] != second[0]);
        first.retain(|t| has(after, t));
        second.retain(|t| has(before, t));
        assert_eq!(first, second);
    }
    let share = f64::from(differing) / f64::from(keys);
    assert!((share / moved - 1.0).abs() < 0.15, "moved {share:.4}, expected {moved:.4}");
}

#[test]
fn adding_and_removing_moves_one_share() {
    let all = fleet(12, 1);
    let without: Vec<TargetSpec> = all.iter().filter(|spec| spec.target.member.0 != 5).copied().collect();
    check_stability(&without, &all, 1.0 / 12.0);
    check_stability(&all, &without, 1.0 / 12.0);
    let mut heavier = all.clone();
    heavier[3].weight = 2;
    let (a, b) = (Ring::new(&all), Ring::new(&heavier));
    for hash in hashes(2000) {
        let (before, after) = (a.targets(hash, 1)[0], b.targets(hash, 1)[0]);
        assert!(before == after || after == target(3, 0), "a heavier target moved a key of others");
    }
}

#[test]
fn removing_a_shard_of_many_moves_few_parts() {
    let all = fleet(8, 4);
    let without: Vec<TargetSpec> = all.iter().filter(|spec| spec.target != target(2, 1)).copied().collect();
    let (a, b) = (Ring::new(&all), Ring::new(&without));
    let (mut moved, mut held) = (0, 0);
    for hash in hashes(4000) {
        let after = b.targets(hash, 6);
        let before = a.targets(hash, 6);
        held += before.iter().filter(|t| **t == target(2, 1)).count();
        moved += before.iter().filter(|t| !after.contains(t)).count();
    }
    // A removed shard may also let its domain fall behind another one for a key, which moves a part
    // that was not its own; that stays a small share of a share.
    assert!(moved >= held && moved <= held * 3 / 2, "{moved} parts moved for {held} that the shard held");
}

#[test]
fn the_order_of_the_list_and_doubles_do_not_matter() {
    let specs = fleet(5, 3);
    let ring = Ring::new(&specs);
    let mut shuffled: Vec<TargetSpec> = specs.iter().rev().copied().collect();
    shuffled.push(TargetSpec { weight: 9, ..specs[4] });
    shuffled.push(TargetSpec { target: target(77, 0), domain: 77, weight: 0 });
    let other = Ring::new(&shuffled);
    assert_eq!((other.len(), other.distinct_domains()), (15, 5));
    for hash in hashes(200) {
        assert_eq!(ring.targets(hash, 15), other.targets(hash, 15));
    }
}

#[test]
fn an_empty_ring_has_no_targets() {
    let ring = Ring::new(&[]);
    assert!(ring.is_empty() && ring.distinct_domains() == 0);
    assert!(ring.targets(KeyHash(7), 3).is_empty());
    assert!(Ring::new(&fleet(3, 1)).targets(KeyHash(7), 0).is_empty());
}

#[test]
fn golden_order() {
    let order = |ring: &Ring, hash| -> String {
        let targets = ring.targets(hash, 12);
        targets.iter().map(Target::to_string).collect::<Vec<_>>().join(" ")
    };
    let hash = Key::new(b"photos/1.jpg").unwrap().hash(Namespace(0));
    let ring = Ring::new(&fleet(4, 3));
    let mut specs = fleet(6, 1);
    specs[2].weight = 3;
    let weighted = Ring::new(&specs);
    let orders = [order(&ring, hash), order(&ring, KeyHash(0)), order(&weighted, hash)];
    let golden = [
        "0.0 2.1 3.1 1.1 0.1 2.2 2.0 0.2 3.2 1.2 3.0 1.0",
        "0.0 2.0 1.1 3.2 0.2 2.1 0.1 1.2 2.2 3.0 3.1 1.0",
        "0.0 2.0 4.0 5.0 3.0 1.0",
    ];
    assert_eq!(orders, golden);
}
