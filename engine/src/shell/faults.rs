//! Faults that an administrator injects, for tests of services that must live with them. A fault changes what a
//! shard's device appears to do, or what becomes of the answers on a connection; everything between is the product.

use std::time::Duration;

use hedgerow_wire::messages::{Fault, FaultKind};
use hedgerow_wire::time::Timestamp;

mod answers;
mod operations;
pub mod requests;

pub use answers::{FrameOf, Struck};
pub use operations::perform;

/// A fault that was injected.
#[derive(Clone, Copy, Debug)]
pub struct Injected {
    /// Number to clear it by.
    pub id: u64,
    /// What it is.
    pub fault: Fault,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Operations, or answers, that it has struck.
    pub hits: u64,
}

/// The faults of one shard, or those of one core's connections.
#[derive(Default)]
pub struct Faults {
    active: Vec<Injected>,
    /// What faults have struck, those that have ended included.
    hits: u64,
    /// What was drawn so far.
    draws: u64,
}

impl Faults {
    /// Injects a fault.
    pub fn inject(&mut self, fault: Injected) {
        self.active.push(fault);
    }

    /// Ends the fault with this number, or all of them.
    pub fn clear(&mut self, id: Option<u64>) {
        self.active.retain(|injected| id.is_some_and(|id| injected.id != id));
    }

    /// The faults that have not ended at `now`.
    pub fn list(&mut self, now: Timestamp) -> &[Injected] {
        self.active.retain(|injected| injected.until > now);
        &self.active
    }

    /// Whether there may be any.
    pub fn any(&self) -> bool {
        !self.active.is_empty()
    }

    /// What faults have struck, those that have ended included.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Shows `strike` each fault that has not ended at `now`, with a number that is another one each time, and takes
    /// note of those of which it says that they have struck.
    fn each(&mut self, now: Timestamp, mut strike: impl FnMut(&Injected, u64) -> bool) {
        self.active.retain(|injected| injected.until > now);
        for injected in &mut self.active {
            self.draws += 1;
            let struck = strike(injected, self.draws);
            injected.hits += u64::from(struck);
            self.hits += u64::from(struck);
        }
    }
}

impl Injected {
    /// Whether it strikes what has this number. Numbers in a row are a low-discrepancy sequence: the share holds
    /// over any run of them.
    fn strikes(&self, number: u64) -> bool {
        let draw = ((number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * 1_000_000) >> 32;
        draw < u64::from(self.fault.share_ppm)
    }

    /// How much longer what begins at `now` takes that has waited `waits` already, with `random` to draw from.
    fn prolong(&self, waits: Duration, now: Timestamp, random: u64) -> Duration {
        match self.fault.kind {
            FaultKind::Delay { delay_us } => waits + Duration::from_micros(u64::from(delay_us)),
            FaultKind::DelayExponential { mean_us } => {
                waits + Duration::from_micros(u64::from(mean_us)).mul_f64(-unit(random).ln())
            }
            FaultKind::DelayUniform { min_us, max_us } => {
                let more_us = f64::from(max_us - min_us) * unit(random);
                waits + Duration::from_micros(u64::from(min_us) + more_us as u64)
            }
            FaultKind::Stall { .. } => waits.max(self.until.since(now)),
            _ => waits,
        }
    }
}

/// A number that looks drawn at random, from any number (SplitMix64).
fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// More than 0, and at most 1.
fn unit(random: u64) -> f64 {
    ((random >> 11) + 1) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use hedgerow_wire::messages::FaultPlace;

    use super::*;

    pub fn injected(kind: FaultKind, share_ppm: u32) -> Injected {
        let fault = Fault { place: FaultPlace::Connections, kind, share_ppm, duration_ms: 1 };
        Injected { id: 1, fault, until: Timestamp(1000), hits: 0 }
    }

    #[test]
    fn cleared_by_number_or_all_and_ended_by_time() {
        let mut faults = Faults::default();
        let error = injected(FaultKind::Error, 1_000_000);
        faults.inject(error);
        faults.inject(Injected { id: 2, until: Timestamp(2000), ..error });
        faults.clear(Some(3));
        assert_eq!(faults.list(Timestamp(0)).len(), 2);
        assert_eq!(faults.list(Timestamp(1000)).len(), 1);
        faults.inject(error);
        faults.clear(Some(2));
        assert_eq!(faults.list(Timestamp(0)).iter().map(|known| known.id).collect::<Vec<_>>(), [1]);
        faults.clear(None);
        assert!(!faults.any());
    }

    #[test]
    fn a_share_is_kept() {
        let fault = injected(FaultKind::Damage, 10_000);
        let struck = (0..100_000).filter(|&number| fault.strikes(number)).count();
        assert!((900..=1100).contains(&struck), "{struck} of 100000 at 1 %");
    }

    /// Mean, and quantiles at 10 %, 50 % and 90 %, of 10,000 delays of a kind, in microseconds.
    fn delays(kind: FaultKind) -> (f64, [f64; 3]) {
        let fault = injected(kind, 1_000_000);
        let delay = |number| fault.prolong(Duration::ZERO, Timestamp(0), mix(number)).as_nanos() as f64 / 1e3;
        let mut drawn: Vec<f64> = (1..=10_000).map(delay).collect();
        drawn.sort_by(f64::total_cmp);
        (drawn.iter().sum::<f64>() / 1e4, [1000, 5000, 9000].map(|place: usize| drawn[place]))
    }

    #[test]
    fn delays_are_of_their_distribution() {
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < expected * 0.06, "{found} instead of {expected}");
        };
        let (mean, quantiles) = delays(FaultKind::DelayExponential { mean_us: 1000 });
        near(mean, 1000.0);
        // -ln(1 - q) times the mean.
        quantiles.into_iter().zip([105.4, 693.1, 2302.6]).for_each(|(found, expected)| near(found, expected));
        let (mean, quantiles) = delays(FaultKind::DelayUniform { min_us: 100, max_us: 300 });
        near(mean, 200.0);
        quantiles.into_iter().zip([120.0, 200.0, 280.0]).for_each(|(found, expected)| near(found, expected));
        let (mean, quantiles) = delays(FaultKind::Delay { delay_us: 7 });
        assert_eq!((mean.round(), quantiles), (7.0, [7.0; 3]));
    }
}
