//! The only clock of the engine.
#![allow(clippy::disallowed_methods)] // this module is where time comes from

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hedgerow_wire::time::{Now, Timestamp};

static START: OnceLock<Instant> = OnceLock::new();

/// Monotonic time of this process; the same clock on every core.
pub fn timestamp() -> Timestamp {
    let start = *START.get_or_init(Instant::now);
    // One, so that no real point in time is the zero that a default holds.
    Timestamp(start.elapsed().as_nanos() as u64 + 1)
}

/// Both clocks.
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now { mono: timestamp(), wall_us: wall.as_micros() as u64 }
}
