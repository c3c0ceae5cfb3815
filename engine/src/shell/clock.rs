//! The only clock of the engine.
#![allow(clippy::disallowed_methods)] // this module is where time comes from

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hedgerow_wire::time::{Now, Timestamp};

/// The clock when it was first asked, and the cycle counter then.
static START: OnceLock<(Instant, u64)> = OnceLock::new();

/// Monotonic time of this process; the same clock on every core.
pub fn timestamp() -> Timestamp {
    let (start, _) = *START.get_or_init(|| (Instant::now(), cycles()));
    // One, so that no real point in time is the zero that a default holds.
    Timestamp(start.elapsed().as_nanos() as u64 + 1)
}

/// Both clocks.
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now { mono: timestamp(), wall_us: wall.as_micros() as u64 }
}

/// A counter that runs evenly, much cheaper to read than a clock. For stage counters only.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and Linux does not keep it from processes.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }
}

/// Length of a cycle of [`cycles`] in nanoseconds, over the time since the clock was first asked.
pub fn ns_per_cycle() -> f64 {
    let ns = timestamp().0 as f64;
    let first = START.get().map_or(0, |(_, first)| *first);
    ns / cycles().wrapping_sub(first).max(1) as f64
}

/// Processor time of the calling thread, the kernel's share included.
pub fn thread_cpu_ns() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}
