//! What is learnt of targets from their answers alone.

use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{Member, Target};

use super::super::Config;
use super::super::targets::{Class, Lane, Said, Targets};

pub(super) const US: Duration = Duration::from_micros(1);

/// Six targets that took so long each for all of their parts.
pub(super) fn learnt(took: [Duration; 6]) -> Targets {
    let all = (0..6).map(|member| Target { member: Member(member), shard: 0 }).collect();
    let config = Config::new("4+2".parse().unwrap());
    let mut targets = Targets::new(all, &config, 7);
    for (index, took) in took.into_iter().enumerate() {
        for _ in 0..60 {
            targets.learn(index as u32, Said::Well(Class::Medium), took, false);
        }
    }
    targets.judge(Timestamp(1));
    targets
}

fn slow(targets: &Targets) -> Vec<u32> {
    (0..targets.len() as u32).filter(|&index| targets.slow(index)).collect()
}

#[test]
fn slow_is_relative_to_the_others() {
    let fast = 300 * US;
    let cases: &[([Duration; 6], &[u32])] = &[
        ([fast; 6], &[]),
        ([2000 * US; 6], &[]),
        ([fast, fast, 2000 * US, fast, fast, fast], &[2]),
        // Twice as slow is not slow, nor is thrice if that is next to nothing.
        ([fast, fast, 2 * fast, fast, fast, fast], &[]),
        ([20 * US, 20 * US, 80 * US, 20 * US, 20 * US, 20 * US], &[]),
        // At most half are.
        ([fast, 5000 * US, fast, 5000 * US, fast, 5000 * US], &[1, 3, 5]),
        ([fast, 5000 * US, fast, 5000 * US, 5000 * US, 5000 * US], &[]),
    ];
    for (took, expected) in cases {
        assert_eq!(slow(&learnt(*took)), *expected, "{took:?}");
    }
}

#[test]
fn at_most_half_of_the_targets_are_slow() {
    // Three fail; then another one becomes slow.
    let mut targets = learnt([300 * US; 6]);
    for _ in 0..100 {
        (0..3).for_each(|index| targets.learn(index, Said::Badly, 300 * US, false));
    }
    targets.judge(Timestamp(2));
    assert_eq!(slow(&targets), [0, 1, 2]);
    for _ in 0..100 {
        targets.learn(3, Said::Well(Class::Medium), 5000 * US, false);
    }
    targets.judge(Timestamp(3));
    assert_eq!(slow(&targets), [0, 1, 2]);
}

#[test]
fn a_part_is_late_after_what_is_usual_for_its_target_and_not_much_more_than_for_the_others() {
    let targets = learnt([300 * US, 300 * US, 300 * US, 300 * US, 300 * US, 450 * US]);
    let late = |index| targets.late_after(index, Class::Medium);
    assert!((300 * US..400 * US).contains(&late(0)), "{:?}", late(0));
    assert!((450 * US..550 * US).contains(&late(5)), "{:?}", late(5));
    let targets = learnt([300 * US, 300 * US, 300 * US, 300 * US, 300 * US, 4500 * US]);
    assert!(targets.late_after(5, Class::Medium) < 700 * US);
    // Of a class that nothing is known of, that of all parts counts.
    assert!(targets.late_after(0, Class::Large) < 700 * US);
    let config = Config::new("4+2".parse().unwrap());
    let new = Targets::new(vec![Target::default()], &config, 7);
    assert_eq!(new.late_after(0, Class::Any), config.hedge_ceiling);
}

#[test]
fn most_are_silent_when_more_than_half_have_not_answered_for_long() {
    let at = |us: u64| Timestamp(us * 1000);
    for silent in 0..=6u32 {
        let mut targets = learnt([300 * US; 6]);
        for index in 0..6 {
            targets.sent(index, 0, Lane::Device, at(1000));
        }
        for index in silent..6 {
            targets.done(index, 0, Lane::Device, at(1300));
        }
        assert!(!targets.most_silent(at(1200)));
        assert_eq!(targets.most_silent(at(2000)), silent > 3, "{silent}");
    }
}
