//! Hit ratios made equal: a peer that has more hits than the others is started again with less flash, until it has
//! as many. What is compared then is the price of a request, and how many bytes each needs for the same hits.

use std::path::Path;

use anyhow::{Context, Result};

use super::contest::Contest;
use super::{Case, Compare, FLASH_MIB_MIN, start};
use crate::peer::Tier;

/// Hit ratios that differ by less are equal.
const APART_MAX: f64 = 0.01;
/// How often a peer is started again, at most.
const TRIES: usize = 4;
/// The first guess: so much of the flash.
const FIRST_GUESS: f64 = 0.67;
/// No guess leaves more, or less, of what was tried last.
const STEP: (f64, f64) = (0.3, 3.0);

/// A peer's flash in bytes, and the hits that it had with it.
type Tried = (f64, f64);

/// Brings the peers that have flash down to the hits of the poorest of them. Those without are left as they are:
/// their hits are what their memory gives.
pub fn hits(options: &Compare, case: &Case, folder: &Path, contest: &mut Contest<'_>) -> Result<()> {
    let mut found = Vec::new();
    for place in 0..contest.contestants.len() {
        found.push(contest.hit_share(place)?);
    }
    let flash = |place: &usize| contest.contestants[*place].running.peer.serves(Tier::Device);
    let places: Vec<usize> = (0..found.len()).filter(flash).collect();
    let target = places.iter().map(|place| found[*place]).fold(f64::INFINITY, f64::min);
    for place in places {
        let peer = contest.contestants[place].running.peer;
        let mut tried: Vec<Tried> = vec![(contest.contestants[place].flash_bytes as f64, found[place])];
        let mut own = folder.join(peer.name());
        while tried.last().is_some_and(|(_, hits)| (hits - target).abs() > APART_MAX) && tried.len() <= TRIES
        {
            let guess = next_flash(&tried, target).max((FLASH_MIB_MIN << 20) as f64);
            // What it had is free before it starts again.
            drop(contest.contestants.remove(place));
            std::fs::remove_dir_all(&own).with_context(|| format!("removing {}", own.display()))?;
            own = folder.join(format!("{}-{}", peer.name(), tried.len()));
            contest.contestants.insert(place, start(options, case, peer, &own, guess as u64)?);
            contest.warm(place, options.warm_seconds)?;
            tried.push((guess, contest.hit_share(place)?));
        }
        let (bytes, hits) = tried.last().copied().unwrap_or_default();
        println!(
            "note: {}: {:.0} MiB of flash for {:.1} % hits",
            peer.name(),
            bytes / 1048576.0,
            100.0 * hits
        );
        if (hits - target).abs() > APART_MAX {
            println!("warning: {}: its hits could not be brought to {:.1} %", peer.name(), 100.0 * target);
        }
    }
    Ok(())
}

/// What to try next: hits grow about with the logarithm of the bytes, and the last two tell how fast.
fn next_flash(tried: &[Tried], target: f64) -> f64 {
    let [.., (bytes_before, hits_before), (bytes, hits)] = tried[..] else {
        return tried.first().map_or(0.0, |(bytes, _)| bytes * FIRST_GUESS);
    };
    let growth = (hits - hits_before) / (bytes / bytes_before).ln();
    let times = match growth > 0.0 {
        true => ((target - hits) / growth).exp(),
        // It was noise: further in the direction that is wanted.
        false if target < hits => FIRST_GUESS,
        false => 1.0 / FIRST_GUESS,
    };
    bytes * times.clamp(STEP.0, STEP.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_for_a_hit_ratio_are_found_in_a_few_tries() {
        let hits = |bytes: f64| 0.5 + 0.1 * (bytes / 8e9).ln();
        for target in [0.48, 0.42, 0.3] {
            let mut tried = vec![(8e9, hits(8e9))];
            while (tried[tried.len() - 1].1 - target).abs() > APART_MAX {
                let guess = next_flash(&tried, target);
                tried.push((guess, hits(guess)));
                assert!(tried.len() <= TRIES + 1, "{target}: {tried:?}");
            }
        }
        // A peer that has more hits with fewer bytes was measured badly: it gets fewer still, or more again.
        assert!(next_flash(&[(8e9, 0.5), (6e9, 0.51)], 0.4) < 6e9);
        assert!(next_flash(&[(8e9, 0.5), (6e9, 0.51)], 0.6) > 6e9);
    }
}
