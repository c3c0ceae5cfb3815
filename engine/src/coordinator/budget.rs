//! Token buckets: what may be spent beyond what was asked for.

use hedgerow_wire::time::Timestamp;

/// Fixed point: so many units are one spare part read.
const UNIT: u64 = 1 << 20;

/// The hedging budget, in part reads: each part read earns a fraction of a spare one, up to a burst.
/// It starts full, so that a target that is slow from the first moment on can be noticed.
pub(super) struct HedgeBudget {
    units: u64,
    earn_units: u64,
    burst_units: u64,
}

impl HedgeBudget {
    /// `ratio` spares for each part read. With a ratio of 0 there is never a spare.
    pub(super) fn new(ratio: f64, burst: u32) -> HedgeBudget {
        let earn_units = (ratio.clamp(0.0, 1.0) * UNIT as f64) as u64;
        let burst_units = if earn_units == 0 { 0 } else { u64::from(burst) * UNIT };
        HedgeBudget { units: burst_units, earn_units, burst_units }
    }

    /// A part read was asked for.
    pub(super) fn earn(&mut self) {
        self.units = (self.units + self.earn_units).min(self.burst_units);
    }

    /// Takes `count` spares, or none.
    pub(super) fn take(&mut self, count: usize) -> bool {
        let cost = count as u64 * UNIT;
        let enough = self.units >= cost;
        if enough {
            self.units -= cost;
        }
        enough
    }
}

/// A byte budget that fills with time. It may be overdrawn once; then it has to fill again.
pub(super) struct ByteBudget {
    bytes: i64,
    bytes_per_s: u64,
    burst_bytes: i64,
    filled_at: Timestamp,
}

impl ByteBudget {
    pub(super) fn new(bytes_per_s: u64, burst_bytes: u64) -> ByteBudget {
        let burst_bytes = i64::try_from(burst_bytes).unwrap_or(i64::MAX);
        ByteBudget { bytes: burst_bytes, bytes_per_s, burst_bytes, filled_at: Timestamp(0) }
    }

    /// Whether anything may be spent now.
    pub(super) fn open(&mut self, now: Timestamp) -> bool {
        let earned = u128::from(self.bytes_per_s) * now.since(self.filled_at).as_nanos() / 1_000_000_000;
        if earned > 0 {
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.bytes = self.bytes.saturating_add(earned).min(self.burst_bytes);
            self.filled_at = now;
        }
        self.bytes > 0
    }

    /// Spends `bytes`, whatever is left.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Gives back `bytes` that were spent, and not used.
    pub(super) fn refund(&mut self, bytes: u64) {
        let back = self.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.bytes = back.min(self.burst_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_all_part_reads_may_be_spares() {
        let mut budget = HedgeBudget::new(0.1, 4);
        assert!(budget.take(4));
        assert!(!budget.take(1));
        let spares = (0..1000).filter(|_| {
            budget.earn();
            budget.take(1)
        });
        assert!((99..=100).contains(&spares.count()));
    }

    #[test]
    fn a_burst_is_all_that_is_saved_up() {
        let mut budget = HedgeBudget::new(0.5, 3);
        (0..1000).for_each(|_| budget.earn());
        assert!(!budget.take(4));
        assert!(budget.take(3));
        assert!(!budget.take(1));
    }

    #[test]
    fn no_ratio_no_spares() {
        let mut budget = HedgeBudget::new(0.0, 100);
        budget.earn();
        assert!(!budget.take(1));
    }

    #[test]
    fn bytes_come_back_with_time() {
        let mut budget = ByteBudget::new(1000, 500);
        let second = |s: f64| Timestamp((s * 1e9) as u64);
        assert!(budget.open(second(0.0)));
        budget.spend(1500);
        assert!(!budget.open(second(0.5)));
        assert!(!budget.open(second(0.99)));
        assert!(budget.open(second(1.01)));
        budget.spend(10);
        assert!(budget.open(second(100.0)));
        budget.spend(499);
        assert!(budget.open(second(100.0)));
        budget.spend(1);
        assert!(!budget.open(second(100.0)));
    }
}
