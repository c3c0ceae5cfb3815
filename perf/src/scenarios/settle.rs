//! Waiting until the device has done what it was given before: a virtual one goes on writing for a while after
//! the last write was flushed, and would be measured for what the preparation did.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::clock;
use crate::limit::device;

/// A probe reads so many blocks a second, for so long.
const PROBE_RATE: f64 = 2000.0;
const PROBE_SECONDS: f64 = 0.5;
/// The device is calm when 99 of 100 blocks take less than this in so many probes in a row.
const CALM_P99: Duration = Duration::from_millis(1);
const CALM_PROBES: usize = 4;
/// Longest wait: a device that is never calm is measured as it is.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Waits until the device of a file of `len` bytes is calm; says so if it took more than the probes themselves.
pub fn settle(path: &Path, len: u64) -> Result<()> {
    let begun = clock::now_ns();
    let elapsed = || Duration::from_nanos(clock::now_ns() - begun);
    let (mut calm, mut probes) = (0, 0);
    while calm < CALM_PROBES && elapsed() < SETTLE_MAX {
        let latency = device::reads_at(path, len, (device::BLOCK_LEN, 1), PROBE_RATE, PROBE_SECONDS)?;
        let is_calm = latency.value_at_quantile(0.99) < CALM_P99.as_nanos() as u64;
        calm = if is_calm { calm + 1 } else { 0 };
        probes += 1;
    }
    if calm < CALM_PROBES {
        eprintln!("  the device was not calm after {:.0} s", elapsed().as_secs_f64());
    } else if probes > CALM_PROBES {
        eprintln!("  the device was calm after {:.0} s", elapsed().as_secs_f64());
    }
    Ok(())
}
