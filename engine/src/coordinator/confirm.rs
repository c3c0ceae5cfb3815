//! When a version may be returned: one pure decision over what the first m + 1 targets say.
//!
//! Every shape k' of an object (same m) has parts on the first m + 1 targets of its key, so only they
//! count. With s = `Code::quorum_spare`, a write quorum w = k' + s of n' = k' + m leaves at most m - s
//! targets out; so at least s + 1 of the first m + 1 hold an acknowledged version. A version V is
//! confirmed when c = m - s + 1 of them hold nothing newer: any acknowledged V' > V would have
//! s + 1 holders among them, and (s + 1) + (m - s + 1) > m + 1. And when s + 1 of them hold V itself,
//! so that no later read can confirm anything older: then V is as good as acknowledged.

use crate::mistakes::{Mistake, planted};
use smallvec::SmallVec;

/// What one of the first m + 1 targets is known to say about the version in question.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Standing {
    /// It holds that version.
    Holds,
    /// It holds nothing newer, and nothing newer was forgotten: an older version, or nothing.
    NothingNewer,
    /// It holds something newer.
    Newer,
    /// What it holds is damaged, and of a version that it does not say. A part of the version can be
    /// written there unless that is newer: the answer to the write says the rest.
    Damaged,
    /// It holds nothing, and has forgotten something that may have been newer.
    Forgotten,
    /// It holds nothing, and never knew what it held: its device was replaced, or is damaged. It takes parts.
    Unknown,
    /// It cannot say: it failed, or is past its cap.
    Unable,
    /// It was asked.
    Pending,
    /// It was asked, and is late.
    Late,
    /// It was not asked.
    Unasked,
}

/// What to do about a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing newer was acknowledged, and nothing older can be confirmed any more.
    Confirmed,
    /// Ask so many that were not asked yet.
    Ask(usize),
    /// Enough are asked.
    Wait,
    /// All that could still help is late.
    Late,
    /// Nothing newer was acknowledged, but too few hold the version (or damage hides what they
    /// held): write its parts to those that lack it.
    Complete,
    /// Nothing more can come that would confirm it.
    Impossible,
}

/// Standings of the first m + 1 targets, in ring order.
pub(super) type Standings = SmallVec<[Standing; 8]>;

/// How many of the first m + 1 targets have to say that they hold nothing newer: m - s + 1.
pub(super) fn sayers_needed(m: usize, spare: usize) -> usize {
    m - spare + 1 - usize::from(planted(Mistake::SayersTooFew))
}

/// How many of the first m + 1 targets have to hold the version: s + 1.
pub(super) fn holders_needed(spare: usize) -> usize {
    spare + 1 - usize::from(planted(Mistake::HoldersTooFew))
}

/// Decides about a version from what the first m + 1 targets say; `spare` is s.
pub(super) fn decide(m: usize, spare: usize, standings: &[Standing]) -> Verdict {
    debug_assert!(standings.len() <= m + 1);
    let count = |which: Standing| standings.iter().filter(|&&standing| standing == which).count();
    let (holders, lacking, damaged) =
        (count(Standing::Holds), count(Standing::NothingNewer), count(Standing::Damaged));
    let (pending, late, unasked) =
        (count(Standing::Pending), count(Standing::Late), count(Standing::Unasked));
    let sayers = holders + lacking;
    let missing_sayers = sayers_needed(m, spare).saturating_sub(sayers);
    let missing_holders = holders_needed(spare).saturating_sub(holders);
    let missing = missing_sayers.max(missing_holders);
    if missing == 0 {
        return Verdict::Confirmed;
    }
    if pending >= missing {
        return Verdict::Wait;
    }
    if unasked > 0 {
        return Verdict::Ask(unasked.min(missing - pending));
    }
    if pending > 0 {
        return Verdict::Wait;
    }
    // A damaged part that is written anew makes its target a holder, which says the rest as well.
    if damaged >= missing_sayers && lacking + damaged >= missing_holders {
        return Verdict::Complete;
    }
    if late > 0 { Verdict::Late } else { Verdict::Impossible }
}

/// Whether a version that is not confirmed may be returned as such: only targets that cannot say (those
/// whose device was replaced among them), or not in time, stand in the way. What others forgot, or hold newer, is never excused: that would bring
/// back what was deleted or overwritten.
pub(super) fn excusable(m: usize, spare: usize, standings: &[Standing]) -> bool {
    let favourable = |&standing: &Standing| match standing {
        Standing::Newer | Standing::Forgotten | Standing::NothingNewer | Standing::Holds => standing,
        Standing::Damaged
        | Standing::Unknown
        | Standing::Unable
        | Standing::Pending
        | Standing::Late
        | Standing::Unasked => Standing::Holds,
    };
    let best: Standings = standings.iter().map(favourable).collect();
    let sayers = best.iter().filter(|s| matches!(s, Standing::Holds | Standing::NothingNewer)).count();
    sayers >= sayers_needed(m, spare).min(standings.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    use hedgerow_wire::types::Code;

    const ALL: [Standing; 10] = [
        Standing::Holds,
        Standing::NothingNewer,
        Standing::Newer,
        Standing::Damaged,
        Standing::Forgotten,
        Standing::Unknown,
        Standing::Unable,
        Standing::Pending,
        Standing::Late,
        Standing::Unasked,
    ];

    /// Calls `visit` with every combination of `len` of `values`.
    fn every(len: usize, values: &[Standing], visit: &mut impl FnMut(&[Standing])) {
        let mut at = vec![0; len];
        loop {
            let combination: Vec<Standing> = at.iter().map(|&i| values[i]).collect();
            visit(&combination);
            let Some(position) = at.iter().position(|&i| i + 1 < values.len()) else { return };
            at[..position].fill(0);
            at[position] += 1;
        }
    }

    fn spare(m: usize) -> usize {
        Code::new(4, m as u8).unwrap().quorum_spare()
    }

    fn number(standings: &[Standing], which: &[Standing]) -> usize {
        standings.iter().filter(|standing| which.contains(standing)).count()
    }

    /// An acknowledged newer version is held by s + 1 of the first m + 1 targets. Whatever the others
    /// say, no verdict is `Confirmed` when those s + 1 tell the truth, and none is `Complete` unless a
    /// repair would be refused by one of them.
    #[test]
    fn nothing_is_confirmed_below_an_acknowledged_version() {
        for m in 0..=4usize {
            let s = spare(m);
            let truthful = [
                Standing::Newer,
                Standing::Forgotten,
                Standing::Unknown,
                Standing::Unable,
                Standing::Damaged,
                Standing::Pending,
                Standing::Late,
                Standing::Unasked,
            ];
            every(m + 1, &ALL, &mut |standings| {
                if number(standings, &truthful) > s {
                    assert_ne!(decide(m, s, standings), Verdict::Confirmed, "m {m}: {standings:?}");
                }
            });
        }
    }

    /// Once a version was confirmed, s + 1 of the first m + 1 hold it: no older one can be confirmed.
    #[test]
    fn after_a_confirmed_version_no_older_one_is_confirmed() {
        for m in 0..=4usize {
            let s = spare(m);
            every(m + 1, &ALL, &mut |standings| {
                if decide(m, s, standings) == Verdict::Confirmed {
                    let older: Vec<Standing> = standings
                        .iter()
                        .map(|&standing| match standing {
                            Standing::Holds | Standing::Newer => Standing::Newer,
                            // The most favourable that the others could say.
                            _ => Standing::Holds,
                        })
                        .collect();
                    assert_ne!(decide(m, s, &older), Verdict::Confirmed, "m {m}: {standings:?}");
                }
            });
        }
    }

    /// Every verdict leads on: there is someone to ask, to wait for or to write to; and `Impossible`
    /// only when no answers whatever would confirm the version.
    #[test]
    fn every_verdict_leads_on() {
        for m in 0..=4usize {
            let s = spare(m);
            every(m + 1, &ALL, &mut |standings| {
                let verdict = decide(m, s, standings);
                let context = format!("m {m}: {standings:?} gave {verdict:?}");
                match verdict {
                    Verdict::Confirmed => {}
                    Verdict::Ask(count) => {
                        assert!(count > 0 && count <= number(standings, &[Standing::Unasked]), "{context}");
                    }
                    Verdict::Wait => assert!(number(standings, &[Standing::Pending]) > 0, "{context}"),
                    Verdict::Late => assert!(number(standings, &[Standing::Late]) > 0, "{context}"),
                    Verdict::Complete => {
                        let written: Vec<Standing> = standings
                            .iter()
                            .map(|&standing| match standing {
                                Standing::NothingNewer | Standing::Damaged => Standing::Holds,
                                other => other,
                            })
                            .collect();
                        assert_eq!(decide(m, s, &written), Verdict::Confirmed, "{context}");
                    }
                    Verdict::Impossible => {
                        let best: Vec<Standing> = standings
                            .iter()
                            .map(|&standing| match standing {
                                Standing::Newer
                                | Standing::Forgotten
                                | Standing::Unknown
                                | Standing::Unable => standing,
                                _ => Standing::Holds,
                            })
                            .collect();
                        assert_ne!(decide(m, s, &best), Verdict::Confirmed, "{context}");
                    }
                }
            });
        }
    }

    /// Enough is asked at once: when all that is pending says the best, the version is confirmed.
    #[test]
    fn enough_is_asked() {
        for m in 0..=4usize {
            let s = spare(m);
            every(m + 1, &ALL, &mut |standings| {
                if decide(m, s, standings) == Verdict::Wait && number(standings, &[Standing::Unasked]) > 0 {
                    let best: Vec<Standing> = standings
                        .iter()
                        .map(|&standing| match standing {
                            Standing::Pending => Standing::Holds,
                            other => other,
                        })
                        .collect();
                    assert_eq!(decide(m, s, &best), Verdict::Confirmed, "m {m}: {standings:?}");
                }
            });
        }
    }

    #[test]
    fn what_was_forgotten_is_not_excused() {
        use Standing::{Damaged, Forgotten, Holds, Late, Newer, NothingNewer, Unable};
        let cases: &[(usize, &[Standing], bool)] = &[
            (0, &[Unable], true),
            (1, &[Holds, Unable], true),
            (1, &[Holds, Late], true),
            (1, &[Holds, Damaged], true),
            (1, &[Holds, Forgotten], false),
            (1, &[Holds, Newer], false),
            (2, &[Holds, Unable, Unable], true),
            (2, &[Holds, Forgotten, Unable], true),
            (2, &[Holds, Forgotten, Forgotten], false),
            (2, &[Holds, NothingNewer, Newer], true),
            (2, &[Holds, Newer, Newer], false),
        ];
        for (m, standings, expected) in cases {
            assert_eq!(excusable(*m, spare(*m), standings), *expected, "m {m}: {standings:?}");
        }
    }

    #[test]
    fn the_table_of_common_cases() {
        use Standing::{Damaged, Holds, Late, Newer, NothingNewer, Pending, Unable, Unasked};
        let cases: &[(usize, &[Standing], Verdict)] = &[
            (0, &[Holds], Verdict::Confirmed),
            (0, &[Unasked], Verdict::Ask(1)),
            (0, &[Unable], Verdict::Impossible),
            (1, &[Holds, Holds], Verdict::Confirmed),
            (1, &[Holds, NothingNewer], Verdict::Confirmed),
            (1, &[Holds, Unable], Verdict::Impossible),
            (1, &[Holds, Late], Verdict::Late),
            (1, &[Holds, Damaged], Verdict::Complete),
            (1, &[Holds, Newer], Verdict::Impossible),
            (2, &[Holds, Holds, Pending], Verdict::Confirmed),
            (2, &[Holds, Unasked, Unasked], Verdict::Ask(1)),
            (2, &[Holds, NothingNewer, Unasked], Verdict::Ask(1)),
            (2, &[Holds, Pending, Pending], Verdict::Wait),
            (2, &[Holds, NothingNewer, NothingNewer], Verdict::Complete),
            (2, &[Holds, NothingNewer, Unable], Verdict::Complete),
            (2, &[Holds, Unable, Unable], Verdict::Impossible),
            (2, &[Holds, Late, Unasked], Verdict::Ask(1)),
            (2, &[Holds, Late, Unable], Verdict::Late),
            (2, &[Unable, Holds, Holds], Verdict::Confirmed),
            (2, &[NothingNewer, NothingNewer, Holds], Verdict::Complete),
            (3, &[Holds, Holds, Unable, Unable], Verdict::Impossible),
            (3, &[Holds, Holds, NothingNewer, Newer], Verdict::Confirmed),
        ];
        for (m, standings, expected) in cases {
            assert_eq!(decide(*m, spare(*m), standings), *expected, "m {m}: {standings:?}");
        }
    }
}
