//! Draws a plan from a seed.

use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{AckLevel, Code, ReadPolicy};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::{
    ClientOp, Condition, DeviceFault, FaultEvent, FaultWhat, LinkFault, OpKind, Plan, READS_THAT_COMPLETE,
    Shape,
};

const MS: u64 = 1_000_000;
const KIB: u32 = 1024;

/// Members, shards of each, k, m.
const SHAPES: &[(u8, u8, u8, u8)] = &[
    (6, 1, 4, 2),
    (3, 1, 2, 1),
    (3, 2, 3, 3),
    (3, 1, 1, 2),
    (4, 3, 8, 3),
    (8, 1, 4, 2),
    (1, 6, 4, 2),
    (4, 1, 2, 2),
    (2, 1, 1, 1),
];

/// Nothing goes wrong so early, so that there is something to go wrong with.
const WARM: u64 = 150 * MS;
/// From the end of the last fault, until every key is read: shards that were set aside are back.
const SETTLE: u64 = 3_000 * MS;
/// From one round of reads of every key to the next.
const ROUND: u64 = 1_000 * MS;
/// Rounds of reads at the end, where not everything has to be completed by them.
const ROUNDS_FEW: u32 = 2;

impl Plan {
    /// The plan of `seed`.
    pub fn draw(seed: u64) -> Plan {
        let mut draw = Draw::new(seed);
        let active = draw.rng.random_range(300..2_000) * MS;
        let mut ops = draw.ops(active);
        let faults = draw.faults(active);
        let until = faults.iter().map(|fault| fault.until.0).max().unwrap_or(0);
        let calm_at = Timestamp(until.max(active) + SETTLE);
        draw.tail(calm_at, &mut ops);
        Plan { seed, shape: draw.shape, ops, faults, calm_at }
    }
}

struct Draw {
    rng: SmallRng,
    shape: Shape,
    keys: u16,
    /// Longest object in bytes.
    len_max: u32,
    /// Targets that may lose something.
    frail: Vec<(u8, u8)>,
    next_id: u32,
}

impl Draw {
    fn new(seed: u64) -> Draw {
        // The world draws from the seed itself.
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x706c_616e);
        let &(members, shards_per_member, k, m) = SHAPES.choose(&mut rng).unwrap_or(&SHAPES[0]);
        let code = Code::new(k, m).unwrap_or_else(|error| panic!("of SHAPES: {error}"));
        let roomy = rng.random_bool(0.6);
        let (slabs, slab_len) = if roomy { (16, 512 * KIB) } else { (rng.random_range(6..10), 64 * KIB) };
        let memory_bytes = *[0, 64 << 10, 4 << 20].choose(&mut rng).unwrap_or(&0);
        let min_part = *[512, 4 * KIB].choose(&mut rng).unwrap_or(&512);
        let shape = Shape { members, shards_per_member, code, slabs, slab_len, memory_bytes, min_part };
        let keys = if roomy { rng.random_range(2..24) } else { rng.random_range(16..64) };
        let mut targets: Vec<(u8, u8)> = (0..members)
            .flat_map(|member| (0..shards_per_member).map(move |shard| (member, shard)))
            .collect();
        // Usually no more than a write bears; else anything goes, and the judge knows what was lost.
        if rng.random_bool(0.8) {
            let borne = code.n() - code.write_quorum();
            targets = targets.choose_multiple(&mut rng, borne).copied().collect();
        }
        let len_max = *[2 * KIB, 24 * KIB].choose(&mut rng).unwrap_or(&KIB);
        Draw { rng, shape, keys, len_max, frail: targets, next_id: 1 }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn op(&mut self, at: u64, key: u16, kind: OpKind, deadline: Duration) -> ClientOp {
        let id = self.next_id;
        self.next_id += 1;
        ClientOp { at: Timestamp(at), id, key, kind, deadline, cancel_after: None }
    }

    /// What clients ask while things go wrong.
    fn ops(&mut self, active: u64) -> Vec<ClientOp> {
        let count = self.rng.random_range(100..400u32);
        let mut times: Vec<u64> = Vec::new();
        while times.len() < count as usize {
            let at = self.rng.random_range(0..active);
            // Several at about the same time, so that they meet.
            let burst = if self.chance(30) { self.rng.random_range(2..10) } else { 1 };
            times.extend((0..burst).map(|_| at + self.rng.random_range(0..MS)));
        }
        times.sort_unstable();
        let hot = self.rng.random_range(0..self.keys);
        let mut ops = Vec::with_capacity(times.len());
        for at in times {
            let key = if self.chance(30) { hot } else { self.rng.random_range(0..self.keys) };
            let kind = self.kind(at);
            let deadline = match self.rng.random_range(0..10) {
                0 => self.rng.random_range(500..20_000),
                1..=3 => self.rng.random_range(20_000..200_000),
                _ => 1_000_000,
            };
            let mut op = self.op(at, key, kind, Duration::from_micros(deadline));
            if self.chance(5) {
                op.cancel_after = Some(Duration::from_micros(self.rng.random_range(1..5_000)));
            }
            ops.push(op);
        }
        ops
    }

    fn kind(&mut self, at: u64) -> OpKind {
        let ack = match self.rng.random_range(0..20) {
            0..=2 => AckLevel::Buffered,
            3..=8 => AckLevel::Synced,
            _ => AckLevel::Written,
        };
        let condition = self
            .chance(10)
            .then(|| if self.rng.random_bool(0.5) { Condition::Absent } else { Condition::LastSeen });
        // More is put at the begin.
        let puts = if at < WARM { 70 } else { 35 };
        match self.rng.random_range(0..100) {
            roll if roll < puts => {
                let ttl_ms = self.chance(8).then(|| self.rng.random_range(20..1_000));
                OpKind::Put { len: self.len(), ack, ttl_ms, condition }
            }
            roll if roll < puts + 8 => OpKind::Delete { ack, condition },
            _ => {
                let range = self.chance(20).then(|| {
                    let offset = self.rng.random_range(0..self.len_max);
                    (offset, self.rng.random_range(1..self.len_max))
                });
                let policy = if self.chance(15) { ReadPolicy::All } else { ReadPolicy::Hedged };
                OpKind::Get { range, strict: self.chance(15), policy }
            }
        }
    }

    fn len(&mut self) -> u32 {
        match self.rng.random_range(0..20) {
            0 => 0,
            1 => self.rng.random_range(1..64),
            _ => self.rng.random_range(1..=self.len_max),
        }
    }

    fn faults(&mut self, active: u64) -> Vec<FaultEvent> {
        let count = match self.rng.random_range(0..10) {
            0 => 0,
            1..=6 => self.rng.random_range(1..5),
            _ => self.rng.random_range(5..16),
        };
        let mut faults = Vec::with_capacity(count);
        for _ in 0..count {
            let at = self.rng.random_range(WARM..active.max(WARM + MS));
            let until = at + self.rng.random_range(5..800) * MS;
            let what = self.fault();
            faults.push(FaultEvent { at: Timestamp(at), until: Timestamp(until), what });
        }
        set_no_clock_back_where_versions_are_lost(&mut faults);
        faults.sort_by_key(|fault| (fault.at, fault.until));
        faults
    }

    fn fault(&mut self) -> FaultWhat {
        let member = self.rng.random_range(0..self.shape.members);
        let share_ppm = *[1_000_000, 300_000, 30_000].choose(&mut self.rng).unwrap_or(&1_000_000);
        match self.rng.random_range(0..20) {
            0..=4 => self.lossy_fault(share_ppm),
            5..=8 => {
                let shard = self.rng.random_range(0..self.shape.shards_per_member);
                let kind = match self.rng.random_range(0..4) {
                    0 => DeviceFault::Slow { factor: self.rng.random_range(2..200) },
                    1 => DeviceFault::Stall,
                    2 => DeviceFault::ReadErrors { share_ppm },
                    _ => DeviceFault::Full,
                };
                FaultWhat::Device { member, shard, kind }
            }
            9..=12 => self.link_fault(share_ppm),
            13 => FaultWhat::Stop { member },
            14 | 15 => FaultWhat::Kill { member },
            16 => FaultWhat::PowerLoss { member },
            17 => {
                let us = self.rng.random_range(-2_000_000..2_000_000);
                FaultWhat::ClockJump { member, us }
            }
            18 => FaultWhat::ClockDrift { member, ppm: self.rng.random_range(-200_000..200_000) },
            _ => FaultWhat::EpochBehind { member },
        }
    }

    /// A fault by which a device loses something.
    fn lossy_fault(&mut self, share_ppm: u32) -> FaultWhat {
        let kind = match self.rng.random_range(0..7) {
            0 => DeviceFault::BitRot { share_ppm },
            1 => DeviceFault::TornWrites { share_ppm },
            2 => DeviceFault::Misdirected { share_ppm },
            3 => DeviceFault::LostWrites { share_ppm },
            4 => DeviceFault::Vanish,
            5 => DeviceFault::WriteErrors { share_ppm },
            _ => DeviceFault::Replaced,
        };
        match self.frail.choose(&mut self.rng).copied() {
            Some((member, shard)) => FaultWhat::Device { member, shard, kind },
            // A code that bears no loss.
            None => FaultWhat::Device { member: 0, shard: 0, kind: DeviceFault::Stall },
        }
    }

    fn link_fault(&mut self, share_ppm: u32) -> FaultWhat {
        let from = self.rng.random_range(0..self.shape.members);
        let others = self.shape.members.max(2) - 1;
        let to = (from + self.rng.random_range(1..=others)) % self.shape.members;
        let kind = match self.rng.random_range(0..6) {
            0 => LinkFault::Delay { us: self.rng.random_range(100..50_000) },
            1 => LinkFault::Loss { share_ppm },
            2 => LinkFault::Duplicate { share_ppm },
            3 => LinkFault::Reorder { us: self.rng.random_range(100..20_000) },
            4 => LinkFault::Damage { share_ppm },
            _ => LinkFault::Cut,
        };
        FaultWhat::Link { from, to, kind }
    }

    /// Reads every key some times, from `calm_at` on.
    fn tail(&mut self, calm_at: Timestamp, ops: &mut Vec<ClientOp>) {
        let rounds = if self.chance(15) { READS_THAT_COMPLETE } else { ROUNDS_FEW };
        for round in 0..u64::from(rounds) {
            for key in 0..self.keys {
                let at = calm_at.0 + round * ROUND + u64::from(key) * MS;
                let kind = OpKind::Get { range: None, strict: false, policy: ReadPolicy::All };
                ops.push(self.op(at, key, kind, Duration::from_secs(2)));
            }
        }
    }
}

/// A member that forgets versions that it gave, and whose clock is set back, gives them again: nothing but
/// the clock keeps it from that, so its clock only jumps forward.
fn set_no_clock_back_where_versions_are_lost(faults: &mut [FaultEvent]) {
    let forgets = |what: FaultWhat| match what {
        FaultWhat::Kill { member }
        | FaultWhat::PowerLoss { member }
        | FaultWhat::Device { member, kind: DeviceFault::Replaced, .. } => Some(member),
        _ => None,
    };
    let forgetful: Vec<u8> = faults.iter().filter_map(|fault| forgets(fault.what)).collect();
    for fault in faults {
        if let FaultWhat::ClockJump { member, us } = &mut fault.what
            && forgetful.contains(member)
        {
            *us = us.abs();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::coverage::{Coverage, Kind};

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        assert_eq!(Plan::draw(7), Plan::draw(7));
        assert_ne!(Plan::draw(7).ops, Plan::draw(8).ops);
    }

    #[test]
    fn a_plan_is_in_order_and_ends_calm() {
        for seed in 0..200 {
            let plan = Plan::draw(seed);
            assert!(plan.ops.is_sorted_by_key(|op| op.at), "seed {seed}");
            assert!(plan.ops.is_sorted_by(|a, b| a.id < b.id), "seed {seed}");
            assert!(plan.faults.is_sorted_by_key(|fault| fault.at), "seed {seed}");
            assert!(plan.faults.iter().all(|f| f.at < f.until && f.until < plan.calm_at), "seed {seed}");
            let targets = usize::from(plan.shape.members) * usize::from(plan.shape.shards_per_member);
            assert!(targets >= plan.shape.code.n(), "seed {seed}");
        }
    }

    #[test]
    fn every_kind_of_fault_is_drawn_often() {
        let mut coverage = Coverage::default();
        for fault in (0..1_000).flat_map(|seed| Plan::draw(seed).faults) {
            coverage.fault(fault.what.kind());
        }
        for (name, count) in coverage.counts().take(Kind::ALL.len()) {
            assert!(count >= 20, "{name} was drawn {count} times in 1,000 plans");
        }
    }
}
