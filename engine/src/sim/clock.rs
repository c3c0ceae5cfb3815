//! The clocks of a member: the monotonic one is right, the wall clock drifts and jumps.

use hedgerow_wire::time::{Now, Timestamp};

/// The wall clock at which worlds begin, in microseconds since the Unix epoch.
pub(super) const START_US: u64 = 1_700_000_000_000_000;

/// A member's wall clock, as a line over the monotonic clock.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    /// A point of the line.
    at: Timestamp,
    wall_us: i64,
    /// How much faster than it should it runs, in millionths.
    drift_ppm: i64,
}

impl Clock {
    /// A clock that is `ahead_us` ahead of the true time.
    pub(super) fn new(ahead_us: i64) -> Clock {
        Clock { at: Timestamp(0), wall_us: START_US as i64 + ahead_us, drift_ppm: 0 }
    }

    /// Both clocks.
    pub(super) fn now(&self, mono: Timestamp) -> Now {
        let ns = i128::from(mono.0) - i128::from(self.at.0);
        let us = ns * i128::from(1_000_000 + self.drift_ppm) / 1_000_000_000;
        Now { mono, wall_us: (i128::from(self.wall_us) + us) as u64 }
    }

    /// Jumps by so much.
    pub(super) fn jump(&mut self, us: i64) {
        self.wall_us += us;
    }

    /// From `mono` on it runs so many millionths too fast.
    pub(super) fn drift(&mut self, ppm: i64, mono: Timestamp) {
        self.wall_us = self.now(mono).wall_us as i64;
        self.at = mono;
        self.drift_ppm = ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_drifts_and_jumps() {
        let mut clock = Clock::new(5);
        let second = Timestamp(1_000_000_000);
        assert_eq!(clock.now(second).wall_us, START_US + 1_000_005);
        clock.drift(-500_000, second);
        clock.jump(-7);
        let later = clock.now(Timestamp(3_000_000_000));
        assert_eq!(later.wall_us, START_US + 1_000_005 + 1_000_000 - 7);
        assert_eq!(later.mono, Timestamp(3_000_000_000));
    }
}
