//! The clocks of a measurement: monotonic time, and processor time of a thread.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Monotonic time in nanoseconds.
pub fn now_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// Processor time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// Sleeps.
#[allow(clippy::disallowed_methods)] // a measurement waits for other processes
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
