//! What is done to which daemon when: a seeded sequence of episodes, each alone in its daemon. Pure.

use std::time::Duration;

use hedgerow_wire::limits::FAULT_DURATION_MS_MAX;
use hedgerow_wire::messages::FaultKind;

use crate::pattern::Random;

/// One kind of harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// SIGKILL, and a start on the same files.
    Kill,
    /// SIGSTOP, and SIGCONT at the end.
    Pause,
    /// A fault of a shard's device. After one that never ends: SIGKILL and a start.
    Shard(FaultKind),
    /// A fault of the answers on all connections.
    Answers(FaultKind),
    /// Bytes of one shard's file are overwritten.
    Overwrite,
    /// The same in two files: more than the promise covers.
    OverwriteTwo,
    /// SIGKILL, a shard's file is cut, a start without it; SIGKILL, the file is cleared, a start with it.
    Truncate,
    /// The file system of a shard has no block left.
    DiskFull,
    /// The daemon's memory is wanted by another process.
    Memory,
    /// Connections come by the thousand, say nothing or half of something, and go.
    Storm,
}

/// Until the fault ends.
const STALL: FaultKind = FaultKind::Stall { stall_ms: FAULT_DURATION_MS_MAX };

impl Harm {
    /// All of them.
    pub const ALL: [Harm; 22] = [
        Harm::Kill,
        Harm::Pause,
        Harm::Shard(FaultKind::Delay { delay_us: 50_000 }),
        Harm::Shard(FaultKind::DelayExponential { mean_us: 20_000 }),
        Harm::Shard(FaultKind::DelayUniform { min_us: 0, max_us: 100_000 }),
        Harm::Shard(STALL),
        Harm::Shard(FaultKind::Error),
        Harm::Shard(FaultKind::Damage),
        Harm::Shard(FaultKind::Torn),
        Harm::Shard(FaultKind::Full),
        Harm::Shard(FaultKind::Vanish),
        Harm::Answers(FaultKind::DelayExponential { mean_us: 20_000 }),
        Harm::Answers(STALL),
        Harm::Answers(FaultKind::Damage),
        Harm::Answers(FaultKind::Vanish),
        Harm::Answers(FaultKind::Cut { after_bytes: 1_000_000 }),
        Harm::Overwrite,
        Harm::OverwriteTwo,
        Harm::Truncate,
        Harm::DiskFull,
        Harm::Memory,
        Harm::Storm,
    ];

    /// How often the daemon is started anew.
    pub fn starts(self) -> u64 {
        match self {
            Harm::Kill | Harm::Shard(FaultKind::Vanish) => 1,
            Harm::Truncate => 2,
            _ => 0,
        }
    }

    /// Whether a shard loses something for good.
    pub fn lasts(self) -> bool {
        let torn = matches!(self, Harm::Shard(FaultKind::Torn));
        torn || matches!(self, Harm::Overwrite | Harm::OverwriteTwo | Harm::Truncate)
    }

    /// As people call it.
    pub fn name(self) -> String {
        let name = match self {
            Harm::Shard(FaultKind::Vanish) => "a shard: vanish, SIGKILL and start",
            Harm::Shard(kind) => return format!("a shard: {}", kind.info().name),
            Harm::Answers(kind) => return format!("answers: {}", kind.info().name),
            Harm::Kill => "SIGKILL and start",
            Harm::Pause => "SIGSTOP, SIGCONT",
            Harm::Overwrite => "bytes of a file overwritten",
            Harm::OverwriteTwo => "bytes of two files overwritten",
            Harm::Truncate => "file cut, two SIGKILLs and starts",
            Harm::DiskFull => "file system full",
            Harm::Memory => "memory pressure",
            Harm::Storm => "connection storm",
        };
        name.to_owned()
    }
}

/// Something that is done for a while, and what follows it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Episode {
    /// What.
    pub harm: Harm,
    /// To which daemon.
    pub daemon: usize,
    /// To which of its shards, if it is done to one.
    pub shard: u16,
    /// To which other one, where two are struck.
    pub second_shard: u16,
    /// How long it lasts.
    pub lasts: Duration,
    /// What is left of its time: to recover.
    pub pause: Duration,
}

/// An episode takes so long if there is time for it.
const EPISODE: Duration = Duration::from_secs(4);
/// Share of it that is harm.
const HARM_SHARE: f64 = 0.6;

/// The shard of the full file system.
pub const FULL_SHARD: u16 = 5;

/// Episodes that fill `total`: every kind equally often, in an order of its own each time. What lasts is done to the
/// same shard of a daemon each time, so that no object ever lacks more than one part for good.
pub fn schedule(seed: u64, total: Duration, daemons: usize, shards: u16) -> Vec<Episode> {
    let mut random = Random::new(seed);
    let kinds = Harm::ALL.len();
    let rounds = (total.as_secs_f64() / EPISODE.as_secs_f64() / kinds as f64).floor().max(1.0) as usize;
    let each = total / (rounds * kinds) as u32;
    let harmed: Vec<u16> = (0..daemons).map(|_| random.below(u64::from(FULL_SHARD)) as u16).collect();
    let mut episodes = Vec::new();
    for round in 0..rounds {
        let mut order = Harm::ALL;
        for place in (1..kinds).rev() {
            order.swap(place, random.below(place as u64 + 1) as usize);
        }
        for (place, harm) in order.into_iter().enumerate() {
            let daemon = (round + place) % daemons;
            let shard = match harm {
                harm if harm.lasts() => harmed[daemon],
                Harm::DiskFull => FULL_SHARD,
                _ => random.below(u64::from(shards)) as u16,
            };
            let second_shard = (shard + 1 + random.below(u64::from(shards) - 1) as u16) % shards;
            let lasts = each.mul_f64(HARM_SHARE);
            episodes.push(Episode { harm, daemon, shard, second_shard, lasts, pause: each - lasts });
        }
    }
    episodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_equally_often_and_fills_the_time() {
        for (seconds, each) in [(22, 1), (200, 2), (900, 10)] {
            let total = Duration::from_secs(seconds);
            let episodes = schedule(3, total, 2, 6);
            for harm in Harm::ALL {
                assert_eq!(episodes.iter().filter(|episode| episode.harm == harm).count(), each, "{harm:?}");
            }
            let sum: Duration = episodes.iter().map(|episode| episode.lasts + episode.pause).sum();
            assert!(total - sum < Duration::from_millis(1));
            assert!(episodes.iter().all(|episode| episode.shard < 6 && episode.second_shard < 6));
            assert!(episodes.iter().all(|episode| episode.shard != episode.second_shard));
        }
    }

    #[test]
    fn a_seed_gives_the_same_script_and_another_one_another() {
        let total = Duration::from_secs(200);
        assert_eq!(schedule(1, total, 2, 6), schedule(1, total, 2, 6));
        assert_ne!(schedule(1, total, 2, 6), schedule(2, total, 2, 6));
    }

    #[test]
    fn what_lasts_is_done_to_one_shard_of_a_daemon() {
        for seed in 0..20 {
            let mut shards = [None; 2];
            for episode in schedule(seed, Duration::from_secs(900), 2, 6) {
                if episode.harm.lasts() {
                    let first = *shards[episode.daemon].get_or_insert(episode.shard);
                    assert_eq!(first, episode.shard);
                }
            }
        }
    }
}
