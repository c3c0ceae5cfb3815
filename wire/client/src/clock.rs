//! The one place where the client reads a clock.

use std::time::Duration;

use tokio::time::Instant;

/// Now, on the runtime's monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What is left until `deadline` for the header of a frame, in microseconds; nothing once it is over.
pub(crate) fn budget_us(deadline: Instant, now: Instant) -> Option<u32> {
    let left = deadline.saturating_duration_since(now).min(crate::limits::DEADLINE_MAX);
    let left_us = left.as_micros() as u32;
    (left_us > 0).then_some(left_us)
}

/// `ms` of a frame's time to live: 0 is for ever.
pub(crate) fn ttl_of_ms(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}
