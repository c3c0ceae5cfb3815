//! Faults that an administrator injects into a shard, for tests of services that must live with them.
//! A fault changes what the device appears to do; everything above it is the product.

use std::time::Duration;

use hedgerow_wire::time::Timestamp;

/// What a faulty device does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// Every operation takes so much longer, in microseconds.
    DelayUs(u64),
    /// Operations wait until the fault ends.
    Stall,
    /// Operations fail.
    Error,
    /// Reads give bytes with one bit wrong.
    Damage,
    /// Writes fail as on a full device.
    Full,
    /// Operations never come back.
    Vanish,
}

/// One injected fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Number to clear it by.
    pub id: u64,
    /// What it does.
    pub kind: FaultKind,
    /// Share of operations that it hits, in parts per million.
    pub share_ppm: u32,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// What is to happen to one device operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Wait so long first.
    pub delay: Duration,
    /// Then fail with this code of the operating system.
    pub error: Option<i32>,
    /// Flip a bit of what was read.
    pub damage: bool,
    /// Never complete.
    pub vanish: bool,
}

/// The faults of one shard.
#[derive(Default)]
pub struct Faults {
    active: Vec<Fault>,
    /// Operations that a fault has hit.
    pub hits: u64,
    sequence: u64,
}

impl Faults {
    /// Injects a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.active.push(fault);
    }

    /// Ends the fault with this number, or all of them. Returns how many ended.
    pub fn clear(&mut self, id: Option<u64>) -> usize {
        let before = self.active.len();
        self.active.retain(|fault| id.is_some_and(|id| fault.id != id));
        before - self.active.len()
    }

    /// The faults that have not ended at `now`.
    pub fn list(&mut self, now: Timestamp) -> &[Fault] {
        self.active.retain(|fault| fault.until > now);
        &self.active
    }

    /// What is to happen to the next operation.
    pub fn judge(&mut self, write: bool, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        if self.active.is_empty() {
            return verdict;
        }
        self.active.retain(|fault| fault.until > now);
        for fault in &self.active {
            self.sequence += 1;
            // A low-discrepancy sequence: the share holds over any run of operations.
            let draw = ((self.sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * 1_000_000) >> 32;
            if draw >= u64::from(fault.share_ppm) {
                continue;
            }
            self.hits += 1;
            match fault.kind {
                FaultKind::DelayUs(us) => verdict.delay += Duration::from_micros(us),
                FaultKind::Stall => verdict.delay = verdict.delay.max(fault.until.since(now)),
                FaultKind::Error => verdict.error = Some(libc::EIO),
                FaultKind::Full if write => verdict.error = Some(libc::ENOSPC),
                FaultKind::Damage if !write => verdict.damage = true,
                FaultKind::Vanish => verdict.vanish = true,
                FaultKind::Full | FaultKind::Damage => {}
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(kind: FaultKind, share_ppm: u32) -> Faults {
        let mut faults = Faults::default();
        faults.inject(Fault { id: 1, kind, share_ppm, until: Timestamp(1000) });
        faults
    }

    #[test]
    fn each_kind_does_what_it_says_until_it_ends() {
        let none = Verdict::default();
        let cases = [
            (FaultKind::DelayUs(7), false, Verdict { delay: Duration::from_micros(7), ..none }),
            (FaultKind::Stall, false, Verdict { delay: Duration::from_nanos(900), ..none }),
            (FaultKind::Error, true, Verdict { error: Some(libc::EIO), ..none }),
            (FaultKind::Damage, false, Verdict { damage: true, ..none }),
            (FaultKind::Damage, true, none),
            (FaultKind::Full, true, Verdict { error: Some(libc::ENOSPC), ..none }),
            (FaultKind::Full, false, none),
            (FaultKind::Vanish, false, Verdict { vanish: true, ..none }),
        ];
        for (kind, write, expected) in cases {
            let mut faults = faults(kind, 1_000_000);
            assert_eq!(faults.judge(write, Timestamp(100)), expected, "{kind:?}");
            assert_eq!(faults.judge(write, Timestamp(1000)), none, "{kind:?} after its end");
        }
    }

    #[test]
    fn a_share_is_kept() {
        let mut faults = faults(FaultKind::Damage, 10_000);
        let hit = (0..100_000).filter(|_| faults.judge(false, Timestamp(0)).damage).count();
        assert!((900..=1100).contains(&hit), "{hit} of 100000 at 1 %");
    }

    #[test]
    fn cleared_by_number_or_all() {
        let mut faults = faults(FaultKind::Error, 1_000_000);
        faults.inject(Fault { id: 2, kind: FaultKind::Damage, share_ppm: 1_000_000, until: Timestamp(1000) });
        assert_eq!(faults.clear(Some(3)), 0);
        assert_eq!(faults.clear(Some(1)), 1);
        assert_eq!(faults.list(Timestamp(0)).len(), 1);
        assert_eq!(faults.clear(None), 1);
    }
}
